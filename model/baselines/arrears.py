"""Arrears as a scorecard without contracts counts them: the number that events report, one more for each day.

Deliberately not the rule of `events.contracts`: all events are taken for those of one contract, and no instalment is
kept. A feature of challengers, beside those that the rule gives (`events.contract_columns`).
"""

from __future__ import annotations

import numpy as np

from events.calendar import DAY_MS
from events.contracts import PAID_IN_FULL
from model.baselines.timeline import Floats, Timeline

INSTALMENT_DAYS = 30.4
"""Mean days between instalments: when the oldest unpaid one is paid, the next has so many fewer days past due."""


def overdue_days(timeline: Timeline) -> Floats:
    """Days past due right after each event, float64 `[n]`; 0 when nothing is known to be overdue.

    A `due` or `missed` states them (a `missed` never lowers them, a `due` without days past due changes nothing). A
    payment in full settles the oldest instalment and subtracts `INSTALMENT_DAYS`; a part payment settles nothing. A
    `reversed` payment restores its own days past due. Between events the number grows by one a day.
    """
    is_repayment = timeline.of_kind("repayments")
    at = np.flatnonzero(is_repayment)
    if not len(at):
        return np.zeros(len(timeline))
    marks = {
        name: timeline.has_category("repayments", "kind", frozenset({name}))[at]
        for name in ("due", "paid", "missed", "reversed")
    }
    stated = np.where(
        np.isnan(timeline.value("repayments", "days_past_due")[at]),
        timeline.value("repayments", "days_after_due_date")[at],
        timeline.value("repayments", "days_past_due")[at],
    )
    # A `due` event's own due date is in the future: only its days past due tell the age of the oldest debt.
    stated = np.where(marks["due"], timeline.value("repayments", "days_past_due")[at], stated)
    in_full = marks["paid"] & ~(_share(timeline)[at] < PAID_IN_FULL)
    owner, clock = timeline.owner[at], timeline.clock_ms[at]
    turn = _turn(owner)
    overdue, previous_ms = np.zeros(len(timeline.users)), np.zeros(len(timeline.users))
    after = np.zeros(len(at))
    by_turn = np.argsort(turn, kind="stable")
    for these in np.split(by_turn, np.flatnonzero(np.diff(turn[by_turn])) + 1):
        user = owner[these]
        kept = overdue[user]
        now = kept + np.where(kept > 0, (clock[these] - previous_ms[user]) / DAY_MS, 0.0)
        said = np.maximum(stated[these], 0.0)
        settled = np.maximum(np.fmin(now, np.where(said > 0, said, now)) - INSTALMENT_DAYS, 0.0)
        now = np.select(
            [marks["due"][these], marks["missed"][these] | marks["reversed"][these], in_full[these]],
            [np.where(np.isnan(said), now, said), np.fmax(now, said), settled],
            now,
        )
        overdue[user], previous_ms[user] = now, clock[these]
        after[these] = now
    return _carried(timeline, at, after)


def _share(timeline: Timeline) -> Floats:
    """Paid to due of each event, NaN where either is missing or nothing was due: then a payment counts as full."""
    due = timeline.value("repayments", "amount_due")
    return timeline.value("repayments", "amount_paid") / np.where(due > 0, due, np.nan)


def _turn(owner: np.ndarray) -> np.ndarray:
    """0, 1, 2 … within each run of the same user."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1) != 0)
    return np.arange(len(owner)) - np.repeat(starts, np.diff(starts, append=len(owner)))


def _carried(timeline: Timeline, at: np.ndarray, after: Floats) -> Floats:
    """`after`, known at the events `at`, carried to every event, and aged where something is overdue."""
    latest = np.maximum.accumulate(np.where(timeline.of_kind("repayments"), np.arange(len(timeline)), -1))
    known = latest >= timeline.start
    index = np.searchsorted(at, np.where(known, latest, at[0]))
    value = np.where(known, after[index], 0.0)
    age_days = (timeline.clock_ms - timeline.clock_ms[np.maximum(latest, 0)]) / DAY_MS
    return np.where(value > 0, value + age_days, 0.0)
