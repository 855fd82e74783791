"""Window features of the challengers: sums, counts and latest values of a user's events in rolling windows.

Computed from events up to and including the scored one; must not use the truth. For a kind of event that a user never
had, features are missing, not zero; a category that training has not seen has the unseen code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS, CONTRACT_COLUMNS
from events.types import KINDS, Kind
from model.baselines.arrears import overdue_days
from model.baselines.timeline import Flags, Floats, Ints, Timeline
from model.histories.sequences import Sequences, chunks_of_users

WINDOWS_DAYS = (7, 30, 90)
LAGS = 6
"""Latest repayments and transactions of a user with columns of their own, for instance six monthly statements."""
EVENTS_PER_CHUNK = 100_000
MOST_CATEGORIES = 16
"""A field with more categories is not counted category by category."""
YOUNG_DAYS = 90
"""The age of a history is clipped here, and totals over the whole history are per month: unbounded ones would be larger
in the test period than any in training."""
CODE_SUFFIX = "_code"
"""Ends the name of a feature that is a category, not a quantity."""
_LAGGED: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "repayments": (("amount_due", "amount_paid", "days_past_due", "days_after_due_date", "balance"), ("kind",)),
    "transactions": (("amount", "balance_after"), ("category",)),
}


@dataclass(frozen=True)
class Features:
    """`values` float32 `[rows, features]`, NaN where missing; `names` of the features, in order."""

    names: tuple[str, ...]
    values: NDArray[np.float32]

    @property
    def categorical(self) -> list[int]:
        """Positions of the features that are category codes."""
        return [position for position, name in enumerate(self.names) if name.endswith(CODE_SUFFIX)]


def window_features(sequences: Sequences, rows: Ints, advance: Callable[[int], Any] | None = None) -> Features:
    """Features right after each of `rows`, positions in the merged order, int64 `[r]`, ascending.

    `advance` is told how many more rows are done. The names depend on the vocabularies of `sequences` alone.
    """
    owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
    users = np.unique(owner)
    values: NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()
    for chunk in chunks_of_users(sequences, users, EVENTS_PER_CHUNK):
        piece = slice(*np.searchsorted(owner, [chunk[0], chunk[-1] + 1]))
        timeline = Timeline(sequences, chunk)
        columns = _columns(timeline, np.searchsorted(timeline.rows, rows[piece]))
        if values is None:
            names = tuple(columns)
            values = np.empty((len(rows), len(names)), dtype=np.float32)
        for position, column in enumerate(columns.values()):
            values[piece, position] = column
        if advance is not None:
            advance(piece.stop - piece.start)
    return Features(names, np.zeros((0, 0), dtype=np.float32) if values is None else values)


def _columns(timeline: Timeline, at: Ints) -> dict[str, Floats]:
    """All features by name, each float64 `[at]`."""
    windows = Windows(timeline, at)
    columns = {**_moment(timeline, at), **_profile(timeline, at), **_lags(timeline, at)}
    _repayments(timeline, windows, columns)
    _transactions(timeline, windows, columns)
    _activity(timeline, windows, columns)
    clock = timeline.clock_ms
    months = np.maximum((clock[at] - clock[timeline.start[at]]) / (30 * DAY_MS), 1.0)
    for name in columns:
        if name.endswith(("_count_all", "_sum_all")):
            columns[name] = columns[name] / months
    for name in ("spent", "income", "cash", "session"):
        quantity = "count" if name == "session" else "sum"
        columns[f"{name}_30_to_90"] = _ratio(3 * columns[f"{name}_{quantity}_30d"], columns[f"{name}_{quantity}_90d"])
        columns[f"{name}_30_to_all"] = _ratio(columns[f"{name}_{quantity}_30d"], columns[f"{name}_{quantity}_all"])
    return columns


class Windows:
    """Sums, means and maxima over the windows that end at the events `at`."""

    def __init__(self, timeline: Timeline, at: Ints) -> None:
        self.at = at
        self.begin = {days: timeline.begin(at, days) for days in (*WINDOWS_DAYS, None)}
        self._bounds = {days: np.stack([begin, at + 1], axis=1).ravel() for days, begin in self.begin.items()}
        arrived = timeline.sequences.latest[timeline.rows[at]]
        self._seen = {kind: arrived[:, position] > 0 for position, kind in enumerate(KINDS)}

    def total(self, kind: Kind, values: Floats, days: int | None) -> Floats:
        """Sum of the known among `values` `[n]`; 0 for an empty window, NaN for users who never showed `kind`."""
        return np.where(self._seen[kind], self._reduced(np.add, np.nan_to_num(values), days, 0.0), np.nan)

    def count(self, kind: Kind, marked: Flags, days: int | None) -> Floats:
        """Number of `marked` events, as `total` counts."""
        return self.total(kind, marked.astype(np.float64), days)

    def mean(self, values: Floats, days: int | None) -> Floats:
        """Mean of the known among `values`, NaN when the window holds none."""
        known = self._reduced(np.add, (~np.isnan(values)).astype(np.float64), days, 0.0)
        return self._reduced(np.add, np.nan_to_num(values), days, 0.0) / np.where(known > 0, known, np.nan)

    def most(self, values: Floats, days: int | None) -> Floats:
        """Largest of the known among `values`, NaN when the window holds none."""
        largest = self._reduced(np.maximum, np.where(np.isnan(values), -np.inf, values), days, -np.inf)
        return np.where(np.isfinite(largest), largest, np.nan)

    def _reduced(self, operation: np.ufunc, values: Floats, days: int | None, nothing: float) -> Floats:
        if not len(self.at):
            return np.zeros(0)
        # Every second segment lies between two windows and is discarded; the appended value ends the last window.
        reduced: Floats = operation.reduceat(np.append(values, nothing), self._bounds[days])[::2]
        return reduced


def _moment(timeline: Timeline, at: Ints) -> dict[str, Floats]:
    """The event's place in the week and the month, the time since the event before it, and the age of the history."""
    clock = timeline.clock_ms
    days = clock[at] // DAY_MS
    before = np.where(at > timeline.start[at], (clock[at] - clock[at - 1]) / DAY_MS, np.nan)
    dates = days.astype("datetime64[D]")
    columns = {
        "event_kind_code": timeline.kinds[at].astype(np.float64),
        "day_of_week": ((days + 3) % 7).astype(np.float64),
        "day_of_month": (dates - dates.astype("datetime64[M]")).astype(np.float64) + 1,
        "gap_days": before,
        "history_days": np.minimum((clock[at] - clock[timeline.start[at]]) / DAY_MS, YOUNG_DAYS),
    }
    for kind in KINDS:
        latest = _latest_where(timeline, timeline.of_kind(kind))[at]
        columns[f"days_since_{kind}"] = _days_since(timeline, at, latest)
    return columns


def _profile(timeline: Timeline, at: Ints) -> dict[str, Floats]:
    columns = {f"profile_{name}": timeline.latest_value("profiles", name, at) for name in COLUMNS["profiles"].numeric}
    codes = {
        f"profile_{name}{CODE_SUFFIX}": timeline.latest_code("profiles", name, at)
        for name in COLUMNS["profiles"].categorical
        if name in timeline.sequences.vocabularies["profiles"]
    }
    return {**columns, **codes}


def _lags(timeline: Timeline, at: Ints) -> dict[str, Floats]:
    columns = {}
    for kind, (numeric, categorical) in _LAGGED.items():
        for back in range(LAGS):
            for name in numeric:
                columns[f"{kind}_{name}_{back}"] = timeline.latest_value(kind, name, at, back)
            for name in categorical:
                columns[f"{kind}_{name}_{back}{CODE_SUFFIX}"] = timeline.latest_code(kind, name, at, back)
    for name in ("channel", "counterparty_type"):
        columns[f"transactions_{name}{CODE_SUFFIX}"] = timeline.latest_code("transactions", name, at)
    columns[f"activity_kind{CODE_SUFFIX}"] = timeline.latest_code("activity", "kind", at)
    return columns


def _repayments(timeline: Timeline, windows: Windows, columns: dict[str, Floats]) -> None:
    at, kind = windows.at, KINDS[0]
    marks = {
        name: timeline.has_category(kind, "kind", frozenset({name})) for name in ("due", "paid", "missed", "reversed")
    }
    due, paid = timeline.value(kind, "amount_due"), timeline.value(kind, "amount_paid")
    balance, past_due = timeline.value(kind, "balance"), timeline.value(kind, "days_past_due")
    after_due = timeline.value(kind, "days_after_due_date")
    late = np.where(marks["paid"], np.where(np.isnan(after_due), past_due, after_due), np.nan)
    columns["overdue_days"] = np.where(np.isnan(columns["days_since_repayments"]), np.nan, overdue_days(timeline)[at])
    for name, marked in marks.items():
        columns[f"days_since_{name}"] = _days_since(timeline, at, _latest_where(timeline, marked)[at])
    for days in (*WINDOWS_DAYS, None):
        label = _label(days)
        for name, marked in marks.items():
            columns[f"{name}_count_{label}"] = windows.count(kind, marked, days)
        columns[f"due_sum_{label}"] = billed = windows.total(kind, np.where(marks["due"], due, np.nan), days)
        columns[f"paid_sum_{label}"] = received = windows.total(kind, np.where(marks["paid"], paid, np.nan), days)
        columns[f"unpaid_{label}"] = billed - received + windows.total(kind, np.where(marks["reversed"], paid, 0), days)
        columns[f"past_due_mean_{label}"] = windows.mean(past_due, days)
        columns[f"past_due_max_{label}"] = windows.most(past_due, days)
        columns[f"late_mean_{label}"] = windows.mean(late, days)
        columns[f"late_max_{label}"] = windows.most(late, days)
    for days in WINDOWS_DAYS:
        columns[f"loan_balance_change_{_label(days)}"] = _change(timeline, windows, balance, days)
    for name in CONTRACT_COLUMNS:
        columns[name] = timeline.latest_value(kind, name, at)
    columns["unpaid_instalments"] = _ratio(columns["unpaid_all"], columns["repayments_amount_due_0"])
    columns["paid_to_balance"] = _ratio(columns["repayments_amount_paid_0"], columns["repayments_balance_0"])


def _transactions(timeline: Timeline, windows: Windows, columns: dict[str, Floats]) -> None:
    at, kind = windows.at, KINDS[1]
    amount, balance = timeline.value(kind, "amount"), timeline.value(kind, "balance_after")
    limit = timeline.value(kind, "credit_limit")
    spent, income = np.where(amount < 0, -amount, np.nan), np.where(amount > 0, amount, np.nan)
    cash = np.where(_is_cash(timeline), np.abs(amount), np.nan)
    used = balance / np.where(limit > 0, limit, np.nan)
    columns["utilisation"] = _carried(timeline, used)[at]
    for days in (*WINDOWS_DAYS, None):
        label = _label(days)
        for name, values in (("spent", spent), ("income", income), ("cash", cash)):
            columns[f"{name}_count_{label}"] = windows.count(kind, ~np.isnan(values), days)
            columns[f"{name}_sum_{label}"] = windows.total(kind, values, days)
            columns[f"{name}_mean_{label}"] = windows.mean(values, days)
            columns[f"{name}_max_{label}"] = windows.most(values, days)
        columns[f"utilisation_mean_{label}"] = windows.mean(used, days)
        columns[f"utilisation_max_{label}"] = windows.most(used, days)
    for days in WINDOWS_DAYS:
        columns[f"balance_change_{_label(days)}"] = _change(timeline, windows, balance, days)
        columns[f"utilisation_change_{_label(days)}"] = _change(timeline, windows, used, days)
    columns["spent_to_income_90d"] = _ratio(columns["spent_sum_90d"], columns["income_sum_90d"])
    columns["utilisation_above_usual"] = columns["utilisation_mean_30d"] - columns["utilisation_mean_all"]
    for name in ("category", "channel", "counterparty_type"):
        listed = timeline.sequences.vocabularies[kind].get(name, {})
        for category in sorted(listed) if len(listed) <= MOST_CATEGORIES else ():
            marked = timeline.has_category(kind, name, frozenset({category}))
            for days in (30, 90):
                columns[f"{name}_{category}_count_{_label(days)}"] = windows.count(kind, marked, days)


def _activity(timeline: Timeline, windows: Windows, columns: dict[str, Floats]) -> None:
    kind = KINDS[2]
    count, duration = timeline.value(kind, "count"), timeline.value(kind, "duration_s")
    for days in (*WINDOWS_DAYS, None):
        label = _label(days)
        for name in ("session", "inquiry", "device_change"):
            marked = timeline.has_category(kind, "kind", frozenset({name}))
            columns[f"{name}_count_{label}"] = windows.count(kind, marked, days)
            columns[f"{name}_sum_{label}"] = windows.total(kind, np.where(marked, count, np.nan), days)
        columns[f"duration_mean_{label}"] = windows.mean(duration, days)
        columns[f"duration_max_{label}"] = windows.most(duration, days)


def _label(days: int | None) -> str:
    return "all" if days is None else f"{days}d"


def _ratio(part: Floats, whole: Floats) -> Floats:
    return part / np.where(whole > 0, whole, np.nan)


def _latest_where(timeline: Timeline, marked: Flags) -> Ints:
    """Latest marked event of the same user up to each event, int64 `[n]`, -1 if there is none."""
    latest = np.maximum.accumulate(np.where(marked, np.arange(len(timeline)), -1))
    return np.where(latest >= timeline.start, latest, -1)


def _days_since(timeline: Timeline, at: Ints, latest: Ints) -> Floats:
    days = (timeline.clock_ms[at] - timeline.clock_ms[np.maximum(latest, 0)]) / DAY_MS
    return np.where(latest >= 0, days, np.nan)


def _carried(timeline: Timeline, values: Floats) -> Floats:
    """The latest known of `values` at each event, NaN before the first."""
    latest = _latest_where(timeline, ~np.isnan(values))
    return np.where(latest >= 0, values[np.maximum(latest, 0)], np.nan)


def _change(timeline: Timeline, windows: Windows, values: Floats, days: int) -> Floats:
    """The latest known value minus the one that was known just before the window, or the first in it."""
    known = _carried(timeline, values)
    begin = windows.begin[days]
    outside = np.where(begin > timeline.start[begin], known[np.maximum(begin - 1, 0)], np.nan)
    ahead = np.append(np.flatnonzero(~np.isnan(values)), len(values))
    first = ahead[np.searchsorted(ahead, begin)]
    inside = np.where(first <= windows.at, np.append(values, np.nan)[first], np.nan)
    change: Floats = known[windows.at] - np.where(np.isnan(outside), inside, outside)
    return change


def _is_cash(timeline: Timeline) -> Flags:
    """Movements of cash: the word "cash" or "atm" in the category, the channel or the counterparty."""
    marked = np.zeros(len(timeline), dtype=np.bool_)
    for name, listed in timeline.sequences.vocabularies["transactions"].items():
        cash = frozenset(category for category in listed if _CASH_WORDS & _words(category))
        marked |= timeline.has_category("transactions", name, cash)
    return marked


_CASH_WORDS = frozenset({"cash", "atm"})


def _words(label: str) -> set[str]:
    return set("".join(character if character.isalnum() else " " for character in label.casefold()).split())
