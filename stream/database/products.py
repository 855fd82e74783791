"""The product of each contract, as profiles state it: what the sink keeps of the topic `profiles`. Pure.

Workers keep no product: nothing in the stream depends on its name. So the sink takes it from where the lender says it.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from events.dates import time_outside
from events.types import MAX_VALUE_BYTES, Profile


class ContractProduct(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one profile says of a contract's product. `contract_id` is None for the unnamed contract, `product` where
    the profile has none."""

    user_id: str
    contract_id: str | None
    product: str | None
    occurred_at: dt.datetime
    source_partition: int
    source_offset: int


_decode = msgspec.json.Decoder(Profile).decode


def stated_profile(key: bytes | None, value: bytes | None, now_ms: int) -> Profile | None:
    """The profile in a record of `profiles`; None for one that workers refuse, by the rules of `stream.scoring.intake`,
    of which their dead letters tell. `now_ms` is wall time."""
    if key is None or value is None or len(value) > MAX_VALUE_BYTES:
        return None
    try:
        profile = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if profile.user_id.encode() != key or time_outside(round(profile.occurred_at.timestamp() * 1000), now_ms):
        return None
    return profile


def stated_product(
    key: bytes | None, value: bytes | None, partition: int, offset: int, now_ms: int
) -> ContractProduct | None:
    """What a record of `profiles` says of a product; None as of `stated_profile`."""
    profile = stated_profile(key, value, now_ms)
    if profile is None:
        return None
    return ContractProduct(
        user_id=profile.user_id,
        contract_id=profile.contract_id,
        product=profile.product,
        occurred_at=profile.occurred_at,
        source_partition=partition,
        source_offset=offset,
    )
