"""Evaluates a bundle on a data set: ranking and calibration per horizon, and lead times of warnings.

Runs the exported graphs (`model.evaluation.playback`), needs no torch, and never changes a bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from events.calendar import DAY_MS, UTC, Calendar
from model.bundle import Bundle
from model.datasets.dataset import Dataset
from model.evaluation.playback import merged_rows, score_sequences
from model.evaluation.thresholds import alert_rate
from model.histories.arrears import judged_events
from model.histories.backing import Backing
from model.histories.labels import NEVER_MS, Truth, truth_of, within_horizons
from model.histories.sequences import SequenceBuilder, Sequences, Vocabularies
from model.progress import LongWork
from model.statistics.metrics import roc_auc, summary

GRACE_DAYS = 3.0
"""Grace of the watchdog whose `missed` events training and evaluation insert; equal to serving's default."""
WARNING_DAYS = 180
"""A warning earlier than this before the default date is not counted as a warning of that default."""
PROGRESS_EVERY = 2_000


def evaluate(
    bundle: Bundle | Path | str,
    dataset: Dataset,
    *,
    held_out_only: bool = True,
    max_users: int | None = None,
    grace_days: float = GRACE_DAYS,
    progress: bool = True,
    calendar: Calendar | None = None,
) -> dict[str, Any]:
    """Metrics of a bundle on a data set: see `judge`. `held_out_only` leaves out clients that training may have seen.

    `calendar` is the lender's, by default the one that the bundle was trained with.

    Raises `ValueError` when no users remain, `BundleError` and `DatasetError` as their loaders do.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    with progress_bars(progress) as bars:
        sequences = load_sequences(
            dataset,
            bars,
            loaded.vocabularies,
            max_users=max_users,
            held_out_only=held_out_only,
            grace_days=grace_days,
            calendar=calendar or loaded.calendar,
        )
        if not sequences.users:
            raise ValueError(f"{dataset.name} has no users to evaluate on; raise --users or leave --held-out-only out")
        task = bars.add_task("scoring", total=len(sequences.kinds))
        scores = score_sequences(loaded, sequences, advance=lambda events: bars.advance(task, events))
    asked = judged_events(dataset, sequences)
    metrics = judge(loaded, sequences, truth_of(sequences, dataset.outcomes()), scores, judged=asked)
    labels = {user_id: outcome.label for user_id, outcome in dataset.outcomes().items()}
    return {**metrics, **label_metrics(loaded, sequences, scores, labels)}


def judge(
    bundle: Bundle,
    sequences: Sequences,
    truth: Truth,
    scores: NDArray[np.float32],
    users: NDArray[np.int64] | None = None,
    from_ms: int = 0,
    judged: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Measures over the events of `users` (default: all) from `from_ms` on; `scores` are those users' in merged order.
    `judged` bool `[N]` leaves out events that the source does not judge (`model.histories.arrears.judged_events`).

    Per horizon: `metrics.summary` over events whose outcome is known. `early_warning`: see `early_warning`.
    """
    chosen = np.arange(sequences.users) if users is None else users
    rows = merged_rows(sequences, chosen)
    owner = sequences.owners(rows)
    times = sequences.times_ms[rows]
    recent = times >= from_ms
    if judged is not None:
        recent &= judged[rows]
    happened, known = within_horizons(times, owner, truth, bundle.horizons_days)
    per_horizon = {
        str(days): summary(happened[recent & known[:, index], index], scores[recent & known[:, index], index])
        for index, days in enumerate(bundle.horizons_days)
    }
    at_risk = recent & (times < truth.default_date_ms[owner])
    headline = scores[at_risk, bundle.headline]
    return {
        "users": len(chosen),
        "events": int(recent.sum()),
        "headline_horizon_days": bundle.horizons_days[bundle.headline],
        "horizons": per_horizon,
        "early_warning": {
            level: early_warning(times[at_risk], owner[at_risk], headline, truth, threshold)
            for level, threshold in (("medium", bundle.thresholds.medium), ("high", bundle.thresholds.high))
        },
    }


def early_warning(
    times_ms: NDArray[np.int64],
    users: NDArray[np.int64],
    scores: NDArray[np.float32],
    truth: Truth,
    threshold: float,
) -> dict[str, float | int | None]:
    """What a threshold would have caught before the default date, over events at risk, sorted by user.

    `caught` is the share of users with a default whose score reached the threshold within `WARNING_DAYS` before it;
    `median_lead_days` the median time from the first such score to the default date; `false_users` the share of users
    without default who ever reached it; `alerts_per_1000_users_month` as in `alert_rate`.
    """
    present = np.unique(users)
    defaulted = present[truth.default_date_ms[present] < NEVER_MS]
    never_defaulted = np.setdiff1d(present, defaulted)
    caught, lead_days = first_warnings(times_ms, users, scores, truth, threshold)
    false_users = len(np.intersect1d(np.unique(users[scores >= threshold]), never_defaulted))
    return {
        "onsets": len(defaulted),  # the key of manifests and reports: users who defaulted
        "caught": round(len(caught) / len(defaulted), 4) if len(defaulted) else None,
        "median_lead_days": round(float(np.median(lead_days)), 1) if len(caught) else None,
        "false_users": round(false_users / len(never_defaulted), 4) if len(never_defaulted) else None,
        "alerts_per_1000_users_month": round(alert_rate(times_ms, users, scores, threshold), 2),
    }


def first_warnings(
    times_ms: NDArray[np.int64],
    users: NDArray[np.int64],
    scores: NDArray[np.float32],
    truth: Truth,
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Users with a default whose score reached `threshold` within `WARNING_DAYS` before it, in rising order, and the
    days from the first such score to the default date. Rows are events at risk, sorted by user, then arrival.
    """
    lead_days = (truth.default_date_ms[users] - times_ms) / DAY_MS
    early = (scores >= threshold) & (lead_days <= WARNING_DAYS)
    caught, first = np.unique(users[early], return_index=True)
    return caught, lead_days[early][first]


def label_metrics(
    bundle: Bundle,
    sequences: Sequences,
    scores: NDArray[np.float32],
    labels: dict[str, int | None],
    users: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """`{"label": {...}}` for sources with their own label: each client's last score against it. Empty for others."""
    chosen = np.arange(sequences.users) if users is None else users
    lengths = np.diff(sequences.merged_starts)[chosen]
    last = np.cumsum(lengths) - 1
    label = [labels.get(sequences.user_ids[user]) for user in chosen]
    labelled = np.array([value is not None for value in label], dtype=bool) & (lengths > 0)
    if not labelled.any():
        return {}
    bad = np.array([bool(value) for value in label])[labelled]
    score = scores[last[labelled], bundle.headline]
    return {"label": summary(bad, score)} if roc_auc(bad, score) is not None else {}


def load_sequences(
    dataset: Dataset,
    bars: Progress,
    vocabularies: Vocabularies | None = None,
    *,
    max_users: int | None = None,
    held_out_only: bool = False,
    grace_days: float = GRACE_DAYS,
    most_events: int | None = None,
    calendar: Calendar = UTC,
    backing: Backing | None = None,
) -> Sequences:
    """A data set's histories. `max_users` keeps the first so many users to appear; `held_out_only` keeps test clients;
    reading stops with the first event beyond `most_events`. `backing` is for `SequenceBuilder`."""
    builder = SequenceBuilder(vocabularies, grace_days, calendar, backing)
    admitted: dict[str, bool] = {}
    taken = 0
    task = bars.add_task(f"reading {dataset.name}", total=None)
    for position, event in enumerate(dataset.events()):
        if position % PROGRESS_EVERY == 0:
            bars.update(task, completed=position)
        admit = admitted.get(event.user_id)
        if admit is None:
            room = max_users is None or taken < max_users
            admit = admitted[event.user_id] = room and (not held_out_only or dataset.held_out(event.user_id))
            taken += admit
        if admit:
            builder.add(event)
            if most_events is not None and builder.events > most_events:
                break
    sequences = builder.finish()
    bars.update(task, completed=len(sequences.kinds), total=len(sequences.kinds))
    return sequences


@contextmanager
def progress_bars(shown: bool) -> Iterator[Progress]:
    """How far it is, or nothing. Goes to standard error: the other output may be for a program."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with LongWork(*columns, console=Console(stderr=True), disable=not shown) as bars:
        yield bars
