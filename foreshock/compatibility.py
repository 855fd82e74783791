"""Whether records in one version of a format can be read with another: JSON Schemas compared, keyword by keyword.

Records come in from producers that were written for the last release, and go out to readers that were: what either
writes, the other must read. The comparison errs on the side of caution, and refuses keywords that it does not know. No
I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from foreshock.schemas import Direction, Schema

Formats: TypeAlias = Mapping[str, Schema]
"""Schemas by the name of their format."""

Change: TypeAlias = Literal["none", "words", "compatible", "breaking"]

_WORDS = {"$schema", "$id", "$comment", "title", "description", "examples"}
"""Keywords that say nothing of what is valid."""

_KEYWORDS = _WORDS | {
    "$ref", "$defs", "default", "type", "anyOf", "enum", "const", "properties", "required", "additionalProperties",
    "items", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "pattern", "format",
}  # fmt: skip

_TYPES = ("null", "boolean", "number", "string", "array", "object")
_LONGEST = 64
"""How many schemas deep a field may be; deeper ones refer to themselves."""


class UncomparableSchema(ValueError):
    """A schema with a keyword that the comparison does not know; the message names field and keyword."""


def incompatibilities(old: Schema, new: Schema, direction: Direction) -> list[str]:
    """What makes the `new` version of a format incompatible with the `old` one, as `field: what`; empty when nothing.

    Coming in, the new release must read what producers for the old one write; going out, readers for the old one must
    read what the new one writes. A field that is gone is incompatible both ways: what it said is lost in silence.

    Raises `UncomparableSchema`.
    """
    fields = dict.fromkeys(_fields(new, new))
    gone = [path for path in dict.fromkeys(_fields(old, old)) if path not in fields]
    lost = [f"{path}: the field is gone" for path in gone if not path.startswith(tuple(f"{each}." for each in gone))]
    written, read = (old, new) if direction == "in" else (new, old)
    found = _Comparison(written, read).refused(written, read, "")
    return lost + [line for line in dict.fromkeys(found) if line.partition(":")[0] not in gone]


def breaking_changes(old: Formats, new: Formats, direction_of: Callable[[str], Direction]) -> list[str]:
    """The `incompatibilities` of all formats, as `format.field: what`. A format that is new is none, one that is gone
    is one."""
    found = []
    for name, schema in old.items():
        if name not in new:
            found.append(f"{name}: the format is gone")
        else:
            found += [f"{name}{line}" for line in incompatibilities(schema, new[name], direction_of(name))]
    return found


def change_between(old: Formats, new: Formats, direction_of: Callable[[str], Direction]) -> Change:
    """The kind of change from the old formats to the new ones."""
    if breaking_changes(old, new, direction_of):
        return "breaking"
    if _without_words(old) != _without_words(new):
        return "compatible"
    return "none" if _without(old, {"$id", "$comment"}) == _without(new, {"$id", "$comment"}) else "words"


def least_version(released: str, change: Change) -> str:
    """The lowest version that formats may have after a change from the `released` ones, by semantic versioning."""
    major, minor, patch = version_parts(released)
    return {
        "none": released,
        "words": f"{major}.{minor}.{patch + 1}",
        "compatible": f"{major}.{minor + 1}.0",
        "breaking": f"{major + 1}.0.0",
    }[change]


def version_parts(version: str) -> tuple[int, int, int]:
    """Major, minor and patch number. Raises `ValueError`."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise ValueError(f"{version!r} is no version of the form 1.2.3")
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def _without_words(formats: Formats) -> Any:
    """Formats as what is valid in them: each with its references in place, in an order of its own."""
    return {name: _plain(schema, schema) for name, schema in formats.items()}


def _plain(schema: Schema, root: Schema) -> Any:
    plain = dict[str, Any]()
    for keyword, part in _resolved(schema, root).items():
        if keyword in _WORDS or keyword == "$defs":
            continue
        if keyword == "properties":
            plain[keyword] = {name: _plain(each, root) for name, each in part.items()}
        elif keyword in ("items", "additionalProperties") and isinstance(part, dict):
            plain[keyword] = _plain(part, root)
        elif keyword == "anyOf":
            plain[keyword] = sorted((_plain(each, root) for each in part), key=_text)
        else:
            plain[keyword] = sorted(part, key=_text) if keyword in ("required", "enum") else part
    return plain


def _without(part: Any, keywords: set[str]) -> Any:
    if isinstance(part, Mapping):
        return {name: _without(each, keywords) for name, each in part.items() if name not in keywords}
    return [_without(each, keywords) for each in part] if isinstance(part, list) else part


def _text(part: Any) -> str:
    return json.dumps(part, sort_keys=True)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """A schema without a reference of its own. Raises `UncomparableSchema`."""
    if unknown := sorted(set(schema) - _KEYWORDS):
        raise UncomparableSchema(f"the keyword {', '.join(unknown)} is not compared; teach foreshock.compatibility")
    if "$ref" not in schema:
        return schema
    target: Any = root
    for step in schema["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    own = {name: part for name, part in schema.items() if name not in ("$ref", "$defs")}
    return _resolved({**target, **own}, root)


def _alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schemas of one type each, of which a value that is valid fits one."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _alternatives(each, root)
        return
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    types = schema.get("type", _TYPES)
    types = [types] if isinstance(types, str) else types
    for name in types:
        if values is None:
            yield {**schema, "type": name}
        elif fitting := [value for value in values if _reads(name, _type_of(value))]:
            yield {**schema, "type": name, "enum": fitting}


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds[type(value)]


def _reads(reader: str, writer: str) -> bool:
    return reader == writer or (reader, writer) == ("number", "integer")


def _fields(schema: Schema, root: Schema, path: str = "", depth: int = 0) -> Iterator[str]:
    """Every field's path, of those in lists and in fields too."""
    if depth > _LONGEST:
        raise UncomparableSchema(f"{path[:80]}: the schema refers to itself")
    for one in _alternatives(schema, root):
        for name, part in one.get("properties", {}).items():
            yield f"{path}.{name}"
            yield from _fields(part, root, f"{path}.{name}", depth + 1)
        if one["type"] == "array" and "items" in one:
            yield from _fields(one["items"], root, f"{path}.[]", depth + 1)
        if isinstance(one.get("additionalProperties"), dict):
            yield from _fields(one["additionalProperties"], root, f"{path}.*", depth + 1)


class _Comparison:
    """Of records that are written by one schema and read by another."""

    def __init__(self, written: Schema, read: Schema) -> None:
        self._written, self._read = written, read

    def refused(self, written: Schema, read: Schema, path: str) -> list[str]:
        """What may be written and is not read."""
        if set(read) <= _WORDS | {"default"}:
            return []  # anything is
        readers = list(_alternatives(read, self._read))
        found: list[str] = []
        for one in _alternatives(written, self._written):
            fitting = [reader for reader in readers if _reads(reader["type"], one["type"])]
            tried = [list(self._differences(one, reader, path)) for reader in fitting]
            least: list[str] | None = min(tried, key=lambda lines: len(lines), default=None)
            found += [f"{path}: {one['type']} may be written and is not read"] if least is None else least
        return found

    def _differences(self, written: Schema, read: Schema, path: str) -> Iterator[str]:
        if "enum" in written:
            if values := [value for value in written["enum"] if not _takes(read, value)]:
                yield f"{path}: {', '.join(map(_text, values))} may be written and is not read"
            return
        if "enum" in read:
            yield f"{path}: only {', '.join(map(_text, read['enum']))} is read, and more may be written"
            return
        for lower, upper in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
            if _lower(written, lower) < _lower(read, lower) or _upper(written, upper) < _upper(read, upper):
                yield f"{path}: more may be written than is read, {_span(written, lower, upper)} and not only " + _span(
                    read, lower, upper
                )
        for keyword in ("pattern", "format"):
            if keyword in read and read[keyword] != written.get(keyword):
                yield f"{path}: {keyword} {read[keyword]} is read, and {written.get(keyword, 'any text')} written"
        if read["type"] == "array":
            yield from self.refused(written.get("items", {}), read.get("items", {}), f"{path}.[]")
        if read["type"] == "object":
            yield from self._object_differences(written, read, path)

    def _object_differences(self, written: Schema, read: Schema, path: str) -> Iterator[str]:
        required, needed = set(written.get("required", ())), set(read.get("required", ()))
        for name in sorted(needed - required):
            yield f"{path}.{name}: the reader needs it, and it may be missing"
        ours, theirs = written.get("properties", {}), read.get("properties", {})
        others_written, others_read = written.get("additionalProperties", {}), read.get("additionalProperties", {})
        for name, part in ours.items():
            reader = theirs.get(name, others_read)
            if reader is False:
                yield f"{path}.{name}: the reader refuses fields that it does not know"
            elif isinstance(reader, dict):
                yield from self.refused(part, reader, f"{path}.{name}")
            optional = name in theirs and name not in required | needed
            if optional and part.get("default") != theirs[name].get("default"):
                yield f"{path}.{name}: without it, {part.get('default')!r} is meant, and another default read"
        if others_read is False and others_written is not False:
            yield f"{path}.*: the reader refuses fields that it does not know"
        elif isinstance(others_read, dict) and others_read and others_written is not False:
            anything = others_written if isinstance(others_written, dict) else {}
            yield from self.refused(anything, others_read, f"{path}.*")


def _lower(schema: Schema, keyword: str) -> tuple[float, bool]:
    """The lower bound and whether it is left out itself; lower ones let more through."""
    at_least: float = schema.get(keyword, 0 if keyword != "minimum" else float("-inf"))
    above = schema.get("exclusiveMinimum", float("-inf")) if keyword == "minimum" else float("-inf")
    return max((at_least, False), (above, True)) if above != float("-inf") else (at_least, False)


def _upper(schema: Schema, keyword: str) -> tuple[float, bool]:
    """As `_lower`, of the upper bound with its sign changed."""
    at_most: float = schema.get(keyword, float("inf"))
    below = schema.get("exclusiveMaximum", float("inf")) if keyword == "maximum" else float("inf")
    return max((-at_most, False), (-below, True)) if below != float("inf") else (-at_most, False)


def _span(schema: Schema, lower: str, upper: str) -> str:
    least, most = _lower(schema, lower), _upper(schema, upper)
    return f"{'(' if least[1] else '['}{least[0]:g}, {-most[0]:g}{')' if most[1] else ']'}"


def _takes(read: Schema, value: Any) -> bool:
    """Whether a reader of one type takes a value of this type."""
    if "enum" in read:
        return value in read["enum"]
    if isinstance(value, str):
        fits = read.get("minLength", 0) <= len(value) <= read.get("maxLength", len(value))
        return fits and "format" not in read and bool(re.search(read.get("pattern", ""), value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        (least, above), (most, below) = _lower(read, "minimum"), _upper(read, "maximum")
        return (value > least or (value == least and not above)) and (value < -most or (value == -most and not below))
    return not isinstance(value, list | dict)
