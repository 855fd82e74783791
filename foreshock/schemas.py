"""The formats of all records as JSON Schema, made from the types that decode and encode them. No I/O."""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_args

import msgspec

from events.types import EVENT_TYPES, FORMATS_VERSION
from stream.case_records import AlertAction
from stream.outputs import LETTER_HEADERS, LETTER_VERSION, OUTPUT_TYPES, SENT_BACK, RefusalCode

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LETTER_HEADERS_NAME = "dead-letter-headers"

RECORD_TYPES: dict[str, type[msgspec.Struct]] = {
    **dict(EVENT_TYPES.items()),
    **OUTPUT_TYPES,
    "alert-actions": AlertAction,
}
"""What the values of each topic are in JSON. Those of `scores.latest` are those of `scores`."""

Schema = dict[str, Any]
Direction = Literal["in", "out"]
"""Of records: into Foreshock, from producers of many versions; or out of it, to readers of many versions."""


def published_schemas() -> dict[str, Schema]:
    """The schema of each format by its name: the topic whose values it describes, or `dead-letter-headers`."""
    formats = {name: _with_root(msgspec.json.schema(kind)) for name, kind in RECORD_TYPES.items()}
    formats[LETTER_HEADERS_NAME] = letter_headers_schema()
    return {name: _identified(name, schema) for name, schema in formats.items()}


def schema_components(ref_template: str) -> dict[str, Schema]:
    """The schemas of all record types, and of the types within them, by the type's name.

    `ref_template` is how one refers to another, for instance `#/components/schemas/{name}`.
    """
    _, made = msgspec.json.schema_components(RECORD_TYPES.values(), ref_template=ref_template)
    components: dict[str, Schema] = _unindented(made)
    return {**components, "DeadLetterHeaders": letter_headers_schema()}


def direction_of(name: str) -> Direction:
    """Who writes records of the format `name`."""
    return "in" if name in EVENT_TYPES else "out"


def letter_headers_schema() -> Schema:
    """The headers of a dead letter, all of them text. The refused record's own headers follow them."""
    number: Schema = {"pattern": "^(0|[1-9][0-9]*)$"}
    digest: Schema = {"pattern": "^[0-9a-f]{64}$"}
    form: dict[str, Schema] = {
        "version": {"const": LETTER_VERSION},
        "id": {"format": "uuid"},
        # No enum: a later release may have more reasons.
        "reason": {"examples": list(get_args(RefusalCode))},
        "partition": number,
        "offset": number,
        "timestamp": {"pattern": "^(0|-?[1-9][0-9]*)$"},
        SENT_BACK: {"pattern": "^[1-9][0-9]*$"},
        "key": {"enum": ["kept", "left_out", "null"]},
        "value": {"enum": ["kept", "left_out", "null"]},
        "headers": {"enum": ["kept", "left_out"]},
    }
    for part in ("key", "value", "headers"):
        form |= {f"{part}.bytes": number, f"{part}.sha256": digest}
    return {
        "title": "DeadLetterHeaders",
        "description": "Headers of a dead letter, whose key and value are those of the refused record.",
        "type": "object",
        "properties": {
            name: {"description": meaning, "type": "string", **form.get(name.removeprefix("foreshock."), {})}
            for name, meaning in LETTER_HEADERS.items()
        },
        "required": [name for name in LETTER_HEADERS if not name.endswith((".bytes", ".sha256", SENT_BACK))],
    }


def _identified(name: str, schema: Schema) -> Schema:
    # The version is in the id and is no keyword of its own: strict validators refuse keywords that they do not know.
    return {
        "$schema": DIALECT,
        "$id": f"urn:foreshock:schema:{name}:{FORMATS_VERSION}",
        "$comment": f"Version {FORMATS_VERSION} of the record formats.",
        **schema,
    }


def _with_root(schema: Schema) -> Schema:
    """A schema of msgspec's with the definition that it refers to in its place."""
    definitions = dict(_unindented(schema["$defs"]))
    root: Schema = definitions.pop(schema["$ref"].removeprefix("#/$defs/"))
    return {**root, "$defs": definitions} if definitions else root


def _unindented(schema: Any) -> Any:
    """The schema with its descriptions, which are docstrings, freed of the source's indentation."""
    if isinstance(schema, dict):
        return {
            name: inspect.cleandoc(part) if name == "description" and isinstance(part, str) else _unindented(part)
            for name, part in schema.items()
        }
    return [_unindented(part) for part in schema] if isinstance(schema, list) else schema
