"""Numbers are read as aiokafka writes them, and nothing outside the buffer is."""

from __future__ import annotations

import pytest
from aiokafka.record.util import encode_varint
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.varint import decode_varint


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=5), st.binary(max_size=5))
def test_a_number_is_read_as_it_was_written(number: int, before: bytes, after: bytes) -> None:
    written = bytearray()
    encode_varint(number, written.append)
    for buffer in (before + written + after, memoryview(before + written + after)):
        assert decode_varint(buffer, len(before)) == (number, len(before) + len(written))


@pytest.mark.parametrize(
    ("buffer", "position"), [(b"", 0), (b"\x01", 1), (b"\x01", 2**40), (b"\x01", -1), (b"\x80", 0)]
)
def test_outside_the_buffer_is_no_number(buffer: bytes, position: int) -> None:
    with pytest.raises(ValueError, match=f"no number at byte {position} of {len(buffer)}"):
        decode_varint(buffer, position)


def test_a_number_that_does_not_end_is_none() -> None:
    with pytest.raises(ValueError, match="no number"):
        decode_varint(b"\xff" * 20, 0)
