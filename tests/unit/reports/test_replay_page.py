"""The page of a replay's diff shows its figures, stands alone, and escapes what comes from outside."""

from __future__ import annotations

import datetime as dt

from reports.replay_page import MOST_ALERTS, page
from stream.comparison.alerts import Opening, ShiftedAlert
from stream.comparison.outcomes import Confusion
from stream.published_outputs import Comparison, Scope
from stream.replay.diff import ReplayDiff

SINCE, UNTIL = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 4, 1, tzinfo=dt.UTC)
DAY_MS = 86_400_000


def compared() -> Comparison:
    found = Comparison(
        Scope(), fields=("marital_status",), users=10, first_ms=0, last_ms=90 * DAY_MS, identical=1, moved=1
    )
    found.scores.add([0.1, 0.4], [0.1, 0.6], ["LOW", "MEDIUM"], ["LOW", "HIGH"],
                     {"product": ["<b>cards</b>", "auto"], "marital_status": ["single", "married"]})  # fmt: skip
    early, late = Opening(DAY_MS, "HIGH"), Opening(3 * DAY_MS, "HIGH")
    found.moved_alerts = [(f"<u{number}>", ShiftedAlert("earlier", late, early)) for number in range(MOST_ALERTS + 2)]
    found.alerts.add("u", {"product": "auto", "marital_status": "married"}, [shift for _, shift in found.moved_alerts])
    found.live_confusion = Confusion(defaults=3, warned=1, right=1, wrong=2)
    found.other_confusion = Confusion(defaults=3, warned=2, right=2, wrong=2, not_known=1)
    return found


def test_the_page_shows_what_differs_and_can_be_mailed() -> None:
    text = page("spring", SINCE, UNTIL, ReplayDiff.of(compared()))
    assert "Something differs." in text
    assert "Replay spring" in text
    assert "2 more are not shown." in text
    assert text.count("&lt;u") == MOST_ALERTS
    assert "<u0>" not in text
    assert "&lt;b&gt;cards" in text
    assert "<h2>By product</h2>" in text
    assert "<h2>By marital status</h2>" in text
    assert "<td>married</td>" in text
    assert "0.667" in text, "recall of the replay"
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_where_nothing_differs_it_says_so() -> None:
    same = Comparison(Scope())
    text = page("same", SINCE, UNTIL, ReplayDiff.of(same))
    assert "Nothing differs." in text
    assert "0 opened" not in text
