"""What a serialised ONNX graph refers to, read from its bytes: operators of others, and tensors in other files.

ONNX Runtime acts on both while it opens a graph, and serving has no package `onnx` to ask first. Reads as much of
protobuf's wire format as that takes; knows nothing of bundles and opens no file.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD_DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})
"""Domains of the operators that the ONNX standard defines, the last for trees and the like; all others are extensions
of some runtime."""

MOST_FIELDS = 500_000
"""Fields of all messages, so that a file of tiny ones takes seconds at most. Graphs of this project have thousands."""

DEEPEST = 32
"""Levels of messages within messages. The graphs of this project have six; each graph in an attribute adds three."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_VARINT_BYTES, _VARINT_BITS = 10, 64
_LARGEST_TAG = 2**32 - 1

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
"""Fields of `onnx.proto` that hold a message in which something is looked at, by their numbers."""

_NODE_DOMAIN, _OPSET_DOMAIN, _EXTERNAL_DATA, _DATA_LOCATION = 7, 1, 13, 14


class GraphRefused(ValueError):
    """Bytes that are no ONNX graph, or one that refers to what is not in it; the message says to what."""


def check_graph(content: bytes) -> None:
    """Raise `GraphRefused` unless `content` is a graph that holds its tensors and uses standard operators only."""
    pending: list[tuple[str, memoryview, int]] = [("model", memoryview(content), 0)]
    graphs = fields = 0
    while pending:
        message, part, depth = pending.pop()
        if depth > DEEPEST:
            raise GraphRefused(f"its messages are nested more than {DEEPEST} deep")
        graphs += message == "graph"
        inner = _MESSAGES[message]
        for number, value in _fields(part):
            fields += 1
            if fields > MOST_FIELDS:
                raise GraphRefused(f"it has more than {MOST_FIELDS:,} fields")
            _check_field(message, number, value)
            if number in inner and isinstance(value, memoryview):
                pending.append((inner[number], value, depth + 1))
    if not graphs:
        raise GraphRefused("it holds no ONNX graph")


def _check_field(message: str, number: int, value: int | memoryview) -> None:
    if message == "tensor" and number == _EXTERNAL_DATA:
        raise GraphRefused("it keeps a tensor in another file (external data)")
    if message == "tensor" and number == _DATA_LOCATION and value != 0:
        raise GraphRefused("it keeps a tensor in another file (external data)")
    if (message, number) in (("node", _NODE_DOMAIN), ("opset", _OPSET_DOMAIN)):
        domain = bytes(value) if isinstance(value, memoryview) else b""
        if domain not in STANDARD_DOMAINS:
            name = domain[:64].decode(errors="backslashreplace")
            raise GraphRefused(f"it uses operators of {name!r}, which are none of ONNX's own")
    if message == "model" and _MESSAGES["model"].get(number) in ("function", "training"):
        raise GraphRefused(f"it holds a {_MESSAGES['model'][number]}, which no graph that is served needs")


def _fields(part: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: an integer, or the bytes of what has a length."""
    position, end = 0, len(part)
    while position < end:
        tag, position = _varint(part, position)
        number, kind = tag >> 3, tag & 7
        if not number or tag > _LARGEST_TAG:
            raise GraphRefused("it is no protobuf message: a field has an impossible number")
        if kind == _VARINT:
            value, position = _varint(part, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(part, position)
        elif kind in (_FIXED_64, _FIXED_32):
            size = 8 if kind == _FIXED_64 else 4
        else:
            raise GraphRefused(f"it is no protobuf message: a field is of type {kind}")
        if size > end - position:
            raise GraphRefused("it is no protobuf message: it ends within a field")
        yield number, part[position : position + size]
        position += size


def _varint(part: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(part[position : position + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & (1 << _VARINT_BITS) - 1, position + count + 1
    raise GraphRefused("it is no protobuf message: a number does not end")
