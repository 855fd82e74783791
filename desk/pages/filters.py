"""The filters of the queue as they stand in an address and in a form. Pure.

An address may be anybody's: what is no filter of the queue is left out, and named, so that nobody takes a list for a
shorter one than it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec

from desk.cases.queue import QueueFilters
from events.reasons import CATALOGUE
from stream.case_records import CASE_STATUSES, CaseStatus
from stream.outputs import LEVELS, Level

NOBODY, ME = "-", "@me"
"""Values of `assignee` that are no account's name: no name begins so."""

NAMES = ("user", "level", "status", "product", "assignee", "reason", "age", "review")


@dataclass(frozen=True)
class Asked:
    """What a form of the queue holds. `wrong` are the parts of an address that are no filter."""

    user: str | None = None
    level: str | None = None
    status: str | None = None
    product: str | None = None
    assignee: str | None = None
    reason: str | None = None
    age: int | None = None
    review: bool = False
    wrong: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """As an address holds it, without a question mark; empty where nothing is asked for."""
        values: dict[str, Any] = {name: getattr(self, name) for name in NAMES if name != "review"}
        values["review"] = "1" if self.review else None
        return urlencode({name: value for name, value in values.items() if value is not None})

    def filters(self, me: str) -> QueueFilters:
        """As the queue takes them; `me` is the account that asks."""
        assignee = me if self.assignee == ME else self.assignee
        level: tuple[Level, ...] = tuple(one for one in LEVELS if one == self.level)
        status: tuple[CaseStatus, ...] = tuple(one for one in CASE_STATUSES if one == self.status)
        return QueueFilters(
            levels=frozenset(level),
            products=frozenset() if self.product is None else frozenset({self.product}),
            statuses=frozenset(status) or (frozenset(get_args(CaseStatus)) - {"closed"} if self.user else frozenset()),
            assignee=None if assignee == NOBODY else assignee,
            unassigned=assignee == NOBODY,
            reason=self.reason,
            least_age_days=None if self.age is None else float(self.age),
            review=self.review,
            user_id=self.user,
        )


def asked(query: Mapping[str, str]) -> Asked:
    """What an address asks for."""
    known = {"level": LEVELS, "status": CASE_STATUSES, "reason": tuple(CATALOGUE)}
    values: dict[str, Any] = {}
    wrong = []
    for name in NAMES:
        value = query.get(name, "").strip()
        if not value:
            continue
        if (name in known and value not in known[name]) or "\x00" in value or len(value) > 256:
            wrong.append(f"{name}={value[:40]}")
        elif name == "age":
            if value.isascii() and value.isdigit() and int(value) <= 36_500:
                values["age"] = int(value)
            else:
                wrong.append(f"{name}={value[:40]}")
        else:
            values[name] = True if name == "review" else value
    return Asked(**values, wrong=tuple(wrong))


def asked_of(filters: QueueFilters, me: str) -> Asked:
    """What the form shows for kept filters, as far as it can show them."""
    kept = msgspec.structs.asdict(filters)
    assignee = NOBODY if filters.unassigned else ME if filters.assignee == me else filters.assignee
    return Asked(
        user=filters.user_id,
        level=next(iter(sorted(kept["levels"])), None),
        status=next(iter(sorted(kept["statuses"])), None) if len(kept["statuses"]) == 1 else None,
        product=next(iter(sorted(kept["products"])), None),
        assignee=assignee,
        reason=filters.reason,
        age=None if filters.least_age_days is None else int(filters.least_age_days),
        review=filters.review,
    )
