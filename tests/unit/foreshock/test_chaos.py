"""What the `chaos` command says of its runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.chaos.plan import Plan
from foreshock.chaos import _key, _kinds, _line, _so_far, _write


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
    assert "WRONG nothing, ended without a word" in _line(
        6, outcome() | {"right": False, "unexplained": ["worker-0: …"]}
    )


def test_a_fault_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert _kinds(" kill, broker_frozen,") == ("kill", "broker_frozen")
    with pytest.raises(typer.Exit) as ended:
        _kinds("kill,earthquake")
    assert ended.value.exit_code == 2
    assert "earthquake is none of kill, freeze" in capsys.readouterr().err


def test_a_report_keeps_the_runs_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "chaos.json"
    assert _so_far(path) == []
    plans = [Plan.of(seed, 300) for seed in (1, 2)]
    _write(path, [outcome() | {"plan": asdict(plan)} for plan in plans])
    found = _so_far(path)
    assert [_key(one["plan"]) for one in found] == [_key(plan) for plan in plans]
    assert _key(Plan.of(1, 300, ("kill",))) not in [_key(one["plan"]) for one in found]
    path.write_text('{"bench": "throughput"}')
    with pytest.raises(typer.Exit):
        _so_far(path)
