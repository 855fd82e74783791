"""New inputs out of known ones: bytes flipped, cut, repeated, spliced, and values replaced. Seeded and without I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

NUMBERS = (
    0, 1, -1, 2, 7, 8, 15, 16, 31, 63, 64, 127, 128, 255, 256, 4_095, 32_767, 65_535,
    2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63),
)  # fmt: skip
"""At the ends of what a field of some width holds."""

JSON_VALUES = (
    b"null", b"true", b"false", b"0", b"-0.0", b"1e999", b"-1e308", b"1e-400", b"0.1", b"1e12", b"-1e12",
    b"1000000000001", b"2147483648", b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 400,
    b"NaN", b"Infinity",    b'""', b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"',
    b'"' + b"x" * 129 + b'"', b'"' + b"\xc3\xa9" * 64 + b'"',
    b"[]", b"{}", b"[" * 600, b'{"a":' * 600, b'"1969-12-31T23:59:59Z"', b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59.9999999-23:59"', b'"2025-02-29T00:00:00Z"', b'"2024-02-29T24:00:00Z"',
    b'"2025-05-01T00:00:60Z"',
    b'"2025-05-01T00:00:00"', b'"2025-05-01 00:00:00.123456789+05:30"', b'"0001-01-01"', b'"9999-12-31"',
    b'"due"', b'"paid"',
    b'"session"', b'"u1"', b'"\\u001b[31m"', b'"LOW"', b'"HIGH"',
)  # fmt: skip
"""Values of JSON at its edges and beyond them, and at those of the types of events."""


@dataclass(frozen=True)
class Grammar:
    """What a mutation may know of a format: `tokens` that mean something, and, for text, that a value stands between
    `opening` and one of `closing`."""

    tokens: Sequence[bytes] = (b"\0", b"\xff" * 4)
    opening: bytes = b""
    closing: bytes = b""


BYTES = Grammar()
JSON = Grammar(JSON_VALUES, b":", b",}]")


def mutate(content: bytes, other: bytes, random: Random, grammar: Grammar, largest: int) -> bytes:
    """`content` after one to five changes, mostly one, some with a part of `other`; at most `largest` bytes."""
    data = bytearray(content)
    for _ in range(1 + int(random.random() ** 4 * 5)):
        if grammar.opening and random.random() < 0.6:
            _replace_value(data, random, grammar)
        else:
            random.choice(_CHANGES)(data, other, random, grammar)
    return bytes(data[:largest])


def _replace_value(data: bytearray, random: Random, grammar: Grammar) -> None:
    start = data.find(grammar.opening, random.randrange(len(data) + 1))
    if start < 0:
        start = data.find(grammar.opening)
    if start < 0:
        return
    start += len(grammar.opening)
    end = min((at for mark in grammar.closing if (at := data.find(mark, start)) >= 0), default=len(data))
    data[start:end] = random.choice(grammar.tokens)


def _flip(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _cut(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    start = random.randrange(len(data) + 1)
    del data[start : start + _length(random)]


def _end(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    del data[random.randrange(len(data) + 1) :]


def _repeat(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    start = random.randrange(len(data) + 1)
    part = data[start : start + _length(random)]
    data[start:start] = part * random.choice((1, 1, 1, 2, 8))


def _insert(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(1 + random.randrange(8))


def _token(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    at, token = random.randrange(len(data) + 1), random.choice(grammar.tokens)
    data[at : at + (len(token) if random.random() < 0.5 else 0)] = token


def _splice(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    at, start, length = random.randrange(len(data) + 1), random.randrange(len(other) + 1), _length(random)
    data[at : at + (length if random.random() < 0.5 else 0)] = other[start : start + length]


def _number(data: bytearray, other: bytes, random: Random, grammar: Grammar) -> None:  # noqa: ARG001
    letter, size = random.choice((("h", 2), ("i", 4), ("q", 8)))
    if len(data) >= size:
        bits = random.choice(NUMBERS) & (1 << 8 * size) - 1
        form = random.choice("<>") + letter.upper()
        struct.pack_into(form, data, random.randrange(len(data) - size + 1), bits)


def _length(random: Random) -> int:
    """Mostly short, at times long."""
    return 1 + int(random.random() ** 4 * 300)


_CHANGES: tuple[Callable[[bytearray, bytes, Random, Grammar], None], ...] = (
    _flip, _flip, _set, _cut, _end, _repeat, _insert, _token, _token, _splice, _number, _number,
)  # fmt: skip
