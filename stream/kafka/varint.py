"""Numbers of variable length in record batches, in zigzag coding. Pure."""

from __future__ import annotations

LONGEST = 10
"""Bytes of a number of 64 bits."""

_CONTINUES = 0x80


def decode_varint(buffer: memoryview | bytearray | bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position after it. Raises `ValueError` outside the buffer.

    aiokafka's function of this name reads on past the end of the buffer, wherever a size in it leads.
    """
    value = 0
    for count, byte in enumerate(buffer[position : position + LONGEST] if position >= 0 else b""):
        value |= (byte & 0x7F) << 7 * count
        if byte < _CONTINUES:
            return (value >> 1) ^ -(value & 1), position + count + 1
    raise ValueError(f"no number at byte {position} of {len(buffer)}")


def encode_varint(value: int) -> bytes:
    """The bytes of a number."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    written = bytearray()
    while value >= _CONTINUES:
        written.append(value & 0x7F | _CONTINUES)
        value >>= 7
    written.append(value)
    return bytes(written)
