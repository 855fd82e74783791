"""Berka: the PKDD'99 Czech bank. The account movements of 682 borrowers until their loan was granted.

The outcome is known only by the loan's status, so the default date is a convention (`DEFAULT_AFTER_DAYS`). Events after
the grant are left out, because later movements reveal the outcome.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from events.types import Event, Profile, Repayment, Transaction
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.tables import Row, age_band, find_file, midnight_ms, moment, read_rows, required, text

BAD_STATUSES = frozenset("BD")
"""B: ended, not paid. D: running, in debt. A and C are their good counterparts."""
DEFAULT_AFTER_DAYS = 90
"""From the grant: the first instalment falls due after a month, so 60 days past due are reached after 90 at the
earliest."""
KNOWN_DAYS = 365
"""Observation end, from the grant. The status is final, so any time of more than 180 days makes every horizon of every
event known."""

_LOANS = ("loan_id", "account_id", "date", "amount", "duration", "payments", "status")
_MOVES = ("trans_id", "account_id", "date", "type", "operation", "amount", "balance", "k_symbol", "bank")
_GRANT_SECOND = 86_399
_MOVES_FILES = (("trans_1993_to_199403.asc",), ("trans_preloan_1997_98.csv",), ("trans.asc",))
_CREDITS = frozenset({"PRIJEM", "credit"})
_DEBITS = frozenset({"VYDAJ", "VYBER", "withdrawal", "withdrawal in cash"})
_CHANNELS = {
    "VKLAD": "cash", "credit in cash": "cash", "VYBER": "cash", "withdrawal in cash": "cash",
    "PREVOD Z UCTU": "transfer", "collection from another bank": "transfer",
    "PREVOD NA UCET": "transfer", "remittance to another bank": "transfer",
    "VYBER KARTOU": "card", "credit card withdrawal": "card",
}  # fmt: skip
_PURPOSES = {
    "SIPO": "household", "household": "household", "SLUZBY": "statement", "payment for statement": "statement",
    "UVER": "loan_payment", "loan payment": "loan_payment", "POJISTNE": "insurance", "insurrance payment": "insurance",
    "UROK": "interest", "interest credited": "interest", "DUCHOD": "pension", "old-age pension": "pension",
    "SANKC. UROK": "penalty_interest", "sanction interest if negative balance": "penalty_interest",
}  # fmt: skip


class Berka:
    """A `Dataset`; `path` is the folder with the bank's tables. Loans of 1994-04 to 1996 have few movements or none."""

    name = "berka"
    headline_horizon_days = 180

    def __init__(self, path: Path) -> None:
        path = Path(path)
        if not path.is_dir():
            raise DatasetError(f"{path} is not a folder; name the one with loan.asc, account.asc and the other tables")
        self._folder = path
        self._loans = {row["account_id"]: row for row in self._table("loan.asc", _LOANS)}
        self._accounts = {row["account_id"]: row for row in self._table("account.asc", ("account_id", "date"))}
        owners = self._table("disp.asc", ("client_id", "account_id", "type"))
        self._owners = {row["account_id"]: row["client_id"] for row in owners if row["type"] == "OWNER"}
        clients = self._table("client.asc", ("client_id", "birth_number", "district_id"))
        self._clients = {row["client_id"]: row for row in clients}
        self._districts = {row["A1"]: row["A3"] for row in self._table("district.asc", ("A1", "A3"))}
        self._granted = {account: _date(row["date"], path) for account, row in self._loans.items()}
        lost = [account for account in self._loans if self._owners.get(account) not in self._clients]
        if lost or not self._loans.keys() <= self._accounts.keys():
            raise DatasetError(f"{path}: account, disp and client do not cover every loan; fetch the folder again")

    def events(self) -> Iterator[Event]:
        """Profiles at the opening of accounts and at the grant, movements before the grant, and the loan granted."""
        collected: list[Event] = []
        for account in self._loans:
            collected.append(self._profile(account, granted=False))
            collected.append(self._profile(account, granted=True))
            collected.append(self._grant(account))
        collected.extend(self._movements())
        collected.sort(key=attrgetter("occurred_at", "user_id"))
        yield from collected

    def outcomes(self) -> dict[str, Outcome]:
        outcomes = {}
        for account, loan in self._loans.items():
            bad = loan["status"] in BAD_STATUSES
            granted_ms = midnight_ms(self._granted[account])
            user_id = _user_id(account)
            outcomes[user_id] = Outcome(
                user_id=user_id,
                default_date_ms=granted_ms + DEFAULT_AFTER_DAYS * 86_400_000 if bad else None,
                observation_end_ms=granted_ms + KNOWN_DAYS * 86_400_000,
                label=int(bad),
            )
        return outcomes

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def _table(self, name: str, columns: tuple[str, ...]) -> list[Row]:
        return list(read_rows(find_file(self._folder, (name,)), columns, delimiter=";"))

    def _movements(self) -> Iterator[Transaction]:
        """Movements of borrowers' accounts before the day of the grant, spread over the day in the file's order."""
        seen: set[str] = set()
        places: defaultdict[tuple[str, dt.date], int] = defaultdict(int)
        for names in _MOVES_FILES:
            try:
                file = find_file(self._folder, names)
            except DatasetError:
                continue
            for row in read_rows(file, _MOVES, delimiter=";"):
                granted = self._granted.get(row["account_id"])
                if granted is None or row["trans_id"] in seen:
                    continue
                date = _date(row["date"], file)
                if date >= granted:
                    continue
                seen.add(row["trans_id"])
                place = places[row["account_id"], date] = places[row["account_id"], date] + 1
                yield _movement(row, file, moment(date, 8 * 3600 + 60 * place))
        if not seen:
            raise DatasetError(f"{self._folder} holds no movements of borrowers' accounts; see docs/data.md")

    def _profile(self, account: str, granted: bool) -> Profile:
        client = self._clients[self._owners[account]]
        opened = _date(self._accounts[account]["date"], self._folder)
        date = self._granted[account] if granted else opened
        birth, sex = _birth(client["birth_number"], self._folder)
        loan = self._loans[account]
        return Profile(
            event_id=f"{_user_id(account)}-p{int(granted)}",
            user_id=_user_id(account),
            occurred_at=moment(date, _GRANT_SECOND - 1 if granted else 0),
            age_band=age_band((date - birth).days / 365.25),
            sex=sex,
            region=self._districts.get(client["district_id"]),
            product="loan" if granted else "current_account",
            tenure_months=round((date - opened).days / 30.44, 1),
            term_months=required(loan, "duration", self._folder) if granted else None,
        )

    def _grant(self, account: str) -> Repayment:
        """The loan as it is granted: its instalment and its balance. It has no due date, so no instalment is opened."""
        loan = self._loans[account]
        return Repayment(
            event_id=f"{_user_id(account)}-r",
            user_id=_user_id(account),
            occurred_at=moment(self._granted[account], _GRANT_SECOND),
            kind="due",
            amount_due=required(loan, "payments", self._folder),
            days_past_due=0.0,
            balance=required(loan, "amount", self._folder),
        )


def _movement(row: Row, file: Path, occurred_at: dt.datetime) -> Transaction:
    """One movement; both languages of the files end in one vocabulary."""
    amount = required(row, "amount", file)
    if row["type"] not in _CREDITS | _DEBITS:
        raise DatasetError(f"{file}, line {row.line}: type {row['type']!r} is none of the known; fetch the file again")
    incoming = row["type"] in _CREDITS
    purpose = _PURPOSES.get(row["k_symbol"].strip())
    return Transaction(
        event_id=f"berka-t{row['trans_id']}",
        user_id=_user_id(row["account_id"]),
        occurred_at=occurred_at,
        amount=amount if incoming else -amount,
        category=purpose or ("deposit" if incoming else "withdrawal"),
        channel=_CHANNELS.get(row["operation"].strip()),
        balance_after=required(row, "balance", file),
        counterparty_type="other_bank" if text(row, "bank") else None,
    )


def _user_id(account: str) -> str:
    return f"berka-{account}"


def _date(text: str, file: Path) -> dt.date:
    """A date written as YYMMDD in the 1900s."""
    try:
        return dt.date(1900 + int(text[:2]), int(text[2:4]), int(text[4:6]))
    except ValueError:
        raise DatasetError(f"{file}: {text!r} is no date of the form YYMMDD; fetch the file again") from None


def _birth(text: str, file: Path) -> tuple[dt.date, str]:
    """Birth date and sex: the month of a woman's birth number is 50 higher."""
    month = text[2:4]
    if month.isdigit() and int(month) > 50:
        return _date(f"{text[:2]}{int(month) - 50:02d}{text[4:]}", file), "female"
    return _date(text, file), "male"
