"""What is a compatible and what a breaking change of a format, and that today's formats keep to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.types import FORMATS_VERSION
from foreshock.compatibility import (
    Formats,
    UncomparableSchema,
    breaking_changes,
    change_between,
    incompatibilities,
    least_version,
    version_parts,
)
from foreshock.reference_pages import RELEASED
from foreshock.reference_pages import SCHEMAS as FOLDER
from foreshock.schemas import Direction, Schema, direction_of, published_schemas

DOCS = Path(__file__).resolve().parents[3] / "docs"
RELEASES = sorted((path.name for path in (DOCS / FOLDER / RELEASED).iterdir()), key=version_parts)


def released(version: str) -> Formats:
    """The formats of a release."""
    folder = DOCS / FOLDER / RELEASED / version
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.iterdir())}


def test_todays_formats_have_the_version_that_their_changes_since_the_last_release_demand() -> None:
    last = RELEASES[-1]
    old, new = released(last), published_schemas()
    least = least_version(last, change_between(old, new, direction_of))
    assert version_parts(FORMATS_VERSION) >= version_parts(least), (
        f"the record formats have changed since version {last}; FORMATS_VERSION in events/types.py must be at least "
        f"{least} (docs/topics.md). Breaking: {breaking_changes(old, new, direction_of) or 'nothing'}"
    )


def test_what_broke_with_version_2_is_what_the_changelog_says() -> None:
    new = released("2.0.0") if "2.0.0" in RELEASES else published_schemas()
    assert breaking_changes(released("1.0.0"), new, direction_of) == ["dead-letters: the format is gone"]


@pytest.mark.parametrize("version", sorted({*RELEASES, FORMATS_VERSION}))
def test_formats_are_compatible_with_themselves(version: str) -> None:
    formats = published_schemas() if version == FORMATS_VERSION else released(version)
    assert change_between(formats, formats, direction_of) == "none"
    assert all(incompatibilities(schema, schema, way) == [] for schema in formats.values() for way in ("in", "out"))


def record(optional: Schema | None = None, /, **fields: Schema) -> Schema:
    """An object with required `fields`, and optional ones."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
    }


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
NULL: Schema = {"type": "null"}


def of(*values: Any) -> Schema:
    return {"enum": list(values)}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


SAFE: Literal["safe"] = "safe"
"""In the table below: no incompatibility."""

CASES: dict[str, tuple[Schema, Schema, str, str]] = {
    # Old, new, and a piece of what is said of it coming in and going out.
    "nothing": (record(a=TEXT), record(a=TEXT), SAFE, SAFE),
    "words": (record(a=TEXT), {**record(a=TEXT | {"description": "b"}), "title": "C"}, SAFE, SAFE),
    "a new optional field": (record(a=TEXT), record({"b": TEXT}, a=TEXT), SAFE, SAFE),
    "a new required field": (record(a=TEXT), record(a=TEXT, b=TEXT), ".b: the reader needs it", SAFE),
    "a removed optional field": (record({"b": TEXT}), record(), ".b: the field is gone", ".b: the field is gone"),
    "a removed required field": (record(b=TEXT), record(), ".b: the field is gone", ".b: the field is gone"),
    "newly required": (record({"b": TEXT}), record(b=TEXT), ".b: the reader needs it", SAFE),
    "no longer required": (record(b=TEXT), record({"b": TEXT}), SAFE, ".b: the reader needs it"),
    "may be null now": (record(a=TEXT), record(a=either(TEXT, NULL)), SAFE, ".a: null may be written"),
    "may not be null now": (record(a=either(NULL, TEXT)), record(a=TEXT), ".a: null may be written", SAFE),
    "a wider type": (record(a=WHOLE), record(a=NUMBER), SAFE, ".a: number may be written"),
    "a narrower type": (record(a=NUMBER), record(a=WHOLE), ".a: number may be written", SAFE),
    "another type": (record(a=TEXT), record(a=WHOLE), ".a: string may be", ".a: integer may be"),
    "an enum with one more": (record(a=of("x")), record(a=of("x", "y")), SAFE, '.a: "y" may be written'),
    "an enum with one less": (record(a=of("x", "y")), record(a=of("x")), '.a: "y" may be written', SAFE),
    "an enum instead of any text": (record(a=TEXT), record(a=of("x")), '.a: only "x" is read', SAFE),
    "any text instead of an enum": (record(a=of("x")), record(a=TEXT), SAFE, '.a: only "x" is read'),
    "a constant": (record(a={"const": 1}), record(a={"const": 2}), ".a: 1 may be", ".a: 2 may be"),
    "a lower minimum": (record(a=NUMBER | {"minimum": 0}), record(a=NUMBER | {"minimum": -1}), SAFE, ".a: more may be"),
    "a minimum": (record(a=NUMBER), record(a=NUMBER | {"minimum": 0}), ".a: more may be written", SAFE),
    "a minimum that is left out": (
        record(a=NUMBER | {"minimum": 0}), record(a=NUMBER | {"exclusiveMinimum": 0}), ".a: more may be written", SAFE,
    ),
    "a lower maximum": (record(a=WHOLE | {"maximum": 9}), record(a=WHOLE | {"maximum": 8}), ".a: more may be", SAFE),
    "a longer text": (record(a=TEXT | {"maxLength": 8}), record(a=TEXT | {"maxLength": 9}), SAFE, ".a: more may be"),
    "an empty text": (record(a=TEXT | {"minLength": 1}), record(a=TEXT), SAFE, ".a: more may be written"),
    "an enum of longer texts": (record(a=TEXT | {"maxLength": 1}), record(a=of("ab")), ".a: only", '.a: "ab" may be'),
    "another pattern": (
        record(a=TEXT | {"pattern": "a"}), record(a=TEXT | {"pattern": "b"}), ".a: pattern b is", ".a: pattern a is",
    ),
    "another format": (
        record(a=TEXT | {"format": "date"}), record(a=TEXT | {"format": "date-time"}), ".a: format date-time is read",
        ".a: format date is read",
    ),
    "a format": (record(a=TEXT), record(a=TEXT | {"format": "date"}), ".a: format date is read", SAFE),
    "another default": (
        record({"a": NUMBER | {"default": 0}}), record({"a": NUMBER | {"default": 1}}), ".a: without it, 0 is meant",
        ".a: without it, 1 is meant",
    ),
    "a list of others": (
        record(a={"type": "array", "items": TEXT}), record(a={"type": "array", "items": WHOLE}), ".a.[]: string may be",
        ".a.[]: integer may be",
    ),
    "an empty list": (
        record(a={"type": "array", "minItems": 1}), record(a={"type": "array"}), SAFE, ".a: more may be written",
    ),
    "a field of a list": (
        record(a={"type": "array", "items": record({"b": TEXT})}), record(a={"type": "array", "items": record()}),
        ".a.[].b: the field is gone", ".a.[].b: the field is gone",
    ),
    "values of a mapping": (
        record(a={"type": "object", "additionalProperties": NUMBER}),
        record(a={"type": "object", "additionalProperties": either(NUMBER, NULL)}), SAFE, ".a.*: null may be written",
    ),
    "no unknown fields": (
        record({"b": TEXT}), {**record({"b": TEXT}), "additionalProperties": False}, "refuses fields", SAFE,
    ),
    "a new field where unknown ones are refused": (
        {**record(), "additionalProperties": False}, {**record({"b": TEXT}), "additionalProperties": False},
        SAFE, ".b: the reader refuses fields",
    ),
    "a definition": (
        {"$ref": "#/$defs/A", "$defs": {"A": record(a={"$ref": "#/$defs/B"}), "B": TEXT}}, record(a=TEXT), SAFE, SAFE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("name", CASES)
def test_a_change_is_compatible_or_says_what_breaks(name: str, direction: Direction) -> None:
    old, new, coming_in, going_out = CASES[name]
    expected = coming_in if direction == "in" else going_out
    found = incompatibilities(old, new, direction)
    if expected == SAFE:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (CASES["nothing"][0], CASES["nothing"][1], "none"),
        (CASES["words"][0], CASES["words"][1], "words"),
        (CASES["a definition"][0], record(a=TEXT), "words"),
        (record(a=TEXT), record({"b": TEXT}, a=TEXT), "compatible"),
        (record(a=TEXT), record(a=TEXT, b=TEXT), "breaking"),
    ],
)
def test_kinds_of_change(old: Schema, new: Schema, change: str) -> None:
    assert change_between({"repayments": old}, {"repayments": new}, direction_of) == change


def test_a_new_format_is_compatible_and_one_that_is_gone_is_not() -> None:
    one, two = {"a": record()}, {"a": record(), "b": record()}
    assert change_between(one, two, direction_of) == "compatible"
    assert breaking_changes(two, one, direction_of) == ["b: the format is gone"]


def test_what_is_gone_is_said_once() -> None:
    old = record(a=record(b=record(c=TEXT)))
    assert incompatibilities(old, record(), "out") == [".a: the field is gone"]


def test_unknown_keywords_and_endless_schemas_are_refused() -> None:
    with pytest.raises(UncomparableSchema, match="multipleOf"):
        incompatibilities(record(a=NUMBER | {"multipleOf": 2}), record(a=NUMBER), "in")
    endless = {"$ref": "#/$defs/A", "$defs": {"A": record({"a": {"$ref": "#/$defs/A"}})}}
    with pytest.raises(UncomparableSchema, match="refers to itself"):
        incompatibilities(endless, endless, "in")


def test_versions() -> None:
    assert [least_version("1.2.3", change) for change in ("none", "words", "compatible", "breaking")] == [
        "1.2.3", "1.2.4", "1.3.0", "2.0.0",
    ]  # fmt: skip
    assert version_parts("1.10.0") > version_parts("1.9.9")
    for wrong in ("1.2", "1.2.3-rc", "v1.2.3", "01.2.3", ""):
        with pytest.raises(ValueError, match=r"no version"):
            version_parts(wrong)


bounds = st.integers(-2, 2)
values = (
    st.none() | st.integers(-3, 3) | st.sampled_from(["", "x", "y", "xy"]) | st.lists(st.integers(-3, 3), max_size=2)
)
scalars = st.one_of(
    st.just(NULL),
    st.builds(lambda low, high: WHOLE | {"minimum": low, "maximum": high}, bounds, bounds),
    st.builds(lambda low: NUMBER | {"exclusiveMinimum": low}, bounds),
    st.builds(lambda low, high: TEXT | {"minLength": low, "maxLength": high}, st.integers(0, 2), st.integers(0, 2)),
    st.builds(lambda each: of(*each), st.lists(st.sampled_from(["x", "y", 1, None]), min_size=1, max_size=3)),
)
schemas = scalars | st.builds(lambda each: {"type": "array", "items": each}, scalars)
fields = schemas | st.builds(either, schemas, schemas)
pairs = fields.flatmap(lambda one: st.tuples(st.just(one), fields | st.builds(either, st.just(one), fields)))


@given(pairs, st.lists(values, min_size=1, max_size=8))
def test_what_one_version_takes_the_other_takes_where_nothing_is_incompatible(
    pair: tuple[Schema, Schema], written: list[Any]
) -> None:
    old, new = (record(a=field) for field in pair)
    for direction, writer, reader in (("in", old, new), ("out", new, old)):
        if not incompatibilities(old, new, direction):  # type: ignore[arg-type]
            takes, knows = (jsonschema.Draft202012Validator(each) for each in (reader, writer))
            assert all(takes.is_valid({"a": value}) for value in written if knows.is_valid({"a": value}))


def test_the_released_schemas_are_json_schemas() -> None:
    for version in RELEASES:
        for schema in released(version).values():
            jsonschema.Draft202012Validator.check_schema(schema)
            assert msgspec.json.encode(schema)
