"""Proxies: inputs of profiles that tell a protected field, and what a bundle loses when they are not shown to it.

Takes scores that have been computed, and computes those without the proxies; must not be used in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS, MISSING_CODE, PROTECTED_FIELDS, TIME_COLUMNS
from model.evaluation.panel import Panel
from model.evaluation.playback import merged_rows, score_sequences
from model.evaluation.scored_source import ScoredSource
from model.evaluation.segments import FAIRNESS_FIELDS, UNKNOWN, Gap, gaps, gathered, profile_groups
from model.histories.sequences import Sequences
from model.statistics.resampling import Interval, Ranking, Weights, intervals

LEAST_ASSOCIATION = 0.1
"""Cramér's V from which an input is called a proxy: the usual bound of a small association (Cohen 1988)."""
BINS = 10


@dataclass(frozen=True)
class Proxy:
    """An input and how well it tells each protected field, as Cramér's V: 0 not at all, 1 exactly."""

    name: str
    tells: dict[str, float]


@dataclass(frozen=True)
class WithoutProxies:
    """The proxies of a bundle, and its measures when all of them are shown as missing.

    `auc` is the difference to the scores as they are, and `gaps` are those of `model.evaluation.segments` without the
    proxies.
    """

    proxies: list[Proxy]
    auc: Interval
    gaps: list[Gap]


def without_proxies(source: ScoredSource, from_ms: int, resamples: int) -> WithoutProxies | None:
    """Find the proxies of `FAIRNESS_FIELDS` among the inputs of a source's bundle, and score without them; None where
    the data tell no groups apart. No `proxies`, and nothing scored, where no input is one."""
    panel = source.panel(from_ms)
    groups = {field: profile_groups(source.plain, field) for field in FAIRNESS_FIELDS}
    told = {field: of_user for field, of_user in groups.items() if _known_groups(of_user[panel.users]) > 1}
    if not told:
        return None
    found = proxies(source, np.unique(panel.users), told)
    if not found:
        return WithoutProxies([], Interval(None, None, None), [])
    blind = _scored_without(source, [proxy.name for proxy in found]).panel(from_ms)
    threshold = source.bundle.thresholds.medium
    left = [
        gap
        for field, of_user in told.items()
        for gap in gaps(field, blind, gathered(blind, of_user), threshold, resamples)
    ]
    return WithoutProxies(found, _auc_change(panel, blind, resamples), left)


def proxies(source: ScoredSource, users: NDArray[np.int64], groups: dict[str, NDArray[np.str_]]) -> list[Proxy]:
    """Inputs of profiles that tell one of the `groups` `[U]` of `users`, the strongest first."""
    found = []
    for name, values in _inputs(source, users).items():
        tells = {field: association(values, of_user[users]) for field, of_user in groups.items()}
        if max(tells.values()) >= LEAST_ASSOCIATION:
            found.append(Proxy(name, tells))
    return sorted(found, key=lambda proxy: -max(proxy.tells.values()))


def association(values: NDArray[np.int64], groups: NDArray[np.str_]) -> float:
    """Cramér's V of codes `[n]` and groups `[n]`, corrected for its bias in small samples (Bergsma 2013); users whose
    group is unknown are left out."""
    known = groups != UNKNOWN
    rows, columns = (np.unique(part[known], return_inverse=True) for part in (values, groups))
    total, height, width = int(known.sum()), len(rows[0]), len(columns[0])
    if total < 2 or min(height, width) < 2:
        return 0.0
    counts = np.zeros((height, width))
    np.add.at(counts, (rows[1], columns[1]), 1.0)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / total
    share = float(((counts - expected) ** 2 / expected).sum()) / total
    by_chance = (height - 1) * (width - 1) / (total - 1)
    smallest = min(height - (height - 1) ** 2 / (total - 1), width - (width - 1) ** 2 / (total - 1)) - 1
    return float(np.sqrt(max(share - by_chance, 0.0) / smallest)) if smallest > 0 else 0.0


def _known_groups(groups: NDArray[np.str_]) -> int:
    return len(set(groups.tolist()) - {UNKNOWN})


def _inputs(source: ScoredSource, users: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The latest value of each profile input of the bundle, as codes `[users]`: 0 is missing, numbers in tenths."""
    sequences, columns = source.sequences, COLUMNS["profiles"]
    taken = source.bundle.manifest.numeric_inputs["profiles"]
    starts = sequences.starts["profiles"]
    present, last = starts[users + 1] > starts[users], np.maximum(starts[users + 1] - 1, 0)
    found: dict[str, NDArray[np.int64]] = {}
    for position, name in enumerate(columns.categorical):
        if name in source.bundle.vocabularies["profiles"] and name not in PROTECTED_FIELDS:
            codes = np.zeros(len(users), dtype=np.int64)
            codes[present] = sequences.categorical["profiles"][last[present], position]
            found[name] = codes
    for position, name in enumerate(columns.numeric_inputs):
        if name in taken and name not in TIME_COLUMNS:
            values = np.full(len(users), np.nan)
            values[present] = sequences.numeric["profiles"][last[present], position]
            found[name] = _binned(values)
    return found


def _binned(values: NDArray[np.float64]) -> NDArray[np.int64]:
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values), dtype=np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    binned: NDArray[np.int64] = np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values))
    return binned


def _scored_without(source: ScoredSource, names: Sequence[str]) -> ScoredSource:
    """The same users scored with these inputs of profiles shown as missing."""
    sequences = _shown_without(source.sequences, names)
    scored = ~np.isnan(source.probabilities[:, 0])
    users = np.unique(sequences.owners(np.flatnonzero(scored)))
    probabilities = sequences.backing.zeros(source.probabilities.shape, np.float32)
    probabilities[:] = np.nan
    probabilities[merged_rows(sequences, users)] = score_sequences(source.bundle, sequences, users)
    return replace(source, sequences=sequences, probabilities=probabilities)


def _shown_without(sequences: Sequences, names: Sequence[str]) -> Sequences:
    columns = COLUMNS["profiles"]
    numeric, categorical = sequences.numeric["profiles"].copy(), sequences.categorical["profiles"].copy()
    for name in names:
        if name in columns.categorical:
            categorical[:, columns.categorical.index(name)] = MISSING_CODE
        else:
            numeric[:, columns.numeric_inputs.index(name)] = np.nan
    return replace(
        sequences,
        numeric={**sequences.numeric, "profiles": numeric},
        categorical={**sequences.categorical, "profiles": categorical},
    )


def _auc_change(panel: Panel, blind: Panel, resamples: int) -> Interval:
    """AUC without the proxies minus AUC with them, of the same rows."""
    with_all, without = (Ranking(each.happened, each.scores) for each in (panel, blind))

    def measure(weights: Weights | None) -> dict[str, float | None]:
        ours, theirs = without.measures(weights)["auc"], with_all.measures(weights)["auc"]
        return {"auc": None if ours is None or theirs is None else ours - theirs}

    return intervals(measure, panel.users, resamples)["auc"]
