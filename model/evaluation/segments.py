"""Quality by segment: measures of groups of borrowers, and gaps between groups with bootstrap intervals.

Groups come from profile fields, including protected ones that are no inputs, because unequal treatment can only be
measured with them. Takes scores that have been computed; must not be used in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from model.evaluation.drift import effective_number
from model.evaluation.panel import Panel
from model.histories.sequences import Sequences
from model.statistics.distributions import share_interval
from model.statistics.resampling import RESAMPLES, Interval, Ranking, Weights, intervals

LEAST_ROWS = 50
MOST_GROUPS = 12
"""Groups with fewer than `LEAST_ROWS` matured scores, and all beyond the `MOST_GROUPS` largest, become `other`."""
OTHER, UNKNOWN = "other", "unknown"
FAIRNESS_FIELDS = ("sex", "age_band")
GAPS = ("auc", "calibration", "alert_rate", "false_positive_rate")


@dataclass(frozen=True)
class Segment:
    """Measures of one group. `alert_rate` is the share of scores at or above the MEDIUM threshold, and
    `false_positive_rate` the same among scores that no default followed."""

    name: str
    users: int
    scores: int
    default_count: int
    auc: Interval
    pr_auc: Interval
    expected: float
    observed: float
    observed_low: float
    observed_high: float
    alert_rate: float
    false_positive_rate: float | None


@dataclass(frozen=True)
class Gap:
    """A group's measures minus those of the largest group. `calibration` is the difference of observed minus expected
    rate: above zero the model underestimates this group's risk more than the other's."""

    field: str
    group: str
    against: str
    gaps: dict[str, Interval]


def profile_groups(plain: Sequences, field: str) -> NDArray[np.str_]:
    """Each user's latest category of a profile field, `unknown` where none was given; `[users]`.

    `plain` are `Sequences` in the source's own vocabularies. Raises `ValueError` for a field that profiles lack.
    """
    names = COLUMNS["profiles"].categorical
    if field not in names:
        raise ValueError(f"segment {field!r} is no category of a profile; choose one of {', '.join(names)}")
    vocabulary = plain.vocabularies["profiles"].get(field, {})
    by_code = np.array([UNKNOWN, UNKNOWN, *sorted(vocabulary, key=lambda name: vocabulary[name])])
    assert len(by_code) == len(vocabulary) + FIRST_CATEGORY_CODE
    starts = plain.starts["profiles"]
    groups = np.full(plain.users, UNKNOWN, dtype=by_code.dtype)
    present = np.flatnonzero(np.diff(starts) > 0)
    codes = plain.categorical["profiles"][starts[present + 1] - 1, names.index(field)]
    groups[present] = by_code[codes]
    return groups


def gathered(panel: Panel, groups: NDArray[np.str_], least: int = LEAST_ROWS) -> NDArray[np.str_]:
    """The group of each row of a panel, with small groups merged into `other`."""
    names, place, counts = np.unique(groups[panel.users], return_inverse=True, return_counts=True)
    largest = np.sort(counts)[-MOST_GROUPS:]
    kept = counts >= max(least, int(largest[0]) if len(largest) else 0)
    shown = np.array([str(name) if keep else OTHER for name, keep in zip(names, kept, strict=True)] or [""])
    return shown[place] if len(place) else np.zeros(0, dtype=np.str_)


def segments(panel: Panel, of_row: NDArray[np.str_], threshold: float, resamples: int = RESAMPLES) -> list[Segment]:
    """Measures of each group, by name; `of_row` as `gathered` gives it."""
    return [_segment(str(name), panel.where(of_row == name), threshold, resamples) for name in np.unique(of_row)]


def overall(panel: Panel, threshold: float, resamples: int = RESAMPLES) -> Segment:
    """Measures of everybody."""
    return _segment("all", panel, threshold, resamples)


def gaps(field: str, panel: Panel, of_row: NDArray[np.str_], threshold: float, resamples: int = RESAMPLES) -> list[Gap]:
    """Each known group against the largest one, with intervals from drawing users over all groups at once."""
    names, counts = np.unique(of_row, return_counts=True)
    known = [(int(count), str(name)) for name, count in zip(names, counts, strict=True) if name != UNKNOWN]
    if len(known) < 2:
        return []
    largest = max(known)[1]
    base = _measures(panel, of_row == largest, threshold)
    found = []
    for _, group in sorted(known, key=lambda each: each[1]):
        if group != largest:
            own = _measures(panel, of_row == group, threshold)
            measured = intervals(_difference(own, base), panel.users, resamples)
            found.append(Gap(field, group, largest, measured))
    return found


def _segment(name: str, rows: Panel, threshold: float, resamples: int) -> Segment:
    measured = intervals(Ranking(rows.happened, rows.scores).measures, rows.users, resamples)
    observed = float(rows.happened.mean()) if len(rows) else 0.0
    low, high = share_interval(observed, effective_number(rows.users, rows.happened) if len(rows) else 0.0)
    alerted = rows.scores >= threshold
    calm = ~rows.happened
    return Segment(
        name=name,
        users=len(np.unique(rows.users)),
        scores=len(rows),
        default_count=int(rows.happened.sum()),
        auc=measured["auc"],
        pr_auc=measured["pr_auc"],
        expected=float(rows.scores.mean()) if len(rows) else 0.0,
        observed=observed,
        observed_low=low,
        observed_high=high,
        alert_rate=float(alerted.mean()) if len(rows) else 0.0,
        false_positive_rate=float(alerted[calm].mean()) if calm.any() else None,
    )


Measured = dict[str, float | None]


def _measures(panel: Panel, rows: NDArray[np.bool_], threshold: float) -> Callable[[Weights | None], Measured]:
    own = panel.where(rows)
    ranking = Ranking(own.happened, own.scores)
    excess = own.happened - own.scores
    alerted = (own.scores >= threshold).astype(np.float64)
    calm = ~own.happened

    def measure(weights: Weights | None) -> Measured:
        weight = np.ones(len(own)) if weights is None else weights[rows]
        total, quiet = float(weight.sum()), float(weight[calm].sum())
        return {
            "auc": ranking.measures(weight)["auc"],
            "calibration": float((weight * excess).sum() / total) if total else None,
            "alert_rate": float((weight * alerted).sum() / total) if total else None,
            "false_positive_rate": float((weight * alerted)[calm].sum() / quiet) if quiet else None,
        }

    return measure


def _difference(
    own: Callable[[Weights | None], Measured], base: Callable[[Weights | None], Measured]
) -> Callable[[Weights | None], Measured]:
    def measure(weights: Weights | None) -> Measured:
        ours, theirs = own(weights), base(weights)
        return {name: None if (a := ours[name]) is None or (b := theirs[name]) is None else a - b for name in GAPS}

    return measure
