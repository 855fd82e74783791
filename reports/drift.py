"""The drift of a model in use as one report, which `foreshock drift` shows, writes as a page and exports as metrics.

Made from a source and a bundle (inputs, scores and outcomes) or from PostgreSQL (scores and outcomes, for the tables
hold no inputs). The statistics are those of `model.evaluation.drift`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.bundle import Bundle
from model.evaluation.drift import (
    ALPHA,
    CalibrationDrift,
    MonthOfScores,
    Stability,
    calibration_drift,
    compared,
    performance,
)
from model.evaluation.drift_reference import (
    SCORE,
    Distribution,
    DriftReference,
    Sample,
    counts_of,
    draw_sample,
    drift_reference_of,
    read_drift_reference,
    reference_counts,
)
from model.evaluation.panel import Panel, label_panel, monthly_panel
from model.evaluation.scored_source import ScoredSource
from model.evaluation.thresholds import MONTH_MS, alert_rate
from model.histories.labels import known_by
from reports.monitoring import MonitoredScores, read_monitored
from stream.database.connection import DatabaseConnection

DAYS_PAST_DUE = "days_past_due"


class DriftError(ValueError):
    """There is nothing to compare; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Period:
    """What is compared: the last `window_days` before `until` against the bundle's reference, or against the
    `reference_days` before the window where the bundle has none or `from_data` asks for it. Calibration and ranking
    take the last `months` months of matured scores."""

    window_days: float = 30.0
    reference_days: float = 90.0
    months: int = 6
    until: dt.datetime | None = None
    from_data: bool = False


@dataclass(frozen=True)
class Shape:
    """Shares (0–1) of users by bin, for a picture."""

    labels: list[str]
    reference: list[float]
    recent: list[float]


@dataclass(frozen=True)
class DriftReport:
    """The results of one comparison. Times are event times.

    `reference` says in words what the recent window is compared with. `alert_rate` counts alerts per 1,000 users and 30
    days in the window; the bundle's MEDIUM threshold was set for `alert_budget` of them.
    """

    model: str
    fingerprint: str
    source: str
    horizon_days: int
    since: dt.datetime
    until: dt.datetime
    reference: str
    stability: list[Stability]
    calibration: CalibrationDrift
    performance: list[MonthOfScores]
    alert_rate: float | None
    alert_budget: float
    alpha: float = ALPHA
    shapes: dict[str, Shape] = field(default_factory=dict)

    @property
    def shifted(self) -> list[Stability]:
        """Variables whose distribution is not what it was."""
        return [each for each in self.stability if each.verdict not in ("stable", "too few")]

    @property
    def miscalibrated(self) -> bool:
        """Whether the number of defaults would be unlikely if the scores were right."""
        return self.calibration.p_value is not None and self.calibration.p_value < self.alpha


def drift_of_source(source: ScoredSource, period: Period) -> DriftReport:
    """Compare the last days of a scored source. Raises `DriftError` when the window or its reference is empty."""
    bundle, sequences = source.bundle, source.sequences
    times = sequences.times_ms
    until_ms = int(times.max()) + 1 if period.until is None else round(period.until.timestamp() * 1000)
    since_ms = until_ms - round(period.window_days * DAY_MS)
    truth = known_by(source.truth, until_ms) if period.until else source.truth
    in_window = (times >= since_ms) & (times < until_ms)
    recent = draw_sample(sequences, in_window, source.headline, truth, seed=1)
    reference = None if period.from_data else read_drift_reference(bundle)
    if reference is None:
        begin_ms = since_ms - round(period.reference_days * DAY_MS)
        before = draw_sample(sequences, (times >= begin_ms) & (times < since_ms), source.headline, truth)
        taken_from = f"the {period.reference_days:g} days before the window"
        reference = drift_reference_of(before, bundle.vocabularies, taken_from, bundle.fingerprint_hex)
    _check(recent.users, reference.users, period)
    panel = source.panel() if period.until is None else _panel_until(source, until_ms)
    owner = sequences.user_of_event
    at_risk = in_window & (times < truth.default_date_ms[owner])
    if source.judged is not None:
        # The budget was met on the events at which the question is asked.
        at_risk &= source.judged
    rate = alert_rate(times[at_risk], owner[at_risk], source.headline[at_risk], bundle.thresholds.medium)
    return _report(bundle, source.name, (since_ms, until_ms), reference, recent, panel.latest(period.months), rate)


def drift_of_database(database: DatabaseConnection, bundle: Bundle, period: Period) -> DriftReport:
    """Compare the scores that a sink has written. Raises `DriftError` as `drift_of_source`, `DatabaseError`."""
    found = read_monitored(
        database,
        bundle.fingerprint_hex,
        horizon_days=bundle.horizons_days[bundle.headline],
        delinquency_days=bundle.manifest.delinquency_days,
        window_days=period.window_days,
        reference_days=period.reference_days,
        months=period.months,
        until=period.until,
    )
    until_ms = round(found.until.timestamp() * 1000)
    since_ms = until_ms - round(period.window_days * DAY_MS)
    recent = _database_sample(found.recent.scores, found.recent.days_past_due, since_ms, until_ms)
    reference = _database_reference(bundle, found, period, since_ms)
    _check(recent.users, reference.users, period)
    per_month = 1000.0 * found.opened / recent.users * MONTH_MS / (until_ms - since_ms)
    return _report(bundle, database.address, (since_ms, until_ms), reference, recent, found.matured, per_month)


def _database_reference(bundle: Bundle, found: MonitoredScores, period: Period, since_ms: int) -> DriftReference:
    """Days past due always against the days before, the score against the bundle's reference where there is one."""
    begin_ms = since_ms - round(period.reference_days * DAY_MS)
    before = _database_sample(found.before.scores, found.before.days_past_due, begin_ms, since_ms)
    taken_from = f"the {period.reference_days:g} days before the window"
    own = drift_reference_of(before, bundle.vocabularies, taken_from, bundle.fingerprint_hex)
    kept = None if period.from_data else read_drift_reference(bundle)
    if kept is None or SCORE not in kept.distributions:
        return own
    return DriftReference(
        bundle=own.bundle,
        taken_from=f"{kept.taken_from}; days past due: {taken_from}",
        users=max(kept.users, own.users),
        from_ms=kept.from_ms,
        until_ms=kept.until_ms,
        distributions={**own.distributions, SCORE: kept.distributions[SCORE]},
    )


def _database_sample(
    scores: NDArray[np.float64], days_past_due: NDArray[np.float64], from_ms: int, until_ms: int
) -> Sample:
    return Sample(len(scores), from_ms, until_ms, {SCORE: scores, DAYS_PAST_DUE: days_past_due})


def _panel_until(source: ScoredSource, until_ms: int) -> Panel:
    """Scores whose horizon had passed at `until_ms`, by what was known then."""
    bundle, sequences = source.bundle, source.sequences
    if len(label_panel(bundle, sequences, source.headline, source.outcomes)):
        raise DriftError(f"{source.name} has one label per client, of no date; leave --until out")
    counted = ~np.isnan(source.headline) & (sequences.times_ms < until_ms)
    rows = np.flatnonzero(counted if source.judged is None else counted & source.judged)
    return monthly_panel(
        sequences.times_ms[rows],
        sequences.user_of_event[rows],
        source.headline[rows],
        known_by(source.truth, until_ms),
        bundle.horizons_days[bundle.headline],
    )


def _check(recent: int, reference: int, period: Period) -> None:
    if not recent:
        raise DriftError(f"no user has a score in the last {period.window_days:g} days; raise --window-days")
    if not reference:
        raise DriftError(
            f"the bundle has no reference and the {period.reference_days:g} days before the window have no scores; "
            "take one with `foreshock reference`, or raise --reference-days"
        )


def _report(
    bundle: Bundle,
    source: str,
    window_ms: tuple[int, int],
    reference: DriftReference,
    recent: Sample,
    panel: Panel,
    rate: float | None,
) -> DriftReport:
    before, after = reference_counts(reference), counts_of(recent, reference)
    since, until = (dt.datetime.fromtimestamp(moment / 1000, dt.UTC) for moment in window_ms)
    return DriftReport(
        model=bundle.manifest.name,
        fingerprint=bundle.fingerprint_hex,
        source=source,
        horizon_days=panel.horizon_days,
        since=since,
        until=until,
        reference=f"{reference.taken_from}, {reference.users:,} users",
        stability=compared(before, after),
        calibration=calibration_drift(panel),
        performance=performance(panel),
        alert_rate=rate,
        alert_budget=bundle.thresholds.medium_per_1000_users_month,
        shapes={
            name: _shape(reference.distributions[name], before[name], after[name]) for name in before if name in after
        },
    )


def _shape(bins: Distribution, before: NDArray[np.int64], after: NDArray[np.int64]) -> Shape:
    if bins.edges is None:
        labels = ["missing", "unseen", *bins.categories]
    elif bins.edges:
        labels = [f"≤ {edge:.4g}" for edge in bins.edges] + [f"> {bins.edges[-1]:.4g}", "missing"]
    else:
        labels = ["known", "missing"]
    kept = (before + after) > 0
    return Shape(
        labels=[label for label, keep in zip(labels, kept, strict=True) if keep],
        reference=(before[kept] / max(before.sum(), 1)).tolist(),
        recent=(after[kept] / max(after.sum(), 1)).tolist(),
    )
