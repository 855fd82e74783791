from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.webhooks.sealing import SealError, SealingKeys

OLD, NEW = "aa" * 32, "bb" * 32


@given(st.binary(max_size=64), st.text(max_size=20))
def test_a_secret_opens_at_its_place_alone(secret: bytes, place: str) -> None:
    keys = SealingKeys.from_hex(NEW)
    sealed = keys.seal(secret, place)
    assert keys.open(sealed, place) == secret
    assert len(secret) < 3 or secret not in sealed
    with pytest.raises(SealError, match="was changed, or is of another place"):
        keys.open(sealed, place + "x")


@given(st.integers(4, 4 + 12 + 32 + 16 - 1))
def test_what_was_changed_does_not_open(at: int) -> None:
    keys = SealingKeys.from_hex(NEW)
    sealed = bytearray(keys.seal(b"s" * 32, "crm/secret"))
    sealed[at] ^= 1
    with pytest.raises(SealError):
        keys.open(bytes(sealed), "crm/secret")


def test_former_keys_open_and_the_first_one_seals() -> None:
    old, both = SealingKeys.from_hex(OLD), SealingKeys.from_hex(f"{NEW}, {OLD}")
    sealed = old.seal(b"secret", "crm/secret")
    assert both.open(sealed, "crm/secret") == b"secret"
    assert not both.is_newest(sealed)
    assert both.is_newest(both.seal(b"secret", "crm/secret"))
    with pytest.raises(SealError, match="a key that webhook_key does not name"):
        SealingKeys.from_hex(NEW).open(sealed, "crm/secret")


@pytest.mark.parametrize("text", ["", "ab", f"{OLD},", "zz" * 32, OLD + "aa"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SealError, match="64 hexadecimal digits") as caught:
        SealingKeys.from_hex(text)
    assert OLD not in str(caught.value)


def test_a_key_is_not_in_its_repr() -> None:
    assert OLD not in repr(SealingKeys.from_hex(OLD))
    assert repr(bytes.fromhex(OLD)) not in repr(SealingKeys.from_hex(OLD))
