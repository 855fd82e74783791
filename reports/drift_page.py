"""The drift report as one page of HTML. Only chooses and draws; the figures are `reports.drift`'s."""

from __future__ import annotations

from markupsafe import Markup

from model.evaluation.drift import Stability
from model.presentation.charts import Estimate, calibration, columns, estimates
from model.statistics.resampling import Interval
from reports.drift import DriftReport
from reports.pages import UNKNOWN, render

MOST_DISTRIBUTIONS = 12
"""Most distributions that the page draws: the score, then those that moved most for their sample size."""


def page(report: DriftReport) -> str:
    """The whole page."""
    return render(
        "drift",
        title=f"Drift of {report.model} {report.fingerprint}",
        report=report,
        verdict=_verdict(report),
        distributions=_distributions(report),
        calibration=_calibration(report),
        rankings=_rankings(report),
        interval=_interval,
    )


def _verdict(report: DriftReport) -> str:
    shifted = len(report.shifted)
    stability = f"{shifted} of {len(report.stability)} variables shifted" if shifted else "No variable shifted"
    if report.calibration.p_value is None:
        return f"{stability}; no matured score to judge calibration by"
    return f"{stability}; {'calibration has moved' if report.miscalibrated else 'calibration holds'}"


def _distributions(report: DriftReport) -> list[Markup]:
    def rank(each: Stability) -> tuple[bool, float]:
        return each.name != "score", -(each.psi or 0.0) / (each.critical or 1.0)

    drawn = sorted(report.stability, key=rank)[:MOST_DISTRIBUTIONS]
    return [
        Markup(columns(each.name, shape.labels, {"reference": shape.reference, "recent": shape.recent}))
        for each in drawn
        if (shape := report.shapes.get(each.name)) is not None
    ]


def _calibration(report: DriftReport) -> Markup:
    points = [
        (band.expected, Estimate("", band.observed, band.observed_low, band.observed_high))
        for band in report.calibration.bands
    ]
    return Markup(calibration("Mean score and what came true", points))


def _rankings(report: DriftReport) -> list[Markup]:
    return [
        Markup(estimates(name, [Estimate(each.month, *getattr(each, field)) for each in report.performance]))
        for name, field in (("AUC", "auc"), ("PR-AUC", "pr_auc"), ("KS", "ks"))
    ]


def _interval(found: Interval) -> str:
    if found.value is None:
        return UNKNOWN
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"
