"""A drift report made by hand: every kind of figure known and unknown, and names that would break a page."""

from __future__ import annotations

import datetime as dt

import pytest

from model.evaluation.drift import Band, CalibrationDrift, MonthOfScores, Stability
from model.statistics.resampling import Interval
from reports.drift import DriftReport, Shape

NASTY = "<script>alert(\"x\")</script> & [red]'quoted'[/red]"


@pytest.fixture
def nasty() -> str:
    """Text that would break a page or a terminal that takes it for markup."""
    return NASTY


@pytest.fixture
def drift_report() -> DriftReport:
    until = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    known = Interval(0.81, 0.74, 0.87)
    return DriftReport(
        model=NASTY,
        fingerprint="0123456789abcdef",
        source=NASTY,
        horizon_days=90,
        since=until - dt.timedelta(days=30),
        until=until,
        reference=NASTY,
        stability=[
            Stability("score", 1_000, 900, 10, 0.02, 0.05, 0.4, 0.8, "stable"),
            Stability(NASTY, 1_000, 900, 10, 0.31, 0.05, 0.0001, 0.0003, "large"),
            Stability("profiles.product", 3, 2, 1, None, None, None, None, "too few"),
        ],
        calibration=CalibrationDrift(
            4_000, 1_200, 40.0, 80, 6.2, 0.0001, (Band(0.0, 0.05, 3_000, 0.01, 0.02, 0.015, 0.027),)
        ),
        performance=[
            MonthOfScores("2023-10", 1_000, 20, 10.5, known, known, known),
            MonthOfScores("2023-11", 10, 0, 0.1, *[Interval(None, None, None)] * 3),
            MonthOfScores("2023-12", 90, 1, 0.9, *[Interval(0.5, None, None)] * 3),
        ],
        alert_rate=41.25,
        alert_budget=40.0,
        shapes={
            "score": Shape(["≤ 0.1", "> 0.1"], [0.9, 0.1], [0.8, 0.2]),
            NASTY: Shape([NASTY, "missing"], [1.0, 0.0], [0.5, 0.5]),
        },
    )
