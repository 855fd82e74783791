"""Taiwan: the UCI "default of credit card clients", six monthly statements of 30,000 clients of 2005 as events.

The file's label is whether a client defaults in October 2005, so that is the only outcome; a client with label 0 is
known not to default then. No status column sets the default date.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from events.types import Event, Profile, Repayment, Transaction
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.recipe import Recipe
from model.datasets.tables import Row, age_band, find_file, midnight_ms, moment, read_rows, required

LABEL = "default.payment.next.month"
MONTH_ENDS = tuple(dt.date(2005, month, day) for month, day in ((4, 30), (5, 31), (6, 30), (7, 31), (8, 31), (9, 30)))
DEFAULT_DATE = dt.date(2005, 10, 30)
"""Day on which a default of October 2005 is dated: the last that is within 30 days of every event of 30 September."""
KNOWN_UNTIL = dt.date(2006, 4, 1)
"""Beyond 180 days after the last event, so that the label answers every horizon of every event."""

RECIPE = Recipe(rate_decay="cosine")
"""At a constant learning rate the validation AUC varies from epoch to epoch by as much as is left to gain;
docs/training.md has the effect of a falling rate."""

_FILES = ("UCI_Credit_Card.csv",)
_PAY = ("PAY_6", "PAY_5", "PAY_4", "PAY_3", "PAY_2", "PAY_0")
_BILL = tuple(f"BILL_AMT{number}" for number in range(6, 0, -1))
_PAID = tuple(f"PAY_AMT{number}" for number in range(6, 0, -1))
_FACTS = ("ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE")
_SEX = {1: "male", 2: "female"}
_EDUCATION = {1: "graduate_school", 2: "university", 3: "high_school", 4: "other"}
_MARRIAGE = {1: "married", 2: "single", 3: "other"}
_NO_CONSUMPTION, _PAID_DULY = -2, -1
_SPREAD_S = 6 * 3600
"""Clients' events of a day are spread over so many seconds by id: first all statements, then all repayments."""


class Taiwan:
    """A `Dataset`; the score of a client's last event, 30 days ahead, is the probability of the label."""

    name = "taiwan"
    headline_horizon_days = 30
    recipe = RECIPE

    def __init__(self, path: Path) -> None:
        self._file = find_file(Path(path), _FILES)
        columns = (*_FACTS, *_PAY, *_BILL, *_PAID, LABEL)
        rows = [self._numbers(row, columns) for row in read_rows(self._file, columns)]
        if not rows:
            raise DatasetError(f"{self._file} has no clients; fetch the file again")
        table = np.array(rows, dtype=np.float64)
        table = table[np.argsort(table[:, 0], kind="stable")]
        facts = len(_FACTS)
        self._facts: NDArray[np.float64] = table[:, :facts]
        self._pay, self._bill, self._paid = (table[:, facts + 6 * part : facts + 6 * part + 6] for part in range(3))
        self._label = table[:, -1].astype(np.int64)
        self._user_ids = [f"taiwan-{int(number):05d}" for number in table[:, 0]]
        if len(set(self._user_ids)) != len(rows):
            raise DatasetError(f"{self._file}: the same ID occurs twice; fetch the file again")

    def _numbers(self, row: Row, columns: tuple[str, ...]) -> list[float]:
        return [required(row, column, self._file) for column in columns]

    def events(self) -> Iterator[Event]:
        """A profile in April, then each month's statement (a transaction) and repayment of every client."""
        for client in range(len(self._user_ids)):
            yield self._profile(client)
        for month in range(len(MONTH_ENDS)):
            for client in range(len(self._user_ids)):
                yield self._statement(client, month)
            for client in range(len(self._user_ids)):
                yield self._repayment(client, month)

    def outcomes(self) -> dict[str, Outcome]:
        return {
            user_id: Outcome(
                user_id=user_id,
                default_date_ms=midnight_ms(DEFAULT_DATE) if label else None,
                observation_end_ms=midnight_ms(KNOWN_UNTIL),
                label=int(label),
            )
            for user_id, label in zip(self._user_ids, self._label, strict=True)
        }

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def _second(self, client: int) -> int:
        return client * _SPREAD_S // len(self._user_ids)

    def _profile(self, client: int) -> Profile:
        _, limit, sex, education, marriage, age = self._facts[client].tolist()
        return Profile(
            event_id=f"{self._user_ids[client]}-p",
            user_id=self._user_ids[client],
            occurred_at=moment(dt.date(2005, 4, 1), self._second(client)),
            age_band=age_band(age),
            sex=_SEX.get(int(sex)),
            education=_EDUCATION.get(int(education), f"unlisted_{int(education)}"),
            marital_status=_MARRIAGE.get(int(marriage), f"unlisted_{int(marriage)}"),
            product="card",
            credit_limit=limit,
        )

    def _statement(self, client: int, month: int) -> Transaction:
        """The month's net spending, from two statements and the payment between them; April has one statement only."""
        bill = float(self._bill[client, month])
        if month == 0:
            amount, category = -bill, "opening_balance"
        else:
            spent = bill - float(self._bill[client, month - 1]) + float(self._paid[client, month])
            amount, category = -spent, "spending" if spent >= 0 else "refund"
        return Transaction(
            event_id=f"{self._user_ids[client]}-t{month}",
            user_id=self._user_ids[client],
            occurred_at=moment(MONTH_ENDS[month], 6 * 3600 + self._second(client)),
            amount=amount,
            category=category,
            channel="card",
            balance_after=bill,
            credit_limit=float(self._facts[client, 1]),
        )

    def _repayment(self, client: int, month: int) -> Repayment:
        """The month's repayment status: each code of the file keeps a form of its own (see docs/data.md)."""
        status = int(self._pay[client, month])
        billed = None if month == 0 else max(float(self._bill[client, month - 1]), 0.0)
        kind: Literal["due", "paid", "missed"]
        days: float | None
        if status == _NO_CONSUMPTION:
            kind, billed, days = "due", 0.0, None
        elif status <= 0:
            kind, days = "paid", -1.0 if status == _PAID_DULY else 0.0
        else:
            kind, days = "missed", 30.0 * status
        return Repayment(
            event_id=f"{self._user_ids[client]}-r{month}",
            user_id=self._user_ids[client],
            occurred_at=moment(MONTH_ENDS[month], 13 * 3600 + self._second(client)),
            kind=kind,
            amount_due=billed,
            amount_paid=float(self._paid[client, month]),
            days_past_due=days,
            balance=float(self._bill[client, month]),
        )
