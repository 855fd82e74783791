"""Targets of what producers send: records of the input topics, and what else is read of them."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import numpy as np

from bench.fuzzing.mutation import JSON
from bench.fuzzing.target import NOW_MS, Check, Target, require
from bench.fuzzing.targets.outputs import check_letter
from events.calendar import DAY_MS
from events.columns import categorical_columns, numeric_inputs
from events.contracts import contract_days, initial_ledger, initial_standing
from events.dates import FUTURE_TOLERANCE_MS
from events.repayments import apply_repayments, repayment_columns
from events.types import AMOUNT_LIMIT, EVENT_TYPES, KINDS, Event, Forgetting, Kind, encode_event
from model.bundle import Bundle
from stream.database.products import stated_product
from stream.kafka.record import TOO_LARGE_HEADER, RawRecord
from stream.outputs import DeadLetter, RefusalCode
from stream.scoring.intake import Intake, Taken
from stream.settings import PRETRAINED_BUNDLE

EVENTS: dict[Kind, bytes] = {
    "repayments": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"due",'
    b'"amount_due":120.5,"amount_paid":0,"days_past_due":-3,"balance":900.25,"instalment_no":7,"due_date":"2025-05-04",'
    b'"contract_id":"loan-2","currency":"EUR"}',
    "transactions": b'{"event_id":"e2","user_id":"u1","occurred_at":"2025-05-01T10:11:12.345678+02:00","amount":-5.5,'
    b'"category":"cash","channel":"atm","balance_after":1e3,"credit_limit":2000,"counterparty_type":"merchant"}',
    "activity": b'{"event_id":"e3","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"session","count":2,'
    b'"duration_s":61.5}',
    "profiles": b'{"event_id":"e4","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","age_band":"30-39",'
    b'"sex":"female","income":2500,"employment":"employed","region":"region_01","tenure_months":12,"credit_limit":5000,'
    b'"origination_pd":0.02,"bureau_score":650,"interest_rate":0.1,"payment_to_income":0.2,"loan_to_value":0.8,'
    b'"term_months":36}',
}


def _event_seeds() -> list[bytes]:
    seeds = [bytes([number | key << 2]) + EVENTS[kind] for number, kind in enumerate(KINDS) for key in range(2)]
    return [*seeds, bytes([KINDS.index("profiles") | 32]), bytes([64]) + b"12"]


def _events() -> Check:
    intakes = {kind: Intake(kind) for kind in KINDS}
    vocabularies = Bundle.load(PRETRAINED_BUNDLE).vocabularies

    def check(content: bytes) -> str:
        head, value = content[:1], content[1:]
        kind = KINDS[head[0] & 3] if head else "repayments"
        headers = ((value[:4].decode("latin-1"), value[4:8]),) if head and head[0] & 16 else ()
        tombstone = bool(head) and bool(head[0] & 32)
        record = RawRecord(kind, 0, 5, NOW_MS, _key_of(head, value), None if tombstone else value, headers)
        if head and head[0] & 64:  # as if it stood for a batch that was not unpacked
            tombstone, record = False, RawRecord(kind, 0, 5, NOW_MS, None, None, ((TOO_LARGE_HEADER, value * 2),))
        outcome = intakes[kind].take(record, NOW_MS)
        again = intakes[kind].take_all([record], NOW_MS)
        require(
            again == (([outcome], []) if isinstance(outcome, Taken) else ([], [outcome])), "take_all differs from take"
        )
        if isinstance(outcome, DeadLetter):
            require(outcome.reason in get_args(RefusalCode), f"no refusal code: {outcome.reason}")
            check_letter(outcome)
            return f"{outcome.reason}: {outcome.message[:30]}"
        if isinstance(outcome.event, Forgetting):
            require(tombstone and kind == "profiles", "a user is forgotten without a tombstone")
            require(outcome.event.user_id.encode() == outcome.key, "another user is forgotten")
            return "forgotten"
        _check_taken(outcome, intakes[kind], vocabularies)
        return "taken"

    return check


def _products() -> Check:
    def check(content: bytes) -> str:
        key, value = _key_of(content[:1], content[1:]), content[1:]
        stated = stated_product(key, value, 0, 5, NOW_MS)
        taken = Intake("profiles").take(RawRecord("profiles", 0, 5, NOW_MS, key, value), NOW_MS)
        require(isinstance(taken, Taken) == (stated is not None), "a product of a profile that workers refuse, or none")
        if not isinstance(taken, Taken) or stated is None:
            return "refused"
        event: Any = taken.event
        require((stated.user_id, stated.product) == (event.user_id, event.product), "another product or user")
        return "product"

    return check


def _profile_seeds() -> list[bytes]:
    made = EVENTS["profiles"][:-1] + b',"contract_id":"loan-2","product":"auto_loan"}'
    return [bytes([key << 2]) + value for value in (EVENTS["profiles"], made) for key in range(2)]


def _key_of(head: bytes, value: bytes) -> bytes | None:
    """Mostly what the event's user is, or else the key would refuse all that is not the usual user's."""
    mode = (head[0] >> 2 & 3) if head else 0
    if mode == 1:
        try:
            return str(msgspec.json.decode(value)["user_id"]).encode()
        except Exception:
            return b"u1"
    return (b"u1", None, value[:8], None)[mode] if mode != 3 else b""


def _check_taken(taken: Taken, intake: Intake, vocabularies: Any) -> None:
    event: Event = taken.event
    encoded = encode_event(event)
    same = intake.take(RawRecord(taken.kind, 0, 5, NOW_MS, taken.key, encoded), NOW_MS)
    if not isinstance(same, Taken):
        raise AssertionError(f"what was taken is refused when it is written again: {same.message}")
    require(same.event == event, "what was taken is another when it is written again")
    require(same.occurred_ms == taken.occurred_ms, "what was taken is of another time when it is written again")
    require(type(event) is EVENT_TYPES[taken.kind], "an event of another kind")
    require(event.user_id.encode() == taken.key, "another user's key")
    require(0 <= taken.occurred_ms <= NOW_MS + FUTURE_TOLERANCE_MS, "a time that is not taken")
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, float):
            require(math.isfinite(value) and abs(value) <= AMOUNT_LIMIT, f"{name} is {value}")
        elif isinstance(value, str):
            require(len(value.encode()) <= 4 * 128, f"{name} is long")
    times = np.array([taken.occurred_ms], dtype=np.int64)
    columns = numeric_inputs(taken.kind, [event], times)
    require(not np.isinf(columns).any(), "an input of the model is infinite")
    codes = categorical_columns(taken.kind, [event], vocabularies[taken.kind])
    most = max((len(codes) for codes in vocabularies[taken.kind].values()), default=0) + 2
    require(bool(((codes >= 0) & (codes < most)).all()), "a category has a code of its own")
    if taken.kind == "repayments":
        times_ms = np.array([taken.occurred_ms], dtype=np.int64)
        standing, ledger = initial_standing(1), initial_ledger(1)
        apply_repayments(standing, ledger, repayment_columns([event], times_ms), times_ms // DAY_MS, times_ms // DAY_MS)
        days = contract_days(standing, times_ms // DAY_MS)
        require(bool((np.isnan(days) | (np.isfinite(days) & (days >= 0))).all()), "days past due are no number of days")


TARGETS = (
    Target("events", "records of the four input topics, through the intake", _event_seeds, _events, JSON),
    Target("products", "profiles, as sink and comparison read them of the topic", _profile_seeds, _products, JSON),
)
