"""What can be sent back and what cannot, and what is sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.types import MAX_VALUE_BYTES
from stream.dead_letters.letters import StoredLetter
from stream.dead_letters.sending_back import CHUNK_BYTES, CHUNK_LETTERS, InputTopic, _chunks, original, why_not
from stream.outputs import SENT_BACK_HEADER, LeftOut
from tests.examples import dead_letter

LETTER = dead_letter(reason="in_the_future", value=b"{}", headers=(("trace", b"1"), ("trace", None)))
INPUTS = {"activity": InputTopic(4, 100_000), "profiles": InputTopic(4)}
GONE = LeftOut(5, "0" * 64)


def reason_of(**fields: Any) -> str:
    found = why_not(msgspec.structs.replace(LETTER, **fields), INPUTS, "profiles")
    assert found is not None
    return found


def test_the_original_is_sent_with_a_mark_that_counts() -> None:
    assert why_not(LETTER, INPUTS, "profiles") is None
    assert original(LETTER) == (b"u", b"{}", [("trace", b"1"), ("trace", None), (SENT_BACK_HEADER, b"1")])
    _, _, headers = original(msgspec.structs.replace(LETTER, sent_back=4))
    assert headers[-1] == (SENT_BACK_HEADER, b"5")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"value": None, "left_out": {"value": GONE}}, "its value was too large"),
        ({"value": None, "headers": (), "left_out": {"value": GONE, "headers": GONE}}, "its headers and value"),
        ({"key": None, "value": None, "reason": "too_large"}, "batch that was not unpacked"),
        ({"reason": "duplicate_event_id"}, "scored twice"),
        ({"topic": "salaries"}, "none of the input topics"),
        ({"partition": 4}, "partition is not there"),
        ({"value": b" " * (MAX_VALUE_BYTES + 1)}, "refused again"),
        ({"key": b"k" * 100_000}, "max.message.bytes"),
        ({"headers": (("large", b"h" * 100_000),)}, "max.message.bytes"),
    ],
)
def test_what_cannot_be_sent_is_named(fields: dict[str, Any], why: str) -> None:
    assert why in reason_of(**fields)


def test_nobody_is_forgotten_by_a_dead_letter() -> None:
    """A letter that somebody else has written could ask for that; one of ours is never good for it."""
    assert "forget" in reason_of(topic="profiles", value=None)
    assert why_not(msgspec.structs.replace(LETTER, value=None), INPUTS, "profiles") is None


def test_chunks_are_bounded_in_number_and_bytes_and_leave_nothing_out() -> None:
    small = [StoredLetter(0, n, 0, LETTER) for n in range(CHUNK_LETTERS + 1)]
    assert [len(chunk) for chunk in _chunks(small)] == [CHUNK_LETTERS, 1]
    large = msgspec.structs.replace(LETTER, value=b" " * (CHUNK_BYTES // 4))
    chunks = list(_chunks(StoredLetter(0, n, 0, large) for n in range(10)))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert list(_chunks([])) == []
