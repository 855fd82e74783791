"""Checks against leakage: parts must not share users or examples, and scores must not depend on later events.

A check that fails raises `LeakError`, so that a comparison with leakage gives no table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from events.columns import FIRST_CATEGORY_CODE
from events.types import KINDS
from model.comparison.candidate import Candidate
from model.comparison.problem import Problem
from model.histories.labels import NEVER_MS
from model.histories.splits import Part

SQUEEZE = 0.63
"""Factor on the time between the cut and each later event. Below 1, so that no event leaves the period of the data."""


class LeakError(AssertionError):
    """A part or a score depends on data that it must not depend on; the message says which."""


def check_parts(problem: Problem) -> None:
    """Check that no user of the test part and no example of validation is trained on, and no part's truth goes past its
    end.

    Raises `LeakError`.
    """
    parts = problem.parts
    learnt = np.union1d(parts.train.users, parts.validation.users)
    both = np.intersect1d(parts.test.users, learnt)
    if len(both):
        raise LeakError(f"{problem.name}: user {problem.sequences.user_ids[both[0]]} is in the test part and another")
    train, validation = (_examples(problem, part) for part in (parts.train, parts.validation))
    if len(np.intersect1d(train, validation)):
        raise LeakError(f"{problem.name}: an event is an example of both train and validation")
    if parts.by == "time":
        _check_end(problem, "train", parts.train, parts.from_ms)
        _check_end(problem, "validation", parts.validation, parts.until_ms)
        test = _examples(problem, parts.test)
        if len(test) and problem.sequences.times_ms[test].min() < parts.until_ms - _lateness_ms(problem):
            raise LeakError(f"{problem.name}: a test example lies before the end of validation")


def with_other_future(problem: Problem, users: NDArray[np.int64], at_ms: int, seed: int) -> Problem:
    """The same problem with other events of `users` from the first event at or after `at_ms` on: numbers are shuffled
    and scaled, categories drawn at random, and later events have other times."""
    random = np.random.default_rng(seed)
    sequences = problem.sequences
    kept = _kept(problem, users, at_ms)
    numeric, categorical = dict(sequences.numeric), dict(sequences.categorical)
    for kind in KINDS:
        future = np.ones(len(numeric[kind]), dtype=bool)
        future[sequences.rows_of(kind, kept)] = False
        rows = np.flatnonzero(future)
        values, codes = numeric[kind].copy(), categorical[kind].copy()
        values[rows] = values[random.permutation(rows)] * random.uniform(0.2, 5.0, (len(rows), values.shape[1]))
        for column, largest in enumerate(codes.max(axis=0, initial=0)):
            if largest >= FIRST_CATEGORY_CODE:
                codes[rows, column] = random.integers(0, largest + 1, len(rows))
        numeric[kind], categorical[kind] = values, codes
    position = np.arange(len(sequences.times_ms)) - np.repeat(
        sequences.merged_starts[:-1], np.diff(sequences.merged_starts)
    )
    later = position >= kept[sequences.user_of_event]
    times = sequences.times_ms.copy()
    times[later] = at_ms + ((times[later] - at_ms) * SQUEEZE).astype(np.int64)
    days = sequences.days_past_due.copy()
    days[later] = random.permutation(days[later])
    changed = replace(sequences, numeric=numeric, categorical=categorical, times_ms=times, days_past_due=days)
    return replace(problem, sequences=changed)


def without_future(problem: Problem, users: NDArray[np.int64], at_ms: int) -> Problem:
    """The same problem, but `users` have no event from the first one at or after `at_ms` on."""
    sequences = problem.sequences
    kept = _kept(problem, users, at_ms)
    position = np.arange(len(sequences.times_ms)) - np.repeat(
        sequences.merged_starts[:-1], np.diff(sequences.merged_starts)
    )
    stays = position < kept[sequences.user_of_event]
    numeric, categorical, starts = {}, {}, {}
    for kind in KINDS:
        rows = sequences.rows_of(kind, kept)
        owner = np.repeat(np.arange(sequences.users), np.diff(sequences.starts[kind]))[rows]
        numeric[kind], categorical[kind] = sequences.numeric[kind][rows], sequences.categorical[kind][rows]
        starts[kind] = np.searchsorted(owner, np.arange(sequences.users + 1))
    shorter = replace(
        sequences,
        numeric=numeric,
        categorical=categorical,
        starts=starts,
        merged_starts=np.concatenate([[0], np.cumsum(kept)]),
        kinds=sequences.kinds[stays],
        times_ms=sequences.times_ms[stays],
        latest=sequences.latest[stays],
        days_past_due=sequences.days_past_due[stays],
        written_off=sequences.written_off[stays],
    )
    parts = problem.parts
    clipped = [
        replace(part, counts=np.minimum(part.counts, kept[part.users]))
        for part in (parts.train, parts.validation, parts.test)
    ]
    return replace(
        problem,
        sequences=shorter,
        parts=replace(parts, train=clipped[0], validation=clipped[1], test=clipped[2]),
        judged=None if problem.judged is None else problem.judged[stays],
    )


def check_blind_to_future(candidate: Candidate, problem: Problem, users: NDArray[np.int64], at_ms: int) -> None:
    """Check that a fitted candidate's scores of `users` before `at_ms` are equal, bit by bit, with other later events
    and with none. Raises `LeakError`.
    """
    past = problem.sequences.events_before(at_ms)
    found = _past_scores(candidate, problem, users, past)
    for what, otherwise in (
        ("is another", with_other_future(problem, users, at_ms, seed=problem.seed)),
        ("is missing", without_future(problem, users, at_ms)),
    ):
        differs = found.view(np.uint32) != _past_scores(candidate, otherwise, users, past).view(np.uint32)
        if differs.any():
            owner = np.repeat(users, past[users])[differs][0]
            raise LeakError(
                f"{problem.name}: {candidate.name} gives {int(differs.sum())} of {len(found)} past events another "
                f"score when the future {what}, first for user {problem.sequences.user_ids[owner]}"
            )


def _past_scores(
    candidate: Candidate, problem: Problem, users: NDArray[np.int64], past: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Scores of each of `users`' first `past` events, user after user."""
    scores = candidate.score(problem, users)
    starts = problem.sequences.merged_starts
    return np.concatenate([np.zeros(0, np.float32), *(scores[starts[u] : starts[u] + past[u]] for u in users)])


def _kept(problem: Problem, users: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
    """How many of each user's events stay as they are."""
    chosen = np.zeros(problem.sequences.users, dtype=bool)
    chosen[users] = True
    lengths = np.diff(problem.sequences.merged_starts)
    return np.where(chosen, problem.sequences.events_before(at_ms), lengths)


def _examples(problem: Problem, part: Part) -> NDArray[np.int64]:
    """A part's events, whether or not they count in judging."""
    everything = replace(
        part, truth=replace(part.truth, default_date_ms=np.full_like(part.truth.default_date_ms, NEVER_MS))
    )
    return replace(problem, judged=None).example_rows(everything)


def _lateness_ms(problem: Problem) -> int:
    """The largest step back of event time within a history, since a late event has an earlier time."""
    sequences = problem.sequences
    back = sequences.times_ms[:-1] - sequences.times_ms[1:]
    back[sequences.merged_starts[1:-1] - 1] = 0
    return int(back.max(initial=0))


def _check_end(problem: Problem, name: str, part: Part, end_ms: int) -> None:
    rows = _examples(problem, part)
    if len(rows) and problem.sequences.times_ms[rows].max() >= end_ms:
        raise LeakError(f"{problem.name}: an example of {name} lies after the end of the part")
    known = part.truth.default_date_ms[part.truth.default_date_ms < NEVER_MS]
    if (len(known) and known.max() >= end_ms) or part.truth.observation_end_ms.max(initial=0) > end_ms:
        raise LeakError(f"{problem.name}: the truth of {name} looks past the end of the part")
