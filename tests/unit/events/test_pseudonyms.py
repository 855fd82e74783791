"""Pseudonyms are what other implementations compute, and tell nothing of the id."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.pseudonyms import DIGITS, Pseudonyms
from events.types import EVENT_TYPES, Repayment, Transaction, keyed

GUIDE = Path(__file__).parents[3] / "docs" / "people.md"
KEY = Pseudonyms.from_hex("p1", bytes(range(32)).hex())
AT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def test_the_vectors_of_the_guide() -> None:
    vectors = re.findall(r"^\| `([^`]*)` \| `(p\d-[0-9a-f]+)` \|$", GUIDE.read_text(), re.MULTILINE)
    assert len(vectors) >= 4
    assert {user_id: KEY.of(user_id) for user_id, _ in vectors} == dict(vectors)
    assert KEY.key.hex() in GUIDE.read_text()


def test_the_test_case_of_rfc_4231() -> None:
    """Case 6, whose key is long enough; its digest begins so."""
    key = Pseudonyms("x", b"\xaa" * 131)
    assert key.of("Test Using Larger Than Block-Size Key - Hash Key First") == "x-60e431591ee0b67f0d8a26aacbf5b77f"


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128))
def test_equal_ids_and_only_those_have_equal_pseudonyms(one: str, other: str) -> None:
    assert (KEY.of(one) == KEY.of(other)) == (one == other)
    assert KEY.of(one) != Pseudonyms("p1", KEY.key[::-1]).of(one)
    assert KEY.covers(KEY.of(one))
    assert not Pseudonyms("p2", KEY.key).covers(KEY.of(one))


def test_an_event_keeps_all_but_who_it_is_about() -> None:
    event = Transaction(event_id="u7-000123", user_id="u7", occurred_at=AT, amount=-5.0, category="groceries")
    name = KEY.of("u7")
    assert KEY.put_on(event) == Transaction(
        event_id=f"{name}-000123", user_id=name, occurred_at=AT, amount=-5.0, category="groceries"
    )
    with pytest.raises(ValueError, match="is a pseudonym of this key already"):
        KEY.put_on(KEY.put_on(event))


def test_published_events_are_keyed_by_pseudonyms() -> None:
    events = [
        Transaction(event_id="t1", user_id="u7", occurred_at=AT, amount=1.0),
        Repayment(event_id="r1", user_id="u8", occurred_at=AT, kind="due", amount_due=7.0),
    ]
    assert {event.KIND for event in events} < set(EVENT_TYPES)
    assert list(KEY.put_on_all(keyed(events))) == list(keyed(map(KEY.put_on, events)))
    with_more = ("transactions", b"u7", b'{"event_id":"t","user_id":"u7","occurred_at":"2024-01-01T00:00:00Z","amount":1,"name":"Ann"}', 0)  # fmt: skip  # noqa: E501
    ((_, _, value, _),) = KEY.put_on_all([with_more])
    assert b"Ann" not in value


@pytest.mark.parametrize(
    ("key_id", "digits", "said"),
    [
        ("p1", "00" * 31, "has 31 bytes"),
        ("p1", "correct horse battery staple", "is not in hexadecimal digits"),
        ("P1", "00" * 32, "the key id 'P1'"),
        ("p-1", "00" * 32, "the key id"),
        ("", "00" * 32, "the key id"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_repeated(key_id: str, digits: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Pseudonyms.from_hex(key_id, digits)
    assert digits not in str(error.value)
    assert KEY.key.hex() not in repr(KEY)
    assert str(KEY.key) not in repr(KEY)


def test_a_pseudonym_fits_into_an_id() -> None:
    assert len(Pseudonyms("a" * 16, KEY.key).of("x")) == 16 + 1 + DIGITS <= 128
