"""The problems of a source: users and times to train on and to be judged on. The same for every candidate.

Simulator: later months of users who were held out. Taiwan and Berka: five folds by client, stratified by the label.
Auto loans: early months against later ones, over five folds of loans and from each deal to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from events.types import KINDS
from model.comparison.leakage import check_parts
from model.comparison.problem import Problem, Task
from model.datasets.auto_loans import AutoLoans
from model.datasets.dataset import Dataset, DatasetError, Outcome
from model.evaluation.evaluate import GRACE_DAYS, load_sequences
from model.histories.arrears import judged_events
from model.histories.labels import NEVER_MS, Truth, known_by, truth_of
from model.histories.sequences import Sequences, learn_vocabularies
from model.histories.splits import Part, Split, split

FOLDS = 5
VALIDATION_SHARE = 0.1
"""Share of the users outside a fold that are for validation, stratified as the folds are."""
EARLY_SHARE = 0.5
"""Auto loans: months before this share of the period are early, the others are later ones."""
HORIZONS_DAYS = (30, 60, 90, 180)
SIX_MONTHS_DAYS = 180
"""Auto loans: after the end of a month, the third payment missed within the next six is dated within 180 days, and
one of the seventh month is not."""


@dataclass(frozen=True)
class Setting:
    """Problems whose test parts make up one table. `about` describes them in a sentence."""

    name: str
    about: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Source:
    """What all problems of a source share."""

    dataset: Dataset
    sequences: Sequences
    truth: Truth
    labels: NDArray[np.int8]
    outcomes: Mapping[str, Outcome]
    seed: int

    def problem(
        self,
        name: str,
        parts: Split,
        *,
        task: Task = "hazard",
        headline_days: int | None = None,
    ) -> Problem:
        """A problem whose vocabularies come from the training part alone. Raises `LeakError` where parts leak."""
        problem = Problem(
            name=name,
            sequences=_recoded(self.sequences, parts.train),
            parts=parts,
            truth=self.truth,
            labels=self.labels,
            outcomes=self.outcomes,
            headline_days=headline_days or self.dataset.headline_horizon_days,
            horizons_days=HORIZONS_DAYS,
            task=task,
            seed=self.seed,
            dataset=self.dataset,
            judged=judged_events(self.dataset, self.sequences),
        )
        check_parts(problem)
        return problem


def pose(dataset: Dataset, seed: int, progress: Progress, folds: int = FOLDS) -> list[Setting]:
    """The settings of a source. `folds` is how many of its `FOLDS` folds are judged; `seed` draws them.

    Raises `DatasetError` when the source has too few users, or too few bad ones, to be judged.
    """
    sequences = load_sequences(dataset, progress, grace_days=GRACE_DAYS)
    outcomes = dataset.outcomes()
    label = (getattr(outcomes.get(user_id), "label", None) for user_id in sequences.user_ids)
    source = _Source(
        dataset=dataset,
        sequences=sequences,
        truth=truth_of(sequences, outcomes),
        labels=np.array([-1 if value is None else value for value in label], dtype=np.int8),
        outcomes=outcomes,
        seed=seed,
    )
    default_count = int((source.truth.default_date_ms < NEVER_MS).sum())
    if default_count < 2 * FOLDS:
        raise DatasetError(
            f"{dataset.name} shows {default_count} defaults among {sequences.users} users; a comparison "
            f"needs {2 * FOLDS}: take more users or months"
        )
    parts = split(sequences, dataset, source.truth)
    if parts.by == "time":
        return [_by_time(source, parts)]
    if isinstance(dataset, AutoLoans):
        return _auto_loans(source, dataset, folds)
    return [_by_client(source, folds)]


def stratified_folds(user_ids: list[str], bad: NDArray[np.bool_], seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each user, int64 `[users]`: as many of the bad, and of the others, in each, give or take one.

    Depends on the ids, not on the order in which users appear.
    """
    random = np.random.default_rng(seed)
    fold = np.zeros(len(user_ids), dtype=np.int64)
    by_id = np.argsort(np.array(user_ids, dtype=object), kind="stable")
    for stratum in (True, False):
        members = random.permutation(by_id[bad[by_id] == stratum])
        fold[members] = np.arange(len(members)) % folds
    return fold


def _by_time(source: _Source, parts: Split) -> Setting:
    return Setting(
        "out of time",
        "Learnt from the first half of the period, tuned on the time to 72 % of it, judged on the rest and on users "
        "who were held out altogether.",
        (source.problem(source.dataset.name, parts),),
    )


def _by_client(source: _Source, folds: int) -> Setting:
    bad = source.labels > 0 if (source.labels >= 0).any() else source.truth.default_date_ms < NEVER_MS
    counts = np.diff(source.sequences.merged_starts)
    skips = np.zeros(source.sequences.users, dtype=np.int64)
    task: Task = "label" if (source.labels >= 0).all() else "hazard"
    problems = tuple(
        source.problem(
            f"{source.dataset.name} fold {fold + 1}",
            Split(
                by="client",
                train=Part(train, counts[train], skips[train], source.truth),
                validation=Part(validation, counts[validation], skips[validation], source.truth),
                test=Part(test, counts[test], skips[test], source.truth),
                from_ms=0,
                until_ms=NEVER_MS,
            ),
            task=task,
        )
        for fold, (train, validation, test) in enumerate(_thirds(source, bad, folds))
    )
    return Setting(
        f"{FOLDS}-fold",
        f"{FOLDS} folds by client, stratified by the outcome, {len(problems)} judged; a tenth of the other clients "
        "validates.",
        problems,
    )


def _auto_loans(source: _Source, dataset: AutoLoans, folds: int) -> list[Setting]:
    bad = source.truth.default_date_ms < NEVER_MS
    everyone = np.arange(source.sequences.users)
    question = "Three payments missed in the next six months, asked only while the loan is current."
    settings = [
        Setting(
            "out of time",
            f"{question} Learnt from the early months of four fifths of the loans, judged on the later months of the "
            f"others; {min(folds, FOLDS)} of {FOLDS} folds.",
            tuple(
                _early_to_late(source, f"auto loans fold {fold + 1}", train, validation, test)
                for fold, (train, validation, test) in enumerate(_thirds(source, bad, folds))
            ),
        )
    ]
    deal_of = dataset.deals()
    deals = np.array([deal_of[user_id] for user_id in source.sequences.user_ids])
    pairs = [(one, other) for one in np.unique(deals) for other in np.unique(deals) if one != other]
    if pairs:
        problems = []
        for one, other in pairs:
            train, validation = _with_validation(source, bad, everyone[deals == one])
            problems.append(_early_to_late(source, f"{one} to {other}", train, validation, everyone[deals == other]))
        settings.append(
            Setting(
                "across deals",
                f"{question} Learnt from the early months of one deal, judged on the later months of another.",
                tuple(problems),
            )
        )
    return settings


def _early_to_late(
    source: _Source, name: str, train: NDArray[np.int64], validation: NDArray[np.int64], test: NDArray[np.int64]
) -> Problem:
    sequences = source.sequences
    first, last = int(sequences.times_ms.min()), int(sequences.times_ms.max())
    cut_ms = first + int((last - first) * EARLY_SHARE)
    early, counts = sequences.events_before(cut_ms), np.diff(sequences.merged_starts)
    skips, known = np.zeros(sequences.users, dtype=np.int64), known_by(source.truth, cut_ms)
    parts = Split(
        by="time",
        train=Part(train, early[train], skips[train], known),
        validation=Part(validation, early[validation], skips[validation], known),
        test=Part(test, counts[test], early[test], source.truth),
        from_ms=cut_ms,
        until_ms=cut_ms,
    )
    return source.problem(name, parts, headline_days=SIX_MONTHS_DAYS)


def _thirds(
    source: _Source, bad: NDArray[np.bool_], folds: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Users to train on, to validate on and to test on, per fold."""
    fold_of = stratified_folds(source.sequences.user_ids, bad, source.seed)
    for fold in range(min(folds, FOLDS)):
        train, validation = _with_validation(source, bad, np.flatnonzero(fold_of != fold))
        yield train, validation, np.flatnonzero(fold_of == fold)


def _with_validation(
    source: _Source, bad: NDArray[np.bool_], users: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = [source.sequences.user_ids[user] for user in users]
    validates = stratified_folds(ids, bad[users], source.seed + 1, round(1 / VALIDATION_SHARE)) == 0
    return users[~validates], users[validates]


def _recoded(sequences: Sequences, train: Part) -> Sequences:
    from model.training.preparation import LEAST_CATEGORY_COUNT  # loads PyTorch

    counts = np.zeros(sequences.users, dtype=np.int64)
    counts[train.users] = train.counts
    rows = {kind: sequences.rows_of(kind, counts) for kind in KINDS}
    return sequences.recoded(learn_vocabularies(sequences, rows, LEAST_CATEGORY_COUNT))
