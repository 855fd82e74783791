"""From typed events to the columns that a model's step graph takes. Training and serving share this definition.

The columns hold raw values; scaling, logarithms and masks are part of the exported graph. A missing value is NaN.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS, LAST_DAY, day_number
from events.contracts import NO_DAY
from events.repayments import RepaymentColumns, repayment_columns
from events.types import Event, Kind

TIME_COLUMNS: tuple[str, ...] = ("gap_days", "day_of_month", "day_of_year")
"""Appended after the numeric columns of every kind. `gap_days` is the time since the user's previous event of the
same kind, clipped at zero and NaN for the first; the others place the event in the month (1–31) and year (1–366)."""

NEVER_DAYS = -1.0
"""Age of a kind of event that a user never had."""

MISSING_CODE = 0
UNSEEN_CODE = 1
FIRST_CATEGORY_CODE = 2


CONTRACT_COLUMNS: tuple[str, ...] = (
    "contract_gap_days",
    "contract_days_past_due",
    "amount_due_to_usual",
    "amount_paid_to_usual",
    "balance_to_highest",
    "worst_days_past_due",
    "contracts_open",
    "contracts_past_due",
    "contracts_restructured",
    "exposure",
    "exposure_past_due_share",
)
"""What a repayment event says of its own contract and leaves of the borrower's others: `events.contract_columns`."""


@dataclass(frozen=True)
class Columns:
    """Which fields of a kind feed the model, in graph order.

    `numeric` are fields, `derived` follow from one event alone, `standing` from how the user's contracts stand.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    derived: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()

    @property
    def stated(self) -> int:
        """How many of the float inputs follow from an event alone; they are the first ones."""
        return len(self.numeric) + len(self.derived)

    @property
    def numeric_inputs(self) -> tuple[str, ...]:
        """Names of all float inputs, in order: fields, derived columns, columns of contracts, time columns.

        A bundle may take fewer; its manifest names them.
        """
        return (*self.numeric, *self.derived, *self.standing, *TIME_COLUMNS)


PROTECTED_FIELDS: frozenset[str] = frozenset({"age_band", "sex"})
"""Profile fields that no model takes unless a training run names them explicitly."""

COLUMNS: dict[Kind, Columns] = {
    "repayments": Columns(
        numeric=("amount_due", "amount_paid", "days_past_due", "balance"),
        categorical=("kind",),
        derived=("days_after_due_date",),
        standing=CONTRACT_COLUMNS,
    ),
    "transactions": Columns(
        numeric=("amount", "balance_after", "credit_limit"),
        categorical=("category", "channel", "counterparty_type"),
    ),
    "activity": Columns(numeric=("count", "duration_s"), categorical=("kind",)),
    "profiles": Columns(
        numeric=(
            "income",
            "tenure_months",
            "credit_limit",
            "origination_pd",
            "bureau_score",
            "interest_rate",
            "payment_to_income",
            "loan_to_value",
            "term_months",
        ),
        categorical=("employment", "education", "marital_status", "region", "product", "age_band", "sex"),
    ),
}

GAP_COLUMN: dict[Kind, int] = {kind: columns.numeric_inputs.index("gap_days") for kind, columns in COLUMNS.items()}
"""Position of `gap_days` among the numeric inputs of each kind."""

CONTRACT_PLACES = slice(COLUMNS["repayments"].stated, GAP_COLUMN["repayments"])
"""Positions of `CONTRACT_COLUMNS` among the numeric inputs of repayments."""


def positions(kind: Kind, names: Sequence[str]) -> NDArray[np.int64] | None:
    """Positions of a model's numeric inputs among those of a kind, int64 `[names]`; None where they are all, in order.

    Raises `ValueError` for one that is not known.
    """
    known = COLUMNS[kind].numeric_inputs
    return None if tuple(names) == known else np.array([known.index(name) for name in names], dtype=np.int64)


Vocabulary = Mapping[str, int]
"""Category string to code. `MISSING_CODE` and `UNSEEN_CODE` are implied and never listed."""

_NUMERIC_GETTERS = {kind: [attrgetter(name) for name in columns.numeric] for kind, columns in COLUMNS.items()}


class _Codes(dict[str | None, int]):
    """A vocabulary with its codes for missing and unseen."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.update(vocabulary)
        self[None] = MISSING_CODE

    def __missing__(self, _: str | None) -> int:
        return UNSEEN_CODE


def occurred_ms(events: Sequence[Event]) -> NDArray[np.int64]:
    """Event times in milliseconds since 1970-01-01 UTC, int64 `[n]`."""
    return np.array([round(event.occurred_at.timestamp() * 1000) for event in events], dtype=np.int64)


def due_ms(due_date: dt.date) -> int:
    """Start of the due date (UTC) in milliseconds since 1970-01-01."""
    return day_number(due_date) * DAY_MS


def numeric_columns(
    kind: Kind, events: Sequence[Any], times_ms: NDArray[np.int64], repayments: RepaymentColumns | None = None
) -> NDArray[np.float32]:
    """Numeric inputs that follow from the events alone, float32 `[n, numeric + derived]`, NaN where a field is missing.

    `events` are all of `kind`; `times_ms` are their `occurred_ms`, `repayments` their columns where these are there
    already.
    """
    values = np.empty((len(events), COLUMNS[kind].stated), dtype=np.float32)
    _fill_fields(kind, events, times_ms, repayments, values)
    return values


def _fill_fields(
    kind: Kind,
    events: Sequence[Any],
    times_ms: NDArray[np.int64],
    repayments: RepaymentColumns | None,
    values: NDArray[np.float32],
    credit_limit: NDArray[np.float64] | None = None,
) -> None:
    """Write the columns of `numeric_columns` into the first columns of `values`."""
    if not events:
        return
    columns = COLUMNS[kind]
    if kind != "repayments":
        for position, (name, get_field) in enumerate(zip(columns.numeric, _NUMERIC_GETTERS[kind], strict=True)):
            known = credit_limit if name == "credit_limit" else None
            values[:, position] = np.array(list(map(get_field, events)), dtype=np.float64) if known is None else known
        return
    told = repayment_columns(events, times_ms) if repayments is None else repayments
    for position, name in enumerate(columns.numeric):
        values[:, position] = getattr(told, name)
    due = np.where(told.due_day == NO_DAY, np.nan, told.due_day * float(DAY_MS))
    values[:, len(columns.numeric)] = (times_ms - due) / DAY_MS


def numeric_inputs(
    kind: Kind,
    events: Sequence[Any],
    times_ms: NDArray[np.int64],
    repayments: RepaymentColumns | None = None,
    credit_limit: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """All numeric inputs of events of `kind` in graph order, float32 `[n, numeric_inputs]`, with NaN for `gap_days` and
    the columns of contracts.

    These depend on the user's earlier events. The function `gap_days` computes the one, at `GAP_COLUMN[kind]`, and
    `events.contract_columns` the others, at `CONTRACT_PLACES`. Arguments are as for `numeric_columns`; `credit_limit`
    are the events' limits where these are there already.
    """
    values = np.empty((len(events), len(COLUMNS[kind].numeric_inputs)), dtype=np.float32)
    _fill_fields(kind, events, times_ms, repayments, values, credit_limit)
    values[:, COLUMNS[kind].stated : GAP_COLUMN[kind] + 1] = np.nan
    values[:, GAP_COLUMN[kind] + 1 :] = _calendar_columns(times_ms)
    return values


def gap_days(times_ms: NDArray[np.int64], previous_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """Days since the user's latest earlier event of the same kind, float32 `[n]`: not below zero, NaN without one.

    `previous_ms` is that event's time, or -1. The difference is taken in int64: a time in float32 is minutes off.
    """
    gap = np.maximum(times_ms - previous_ms, 0) / DAY_MS
    return np.where(previous_ms < 0, np.nan, gap).astype(np.float32)


def ages_days(latest_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """Days since the user's latest event of each kind, as of the latest of all: float32 `[n, kinds]`, -1 for none.

    `latest_ms` int64 `[n, kinds]` holds the latest event times, -1 for none. The ages depend on these times alone, so
    an event that arrives late does not change them.
    """
    newest_ms = latest_ms.max(axis=1, keepdims=True)
    ages = (newest_ms - latest_ms) / DAY_MS
    return np.where(latest_ms < 0, NEVER_DAYS, ages).astype(np.float32)


def time_columns(times_ms: NDArray[np.int64], previous_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """`TIME_COLUMNS` as float32 `[n, 3]`.

    `previous_ms` is as for `gap_days`.
    """
    values = np.empty((len(times_ms), len(TIME_COLUMNS)), dtype=np.float32)
    values[:, 0] = gap_days(times_ms, previous_ms)
    values[:, 1:] = _calendar_columns(times_ms)
    return values


def _calendar() -> NDArray[np.float32]:
    """Day of the month and of the year of each day from 1970-01-01 on, float32 `[LAST_DAY + 1, 2]`."""
    days = np.arange(LAST_DAY + 1).astype("datetime64[D]")
    of_month = days - days.astype("datetime64[M]").astype("datetime64[D]")
    of_year = days - days.astype("datetime64[Y]").astype("datetime64[D]")
    return np.stack((of_month.astype(np.float32), of_year.astype(np.float32)), axis=1) + np.float32(1)


_CALENDAR = _calendar()


def _calendar_columns(times_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """`day_of_month` and `day_of_year`, float32 `[n, 2]`, from a table, which is faster than converting dates."""
    return _CALENDAR.take(times_ms // DAY_MS, axis=0, mode="clip")


def categorical_columns(kind: Kind, events: Sequence[Any], vocabularies: Mapping[str, Vocabulary]) -> NDArray[np.int64]:
    """Category codes, int64 `[n, categorical]`.

    A missing value is `MISSING_CODE`; a value that the vocabulary of its field does not list is `UNSEEN_CODE`; a field
    without a vocabulary is not an input of this model and gives `MISSING_CODE`.
    """
    names = COLUMNS[kind].categorical
    codes = np.zeros((len(events), len(names)), dtype=np.int64)
    for position, name in enumerate(names):
        vocabulary = vocabularies.get(name)
        if vocabulary is None:
            continue
        lookup = _Codes(vocabulary)
        get_field = attrgetter(name)
        codes[:, position] = list(map(lookup.__getitem__, map(get_field, events)))
    return codes
