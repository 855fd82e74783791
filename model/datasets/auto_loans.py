"""Auto loans: monthly performance of US auto-loan securities (deals of 2017) as repayment events.

Days past due come from arithmetic of scheduled and paid amounts. The columns `Y`, `X`, `Xc`, `C`, `D` and `R` were
derived from each loan's whole life and are never read.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from operator import attrgetter
from pathlib import Path

from events.types import Event, Profile, Repayment
from model.datasets.cell_values import key_of
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.recipe import Recipe
from model.datasets.tables import Row, find_files, midnight_ms, moment, number, read_rows, text

MISSED_MONTHS = 3
"""Consecutive months without payment that are serious delinquency; the first day of the last of them is the default
date."""
_SCHEDULED = "reportingPeriodScheduledPaymentAmount"
_COLUMNS = (
    "assetNumber", "reportingPeriodBeginningDate", "originalLoanAmount", "originalLoanTerm",
    "originalInterestRatePercentage", "vehicleNewUsedCode", "vehicleValueAmount", "obligorCreditScore",
    "paymentToIncomePercentage", "obligorGeographicLocation", "reportingPeriodBeginningLoanBalanceAmount", _SCHEDULED,
    "initialLoanAge", "BAL1", "PMT1",
)  # fmt: skip
RECIPE = Recipe(rate_decay="cosine", compare_by="last", weight_decay=1e-5, wide=True, readout_dropout=0.2)
"""Of the current loans of a validation part only a few dozen default, too few to choose an epoch by. Training runs all
epochs, with regularisation against overfitting; docs/training.md has the effect of each choice."""
_FILE_NAMES = r".*\.csv(\.gz)?"
_LONGEST_AHEAD_DAYS = 360.0
_DAYS_PER_MONTH = 30.0


@dataclass(frozen=True)
class _Loan:
    user_id: str
    first_month: dt.date
    scheduled: float
    age_months: int
    opening_balance: float | None
    paid: tuple[float, ...]  # by month, as long as the loan is in the file
    balance: tuple[float | None, ...]
    profile: Profile
    spread_s: int  # seconds within a day, so that not all loans have their events at the same time

    def month_start(self, month: int) -> dt.date:
        """First day of a month counted from 0."""
        years, place = divmod(self.first_month.month - 1 + month, 12)
        return dt.date(self.first_month.year + years, place + 1, 1)

    def defaulted_month(self) -> int | None:
        """The third consecutive month without payment on an open balance, from 0."""
        run = 0
        for month, paid in enumerate(self.paid):
            run = run + 1 if paid <= 0 else 0
            if run == MISSED_MONTHS:
                return month
        return None


class AutoLoans:
    """A `Dataset`; `path` is one of the files or a folder that holds them."""

    name = "auto-loans"
    headline_horizon_days = 90
    only_while_current = True
    recipe = RECIPE

    def __init__(self, path: Path) -> None:
        path = Path(path)
        files = [path] if path.is_file() else find_files(path, _FILE_NAMES) if path.is_dir() else []
        if not files:
            raise DatasetError(f"{path} is no file and holds no *.csv or *.csv.gz; name the auto-loan file or folder")
        rows = [(file, row) for file in files for row in read_rows(file, _COLUMNS)]
        user_ids = _user_ids(rows, path)
        found = [_loan(row, file, position, user_ids[position]) for position, (file, row) in enumerate(rows)]
        self._loans = sorted((loan for loan in found if loan is not None), key=attrgetter("user_id"))
        self._deals = {user_id: _deal(file) for user_id, (file, _) in zip(user_ids, rows, strict=True)}

    def events(self) -> Iterator[Event]:
        """Profiles, then each month's bills on its first day and payments or missed payments on its last."""
        if not self._loans:
            return
        by_month: dict[dt.date, list[Event]] = {}
        for loan in self._loans:
            by_month.setdefault(loan.first_month, []).append(loan.profile)
            for month, events in _history(loan):
                by_month.setdefault(loan.month_start(month), []).extend(events)
        for start in sorted(by_month):
            yield from sorted(by_month.pop(start), key=attrgetter("occurred_at", "user_id"))

    def outcomes(self) -> dict[str, Outcome]:
        """Default dates by `MISSED_MONTHS`; a loan paid off or gone from the file is censored at that month's end."""
        outcomes = {}
        for loan in self._loans:
            month = loan.defaulted_month()
            outcomes[loan.user_id] = Outcome(
                user_id=loan.user_id,
                default_date_ms=None if month is None else midnight_ms(loan.month_start(month)),
                observation_end_ms=midnight_ms(loan.month_start(len(loan.paid))),
            )
        return outcomes

    def deals(self) -> dict[str, str]:
        """Each loan's deal, which is the name of its file, by user id."""
        return {loan.user_id: self._deals[loan.user_id] for loan in self._loans}

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)


def _deal(file: Path) -> str:
    return re.sub(r"(\.csv)?(\.gz)?$", "", file.name, flags=re.IGNORECASE)


def _user_ids(rows: list[tuple[Path, Row]], path: Path) -> list[str]:
    """One id per row: the asset number, with the deal before it where deals number different loans alike."""
    known: dict[str, list[tuple[Path, Row]]] = {}
    for file, row in rows:
        if text(row, "assetNumber") is None:
            raise DatasetError(f"{file}, line {row.line}: column assetNumber is empty; fetch the file again")
        for other, earlier in known.setdefault(row["assetNumber"], []):
            if other == file or all(row[column] == earlier[column] for column in _COLUMNS):
                raise DatasetError(
                    f"{path}: the same assetNumber {row['assetNumber']} occurs twice ({other.name}, {file.name}); "
                    "keep each file once"
                )
        known[row["assetNumber"]].append((file, row))
    return [
        f"auto-{row['assetNumber']}"
        if len(known[row["assetNumber"]]) == 1
        else f"auto-{_deal(file)}-{row['assetNumber']}"
        for file, row in rows
    ]


def _loan(row: Row, file: Path, position: int, user_id: str) -> _Loan | None:
    """A loan, None if the file never shows an open month of it."""
    first_month = _first_month(row, file)
    paid, balance = _months(row, file)
    scheduled = number(row, _SCHEDULED, file)
    if not paid or scheduled is None or scheduled <= 0:
        return None
    price, value = number(row, "originalLoanAmount", file), number(row, "vehicleValueAmount", file)
    age = number(row, "initialLoanAge", file)
    spread_s = position * 7 % (4 * 3600)
    profile = Profile(
        event_id=f"{user_id}-p",
        user_id=user_id,
        occurred_at=moment(first_month, 0),
        product={"1": "auto_loan_new", "2": "auto_loan_used"}.get(key_of(row["vehicleNewUsedCode"]), "auto_loan"),
        region=text(row, "obligorGeographicLocation"),
        tenure_months=age,
        bureau_score=number(row, "obligorCreditScore", file),
        interest_rate=number(row, "originalInterestRatePercentage", file),
        payment_to_income=number(row, "paymentToIncomePercentage", file),
        loan_to_value=round(price / value, 4) if price and value else None,
        term_months=number(row, "originalLoanTerm", file),
    )
    opening = number(row, "reportingPeriodBeginningLoanBalanceAmount", file)
    return _Loan(user_id, first_month, scheduled, int(age or 0), opening, paid, balance, profile, spread_s)


def _first_month(row: Row, file: Path) -> dt.date:
    written = row["reportingPeriodBeginningDate"]
    try:
        return dt.datetime.strptime(written, "%m-%d-%Y").date()
    except (TypeError, ValueError):
        raise DatasetError(
            f"{file}, line {row.line}: reportingPeriodBeginningDate {written!r} is not of the form MM-DD-YYYY; "
            "fetch the file again"
        ) from None


def _months(row: Row, file: Path) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """Payments and end balances of the months in which the loan was open; the last may end at zero."""
    paid: list[float] = []
    balances: list[float | None] = []
    # Deals are observed for different numbers of months; the columns say for how many.
    months = takewhile(lambda month: f"BAL{month}" in row and f"PMT{month}" in row, count(1))
    for month in months:
        payment, balance = number(row, f"PMT{month}", file), number(row, f"BAL{month}", file)
        if payment is None or (payment <= 0 and not balance):
            break
        paid.append(payment)
        balances.append(balance)
        if not balance:
            break
    return tuple(paid), tuple(balances)


def _history(loan: _Loan) -> Iterator[tuple[int, list[Event]]]:
    """Each month's events. `ahead` is money paid beyond the schedule so far; below zero it is in arrears."""
    ahead = 0.0
    opening = loan.opening_balance
    for month, (paid, balance) in enumerate(zip(loan.paid, loan.balance, strict=True)):
        yield month, _month_events(loan, month, ahead, paid, opening, balance)
        ahead += paid - loan.scheduled
        opening = balance


def _month_events(
    loan: _Loan, month: int, ahead: float, paid: float, opening: float | None, balance: float | None
) -> list[Event]:
    """The bill on the first day and the payment, or its absence, on the last, which is the due date.

    A month that earlier payments cover opens no instalment; without a payment it ends in a `due` of amount 0.
    """
    start, end = loan.month_start(month), loan.month_start(month + 1) - dt.timedelta(days=1)
    amount_due = round(max(loan.scheduled - max(ahead, 0.0), 0.0), 2)
    prefix, instalment_no = f"{loan.user_id}-{month:02d}", loan.age_months + month
    covered = amount_due == 0
    events: list[Event] = []
    if not covered:
        events.append(
            Repayment(
                event_id=f"{prefix}-due",
                user_id=loan.user_id,
                occurred_at=moment(start, 6 * 3600 + loan.spread_s),
                kind="due",
                amount_due=amount_due,
                days_past_due=max(_days_past_due(ahead, loan.scheduled), 0.0),
                balance=opening,
                instalment_no=instalment_no,
                due_date=end,
            )
        )
    events.append(
        Repayment(
            event_id=f"{prefix}-end",
            user_id=loan.user_id,
            occurred_at=moment(end, 18 * 3600 + loan.spread_s),
            kind="paid" if paid > 0 else "due" if covered else "missed",
            amount_due=amount_due,
            amount_paid=paid if paid > 0 else None,
            days_past_due=_days_past_due(ahead + paid - loan.scheduled, loan.scheduled),
            balance=balance,
            instalment_no=None if paid > 0 else instalment_no,  # money goes to the oldest instalment first
            due_date=None if covered else end,
        )
    )
    return events


def _days_past_due(ahead: float, scheduled: float) -> float:
    """Thirty days for each scheduled payment begun in arrears (1 % is rounding), below zero for each one in advance."""
    payments = ahead / scheduled
    if payments < 0:
        return _DAYS_PER_MONTH * math.ceil(-payments - 0.01) + 0.0
    return -min(_DAYS_PER_MONTH * math.floor(payments + 0.01), _LONGEST_AHEAD_DAYS) + 0.0
