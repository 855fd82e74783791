"""What the `chaos` command says of its runs."""

from __future__ import annotations

from typing import Any

from foreshock.chaos import _line


def outcome(*, lost: int = 0, settled: bool = True) -> dict[str, Any]:
    verdict = {"inputs": 1_200, "scores": 1_190, "alerts": 12, "lost": lost, "twice": 0, "wrong_scores": 0}
    disturbances = {"kills": 4, "freezes": 1}
    return {
        "verdict": verdict,
        "disturbances": disturbances,
        "settled": settled,
        "right": settled and not lost,
        "seconds": 17.2,
    }


def test_a_run_that_is_right_says_how_much_it_was() -> None:
    assert _line(3, outcome()) == ("seed 3: right; 1,200 inputs, 1,190 scores, 12 alerts; 1 freezes, 4 kills; 17 s")


def test_a_run_that_is_wrong_says_what_is() -> None:
    assert "seed 4: WRONG 2 lost;" in _line(4, outcome(lost=2))
    assert "WRONG nothing, lag stayed" in _line(5, outcome(settled=False))
