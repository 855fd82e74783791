"""The alert state machine: one event per user in, at most one change of the user's alert out.

Array arithmetic over many users at once, without I/O, clock, randomness or loops over rows. Every operation is
elementwise, so a user's result does not depend on the other users of the batch. `stream.alerts.policy` and
`docs/alerts.md` describe the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.alerts.policy import AlertPolicy
from stream.outputs import ALERT_KINDS, LEVELS, AlertKind, Trigger
from stream.structured import copy_records

LOW, MEDIUM, HIGH = (np.uint8(index) for index in range(len(LEVELS)))

NO_CHANGE, OPENED, ESCALATED, CLEARED = (np.uint8(index) for index in range(len(ALERT_KINDS) + 1))
"""Values of `Decision.transition`; `transition_kind` gives the name of a change."""

TRIGGERS: tuple[Trigger, ...] = ("level", "deterioration", "days_past_due")
"""Bit `1 << i` of `Decision.triggers` stands for `TRIGGERS[i]`."""

LONGEST_STREAK = 255

ALERT_STATE = np.dtype(
    [
        ("watermark_ms", "<i8"),  # latest event time seen, -1 before the first event
        ("calm_since_ms", "<i8"),  # first event of the calm that may clear the open alert, -1 when not calm
        ("cooldown_until_ms", "<i8"),  # no opening before this time, -1 when no alert was cleared yet
        ("opened_ms", "<i8"),  # when the latest alert opened (kept after clearing), -1 when there was none
        ("opened_offset", "<i8"),  # with opened_partition and opened_topic: the event that opened it
        ("opened_partition", "<i4"),
        ("baseline", "<f4"),  # slow average of the user's scores, 0 while baseline_count is 0
        ("baseline_count", "<u4"),  # scores that the baseline has learnt from
        ("days_past_due", "<f4"),  # at the latest event, NaN when not known
        ("level", "u1"),  # of the open alert; LOW means that none is open
        ("held_medium", "u1"),  # consecutive events, up to this one, whose score calls for MEDIUM or more
        ("held_high", "u1"),  # the same for HIGH
        ("opened_topic", "u1"),  # index into the run's input topics
        ("reserved", "<u4"),  # always 0; keeps the size a multiple of 8
    ]
)
"""The alert state of a user: 64 bytes, no padding. `initial_state` gives that of a new user."""

_NONE_YET = ("watermark_ms", "calm_since_ms", "cooldown_until_ms", "opened_ms", "opened_offset", "opened_partition")


@dataclass(frozen=True, slots=True)
class Decision:
    """What `advance` decided for `n` events, one row per event.

    `state` ALERT_STATE `[n]` after the event. `level` uint8: the score's own level by its thresholds, and not below
    what the days-past-due backstop calls for. `baseline` float32: before the event (the score itself when there was
    none yet); `delta` float32: score - baseline. `days_past_due` float32: as given. `time_ms` int64: the user's
    latest event time, this event included; the time of a transition. `transition` uint8: NO_CHANGE, OPENED, ESCALATED
    or CLEARED. `level_from`, `level_to` uint8: of the alert, before and after. `triggers` uint8 bits: why an alert
    opened or escalated, 0 elsewhere. `changed` int64 `[k]`: rows with a transition, ascending.
    """

    state: NDArray[np.void]
    level: NDArray[np.uint8]
    baseline: NDArray[np.float32]
    delta: NDArray[np.float32]
    days_past_due: NDArray[np.float32]
    time_ms: NDArray[np.int64]
    transition: NDArray[np.uint8]
    level_from: NDArray[np.uint8]
    level_to: NDArray[np.uint8]
    triggers: NDArray[np.uint8]
    changed: NDArray[np.intp]


def initial_state(users: int) -> NDArray[np.void]:
    """ALERT_STATE `[users]` of users without any event."""
    state = np.zeros(users, dtype=ALERT_STATE)
    for name in _NONE_YET:
        state[name] = -1
    state["days_past_due"] = np.nan
    return state


def transition_kind(transition: int) -> AlertKind:
    """Name of a value of `Decision.transition` other than NO_CHANGE."""
    return ALERT_KINDS[int(transition) - 1]


def trigger_names(triggers: int) -> list[Trigger]:
    """Names of the bits of one value of `Decision.triggers`, in the order of TRIGGERS."""
    return [name for bit, name in enumerate(TRIGGERS) if int(triggers) >> bit & 1]


def advance(
    policy: AlertPolicy,
    state: NDArray[np.void],
    score: NDArray[np.float32],
    days_past_due: NDArray[np.float32],
    serious: NDArray[np.bool_],
    occurred_ms: NDArray[np.int64],
    *,
    topic: NDArray[np.uint8],
    partition: NDArray[np.int32],
    offset: NDArray[np.int64],
) -> Decision:
    """One event for each of `n` different users; all arrays are `[n]`, `state` is not changed.

    `state` is ALERT_STATE, `score` the probability at the headline horizon, `days_past_due` the
    borrower's at this event, NaN where not known, and `serious` whether any contract is seriously past due or written
    off. `topic` (index into the input topics), `partition` and `offset` are the event's; they are kept when it
    opens an alert, so that `alert_id` is a function of its cause.

    Raises `ValueError` when a score is not finite.
    """
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise ValueError(f"score of row {row} is {score[row]}; the bundle's score graph must give finite probabilities")
    after = copy_records(state)
    now = np.maximum(after["watermark_ms"], occurred_ms)
    dpd = days_past_due
    level_from = after["level"].copy()
    has_baseline = after["baseline_count"] > 0
    baseline = np.where(has_baseline, after["baseline"], score)
    may_compare = after["baseline_count"] >= np.uint32(policy.baseline_min_events)
    after["watermark_ms"] = now
    after["days_past_due"] = dpd

    level = _count((score >= policy.medium), (score >= policy.high))
    deteriorated = (score >= _deterioration_bar(policy, baseline, 1.0)) & may_compare
    confirmed = _confirm(policy, after, score, level, deteriorated)
    suppressed = (level_from == LOW) & (now < after["cooldown_until_ms"])
    confirmed = np.where(suppressed, LOW, confirmed)
    grave = serious | (dpd >= policy.high_backstop)
    backstop = _count(grave | (dpd >= policy.dpd_backstop), grave)
    rise_to = np.maximum(np.maximum(confirmed, backstop), level_from)
    rose = rise_to > level_from
    cleared = _cure(policy, after, score, backstop, baseline, may_compare, now)
    level_to = np.where(cleared, LOW, rise_to)
    transition = np.where(rose, np.where(level_from == LOW, OPENED, ESCALATED), np.where(cleared, CLEARED, NO_CHANGE))
    after["level"] = level_to
    _learn(policy, after, score, ((level == LOW) & ~deteriorated) | ~may_compare)

    changed = np.flatnonzero(transition)
    triggers = np.zeros(len(score), dtype=np.uint8)
    if changed.size:
        triggers[changed] = (
            _triggers(level_from[changed], level[changed], deteriorated[changed], confirmed[changed], backstop[changed])
            * rose[changed]
        )
        opened = changed[transition[changed] == OPENED]
        after["opened_ms"][opened] = now[opened]
        after["opened_topic"][opened] = topic[opened]
        after["opened_partition"][opened] = partition[opened]
        after["opened_offset"][opened] = offset[opened]
    return Decision(
        state=after,
        level=np.maximum(level, backstop),
        baseline=baseline,
        delta=score - baseline,
        days_past_due=dpd,
        time_ms=now,
        transition=transition,
        level_from=level_from,
        level_to=level_to,
        triggers=triggers,
        changed=changed,
    )


def _count(medium: NDArray[np.bool_], high: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """LOW, MEDIUM or HIGH by two nested conditions (`high` implies `medium`)."""
    return medium.view(np.uint8) + high.view(np.uint8)


def _deterioration_bar(policy: AlertPolicy, baseline: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Least score that is a deterioration from `baseline`: the largest of both rises and the floor, each times
    `share`."""
    relative = baseline * (1.0 + policy.relative_rise * share)
    absolute = baseline + policy.absolute_rise * share
    bar: NDArray[np.float32] = np.maximum(np.maximum(relative, absolute), policy.deterioration_floor * share)
    return bar


def _confirm(
    policy: AlertPolicy,
    after: NDArray[np.void],
    score: NDArray[np.float32],
    level: NDArray[np.uint8],
    deteriorated: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Level that the score has called for during `sticky_events` events, or at once by an extreme score. Counts the
    streaks in `after`."""
    extreme = score >= policy.extreme_score
    confirmed: list[NDArray[np.bool_]] = []
    for name, calls in (("held_medium", (level >= MEDIUM) | deteriorated), ("held_high", level == HIGH)):
        held = (np.minimum(after[name], LONGEST_STREAK - 1) + np.uint8(1)) * calls
        after[name] = held
        confirmed.append((held >= policy.sticky_events) | (extreme & calls))
    return _count(*confirmed)


def _cure(
    policy: AlertPolicy,
    after: NDArray[np.void],
    score: NDArray[np.float32],
    backstop: NDArray[np.uint8],
    baseline: NDArray[np.float32],
    may_compare: NDArray[np.bool_],
    now: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Open alerts that this event clears; writes the start of the calm and the cooldown into `after`.

    A user is calm below bars that the hysteresis lowers, so that a score which moves around a bar is not cured.
    """
    calm = after["level"] != LOW
    calm &= score < policy.medium * policy.hysteresis
    calm &= (score < _deterioration_bar(policy, baseline, policy.hysteresis)) | ~may_compare
    calm &= backstop == LOW
    since = after["calm_since_ms"]
    since = np.where(calm, np.where(since < 0, now, since), -1)
    cleared: NDArray[np.bool_] = calm & (now - since >= policy.cure_ms)
    after["calm_since_ms"] = np.where(cleared, -1, since)
    after["cooldown_until_ms"] = np.where(cleared, now + policy.cooldown_ms, after["cooldown_until_ms"])
    return cleared


def _learn(
    policy: AlertPolicy, after: NDArray[np.void], score: NDArray[np.float32], ordinary: NDArray[np.bool_]
) -> None:
    """Moves the baselines of `after` towards `score`, except while an alert is open or where the score is not ordinary.

    Otherwise a slow deterioration would raise the baseline that it is compared with. The weight is that of a plain mean
    until the weight of the exponential average is larger.
    """
    learns = ordinary & (after["level"] == LOW)
    count = after["baseline_count"]
    weight = np.maximum(np.float32(1) / (count.astype(np.float32) + np.float32(1)), policy.baseline_weight)
    average = after["baseline"]
    after["baseline"] = np.where(learns, average + (score - average) * weight, average)
    after["baseline_count"] = count + learns.view(np.uint8)


def _triggers(
    level_from: NDArray[np.uint8],
    level: NDArray[np.uint8],
    deteriorated: NDArray[np.bool_],
    confirmed: NDArray[np.uint8],
    backstop: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Bits of the conditions that on their own call for a level above `level_from`.

    A score counts up to its confirmed level only: a level that stickiness or the cooldown held back is no trigger.
    """
    by_level = np.minimum(level, confirmed) > level_from
    by_rise = deteriorated & (confirmed > LOW) & (level_from == LOW)
    by_days = backstop > level_from
    bits: NDArray[np.uint8] = by_level.view(np.uint8) | by_rise.view(np.uint8) << 1 | by_days.view(np.uint8) << 2
    return bits
