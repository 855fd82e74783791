"""The events that lenders publish: one typed definition for decoding, validation and the published JSON Schema.

Both `stream` and `model` read this module; it must import neither of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

FORMATS_VERSION = "2.0.0"
"""Version of the formats of all records, those of `stream.outputs` too. What a change demands of it is in
docs/topics.md; a test compares the formats with those of the last release."""

AMOUNT_LIMIT = 1e12
"""Largest absolute amount, in the account's currency, that an event may carry."""

MAX_VALUE_BYTES = 65_536
"""A larger record is refused without being decoded; events are far smaller."""

Identifier: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
ContractId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=40, pattern="^[!-~]+$")]
"""Up to 40 printable ASCII characters without blanks, so that a state row can hold it as it is."""

Currency: TypeAlias = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
"""ISO 4217."""

Label: TypeAlias = Annotated[str, Meta(max_length=64)]
Amount: TypeAlias = Annotated[float, Meta(ge=-AMOUNT_LIMIT, le=AMOUNT_LIMIT)]
NonNegativeAmount: TypeAlias = Annotated[float, Meta(ge=0, le=AMOUNT_LIMIT)]
Days: TypeAlias = Annotated[float, Meta(ge=-36_500, le=36_500)]
Timestamp: TypeAlias = Annotated[dt.datetime, Meta(tz=True)]

Kind: TypeAlias = Literal["repayments", "transactions", "activity", "profiles"]
"""The four kinds of event. A kind is also the last part of its topic's name."""

KINDS: tuple[Kind, ...] = ("repayments", "transactions", "activity", "profiles")
"""Every kind, in the order of the per-kind columns of a state row (`KINDS.index(kind)`)."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What every event carries.

    `occurred_at` is event time with a UTC offset (RFC 3339). `None` in an optional field, or none at all, means "not
    known", never zero.
    """

    event_id: Identifier
    user_id: Identifier
    occurred_at: Timestamp

    KIND: ClassVar[Kind]


class Repayment(Event, frozen=True, kw_only=True, gc=False):
    """What became of a contract or of one of its instalments: it fell due, was paid (in full or in part), was missed, a
    payment was reversed; the contract was opened (with `amount` disbursed and its `term_months`), restructured, written
    off or closed.

    `contract_id` tells a borrower's contracts apart; without it the event belongs to the borrower's only, unnamed
    contract. `days_past_due` (DPD) counts days at `occurred_at`; a negative number is a payment ahead of its due date.
    `balance` is what is outstanding on the contract. All amounts are in `currency`, of which a contract has one.
    """

    KIND: ClassVar[Kind] = "repayments"

    kind: Literal["due", "paid", "missed", "reversed", "opened", "restructured", "written_off", "closed"]
    amount_due: NonNegativeAmount | None = None
    amount_paid: NonNegativeAmount | None = None
    days_past_due: Days | None = None
    balance: Amount | None = None
    instalment_no: Annotated[int, Meta(ge=0, le=2_000_000_000)] | None = None
    due_date: dt.date | None = None
    contract_id: ContractId | None = None
    currency: Currency | None = None
    amount: NonNegativeAmount | None = None
    term_months: Annotated[float, Meta(ge=0, le=1_200)] | None = None


class Transaction(Event, frozen=True, kw_only=True, gc=False):
    """A card or account movement. `amount` is signed: negative is money out, positive is money in."""

    KIND: ClassVar[Kind] = "transactions"

    amount: Amount
    category: Label | None = None
    channel: Label | None = None
    balance_after: Amount | None = None
    credit_limit: NonNegativeAmount | None = None
    counterparty_type: Label | None = None
    contract_id: ContractId | None = None
    currency: Currency | None = None


class Activity(Event, frozen=True, kw_only=True, gc=False):
    """Something that a user did and that moved no money: an app session, a credit inquiry, a change of device."""

    KIND: ClassVar[Kind] = "activity"
    # About no contract. The other kinds have fields of these names.
    contract_id: ClassVar[None] = None
    currency: ClassVar[None] = None

    kind: Literal["session", "inquiry", "device_change"]
    count: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    duration_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class Profile(Event, frozen=True, kw_only=True, gc=False):
    """Facts about the borrower and the contract that change rarely; a new profile replaces the one before.

    `origination_pd` is the probability of default estimated at origination; `rate` fields are fractions, not percent.
    `age_band` and `sex` are for reports; they are a model's input only where a training run asks for them.
    """

    KIND: ClassVar[Kind] = "profiles"

    age_band: Label | None = None
    sex: Label | None = None
    income: NonNegativeAmount | None = None
    employment: Label | None = None
    education: Label | None = None
    marital_status: Label | None = None
    region: Label | None = None
    product: Label | None = None
    tenure_months: Annotated[float, Meta(ge=0, le=1_200)] | None = None
    credit_limit: NonNegativeAmount | None = None
    origination_pd: Annotated[float, Meta(ge=0, le=1)] | None = None
    bureau_score: Annotated[float, Meta(ge=0, le=2_000)] | None = None
    interest_rate: Annotated[float, Meta(ge=0, le=10)] | None = None
    payment_to_income: Annotated[float, Meta(ge=0, le=100)] | None = None
    loan_to_value: Annotated[float, Meta(ge=0, le=100)] | None = None
    term_months: Annotated[float, Meta(ge=0, le=1_200)] | None = None
    contract_id: ContractId | None = None
    currency: Currency | None = None


class Forgetting(Event, frozen=True, kw_only=True, gc=False):
    """That a borrower is to be forgotten: what a tombstone in `profiles` comes to (no value, and the `user_id` as key).

    No lender sends it as JSON. `event_id` is the place of the record, `occurred_at` the record's own time.
    """

    KIND: ClassVar[Kind] = "profiles"
    contract_id: ClassVar[None] = None
    currency: ClassVar[None] = None


EVENT_TYPES: dict[Kind, type[Event]] = {
    "repayments": Repayment,
    "transactions": Transaction,
    "activity": Activity,
    "profiles": Profile,
}

_ENCODER = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """JSON bytes of an event, as producers publish it."""
    return _ENCODER.encode(event)


KeyedEvent: TypeAlias = tuple[Kind, bytes, bytes, int]
"""Kind, record key, record value and event time in milliseconds: what a producer needs to publish an event."""


def keyed(events: Iterable[Event]) -> Iterator[KeyedEvent]:
    """Typed events as they are published."""
    for event in events:
        yield event.KIND, event.user_id.encode(), encode_event(event), round(event.occurred_at.timestamp() * 1000)
