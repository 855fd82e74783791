"""Alerts are judged by the defaults that followed them."""

from __future__ import annotations

from stream.comparison.alerts import DAY_MS
from stream.comparison.outcomes import Outcomes


def seen(*scores: tuple[str, int, float | None, str | None]) -> Outcomes:
    """Scores by user, day, days past due and status."""
    found = Outcomes(delinquency_days=90)
    for user_id, day, days_past_due, status in scores:
        found.add(user_id, day * DAY_MS, days_past_due, status)
    return found


def judged(found: Outcomes, opened: dict[str, list[int]], end: int = 1_000) -> dict[str, float | None]:
    in_ms = {user_id: [day * DAY_MS for day in days] for user_id, days in opened.items()}
    return found.confusion(in_ms, 90, 0, end * DAY_MS).as_report()


def test_an_alert_is_right_wrong_or_not_known_yet() -> None:
    found = seen(
        ("defaults", 10, 0.0, None), ("defaults", 100, 95.0, None), ("defaults", 200, 120.0, None),
        ("pays", 10, 0.0, None), ("pays", 150, None, "performing"),
        ("new", 10, 0.0, None), ("new", 60, 0.0, None),
    )  # fmt: skip
    report = judged(found, {"defaults": [5, 30, 110], "pays": [20], "new": [15], "nobody": [1]})
    assert report == {
        "defaults": 1, "warned": 1, "missed": 0, "right": 1, "wrong": 2, "after_default": 1, "not_known": 1,
        "precision": 1 / 3, "recall": 1.0, "median_lead_days": 70.0,
    }  # fmt: skip


def test_a_default_without_an_alert_is_missed() -> None:
    found = seen(("a", 100, 90.0, None), ("b", 50, 20.0, "written_off"), ("c", 5, 89.9, "serious"))
    report = judged(found, {"a": [9, 100]})
    assert (report["defaults"], report["missed"], report["recall"]) == (2, 2, 0.0)
    assert judged(found, {}, end=60)["defaults"] == 1, "only those in the range"


def test_the_default_date_is_the_first_whatever_the_order() -> None:
    found = seen(("a", 100, 95.0, None), ("a", 60, 91.0, None), ("a", 120, 0.0, None))
    assert judged(found, {"a": [30, 70]})["median_lead_days"] == 30.0
