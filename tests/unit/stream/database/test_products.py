"""What the sink takes of profiles is what workers take, and nothing that they refuse."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from events.types import MAX_VALUE_BYTES
from stream.database.products import ContractProduct, stated_product
from stream.kafka.record import RawRecord
from stream.scoring.intake import Intake, Taken

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOW_MS = round(NOW.timestamp() * 1000)
PROFILE: dict[str, Any] = {"event_id": "p-1", "user_id": "ann", "occurred_at": "2024-01-31T09:00:00Z"}


def stated(value: bytes | None, key: bytes | None = b"ann") -> ContractProduct | None:
    return stated_product(key, value, 3, 7, NOW_MS)


def test_what_a_profile_says_of_a_contract() -> None:
    said = PROFILE | {"product": "card", "contract_id": "loan-2", "income": 2_400}
    moment = dt.datetime(2024, 1, 31, 9, tzinfo=dt.UTC)
    expected = ContractProduct(
        user_id="ann", contract_id="loan-2", product="card", occurred_at=moment, source_partition=3, source_offset=7
    )
    assert stated(json.dumps(said).encode()) == expected
    unnamed = stated(json.dumps(PROFILE).encode())
    assert unnamed is not None
    assert (unnamed.contract_id, unnamed.product) == (None, None)


moments = st.sampled_from(
    [
        "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-01-01T23:59:59Z", "2026-01-02T00:00:01Z",
        "2024-01-31T09:00:00", "yesterday",
    ]
)  # fmt: skip
profiles = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.sampled_from(["e", "", "x" * 129]),
        "user_id": st.sampled_from(["ann", "bob", ""]),
        "occurred_at": moments,
        "product": st.none() | st.text(max_size=70) | st.integers(),
        "contract_id": st.sampled_from(["loan-2", "loan 2", "", "l" * 41, None]),
        "income": st.sampled_from([0, -1, "much"]),
        "note": st.sampled_from(["", "x" * MAX_VALUE_BYTES]),
    },
).map(lambda changes: json.dumps({**PROFILE, **changes}).encode())


@given(profiles | st.binary(max_size=8), st.sampled_from([b"ann", b"bob", b"\xff", None]))
@example(b'{"event_id": "p", "user_id": "ann", "occurred_at": "2024-01-31T09:00:00Z"', b"ann")
@example(b"[" * 60_000, b"ann")
def test_it_is_taken_where_a_worker_takes_it(value: bytes, key: bytes | None) -> None:
    outcome = Intake("profiles").take(RawRecord("profiles", 3, 7, NOW_MS, key, value, ()), NOW_MS)
    found = stated(value, key)
    assert (found is not None) == isinstance(outcome, Taken)
    if isinstance(outcome, Taken):
        event: Any = outcome.event
        assert found is not None
        assert (found.user_id, found.contract_id, found.product) == (event.user_id, event.contract_id, event.product)


def test_a_tombstone_says_nothing() -> None:
    assert stated(None) is None
