"""The published schemas: identified, worded, and as strict as the decoders where JSON Schema can say it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.types import EVENT_TYPES, FORMATS_VERSION, Timestamp
from foreshock.schemas import (
    DIALECT,
    LETTER_HEADERS_NAME,
    RECORD_TYPES,
    Schema,
    direction_of,
    published_schemas,
    schema_components,
)
from stream.outputs import LETTER_HEADERS, OUTPUT_TYPES, DeadLetter, Header, LeftOut

SCHEMAS = published_schemas()

_FORMATS = jsonschema.FormatChecker(formats=["date", "uuid"])


@_FORMATS.checks("date-time")
def _is_moment(value: object) -> bool:
    """jsonschema checks this format only with another package; msgspec reads RFC 3339."""
    if not isinstance(value, str):
        return True
    try:
        msgspec.convert(value, Timestamp)
    except msgspec.ValidationError:
        return False
    return True


def validator(schema: Schema) -> Any:
    """A validator that knows the formats in use; the schema itself is checked first."""
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)


def parts(schema: Any) -> list[Schema]:
    """The schema and all within it."""
    if isinstance(schema, list):
        return [found for each in schema for found in parts(each)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for each in schema.values() for found in parts(each))]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_says_which_it_is_in_which_version_and_what_for(name: str) -> None:
    schema = SCHEMAS[name]
    validator(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"urn:foreshock:schema:{name}:{FORMATS_VERSION}"
    assert FORMATS_VERSION in schema["$comment"]
    assert schema["title"]
    assert schema["description"]
    assert schema["type"] == "object"


def test_there_is_a_schema_of_every_format() -> None:
    assert set(SCHEMAS) == {*EVENT_TYPES, *OUTPUT_TYPES, "alert-actions", LETTER_HEADERS_NAME}
    assert {name for name in SCHEMAS if direction_of(name) == "in"} == set(EVENT_TYPES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_times_and_dates_have_their_format(name: str) -> None:
    for part in parts(SCHEMAS[name]):
        for field, schema in part.get("properties", {}).items():
            wanted = "date-time" if field.endswith("_at") else "date" if field.endswith("_date") else None
            if wanted:
                assert wanted in [each.get("format") for each in parts(schema)], field


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_components_are_the_same_schemas(name: str) -> None:
    found = schema_components("#/$defs/{name}")[RECORD_TYPES[name].__name__]
    published = {key: part for key, part in SCHEMAS[name].items() if key not in ("$schema", "$id", "$comment", "$defs")}
    assert found == published


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("occurred_at", "2024-01-31T09:00:00"),
        ("occurred_at", "31.01.2024"),
        ("occurred_at", 1_706_691_600),
        ("due_date", "2024-02-30"),
        ("currency", "euro"),
        ("contract_id", "loan 2"),
        ("amount_due", -1),
        ("instalment_no", 1.5),
        ("kind", "forgiven"),
        ("user_id", ""),
    ],
)
def test_what_the_decoder_refuses_the_schema_refuses(field: str, value: object) -> None:
    event: dict[str, object] = {
        "event_id": "e", "user_id": "u", "occurred_at": "2024-01-31T09:00:00+01:00", "kind": "due",
        "due_date": "2024-01-31", "currency": "EUR", "contract_id": "loan-2", "amount_due": 1, "instalment_no": 1,
    }  # fmt: skip
    known = validator(SCHEMAS["repayments"])
    assert known.is_valid(event)
    msgspec.convert(event, EVENT_TYPES["repayments"])
    assert not known.is_valid(event | {field: value})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(event | {field: value}, EVENT_TYPES["repayments"])


texts = st.text(st.characters(codec="utf-8"), max_size=8)
places = st.sampled_from([{}, {"key": LeftOut(3, "0" * 64)}, {"value": LeftOut(9, "f" * 64)}])


@given(
    left_out=places,
    key=st.none() | st.binary(max_size=4),
    value=st.none() | st.binary(max_size=4),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    message=texts,
)
def test_the_headers_of_every_dead_letter_are_valid(
    left_out: dict[str, LeftOut],
    key: bytes | None,
    value: bytes | None,
    offset: int,
    timestamp_ms: int,
    message: str,
) -> None:
    letter = DeadLetter(
        dead_letter_id="54c33c4f-686c-58a2-9077-edab520fd9ee",
        reason="not_json",
        message=message,
        topic="repayments",
        partition=3,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=None if "key" in left_out else key,
        value=None if "value" in left_out else value,
        left_out=left_out,
    )
    headers = {name: (content or b"").decode() for name, content in letter.record_headers()}
    validator(SCHEMAS[LETTER_HEADERS_NAME]).validate(headers)


@pytest.mark.parametrize(
    "change",
    [
        {"foreshock.version": "2"},
        {"foreshock.partition": "-1"},
        {"foreshock.key": "gone"},
        {"foreshock.headers": "null"},
        {"foreshock.id": "4711"},
        {"foreshock.value.sha256": "0"},
        {"foreshock.sent-back": "0"},
    ],
)
def test_other_headers_are_not(change: dict[str, str]) -> None:
    letter = DeadLetter(
        dead_letter_id="54c33c4f-686c-58a2-9077-edab520fd9ee", reason="not_json", message="", topic="t", partition=0,
        offset=0, timestamp_ms=0,
    )  # fmt: skip
    ours: list[Header] = letter.record_headers()
    headers = {name: (content or b"").decode() for name, content in ours}
    known = validator(SCHEMAS[LETTER_HEADERS_NAME])
    assert known.is_valid(headers)
    assert known.is_valid(headers | {"foreshock.sent-back": "3"})
    assert not known.is_valid(headers | change)
    for name in headers:
        assert not known.is_valid({other: text for other, text in headers.items() if other != name})
    assert set(headers) < set(LETTER_HEADERS)


def test_moments_are_those_of_rfc_3339() -> None:
    assert _is_moment(dt.datetime(2024, 1, 31, 9, tzinfo=dt.UTC).isoformat())
    assert not _is_moment("2024-01-31T09:00:00")
