"""Mapping files: how the columns of a user's own tables become the fields of events and outcomes.

Reads and checks the TOML file and compiles its rules; opens no table. Every mistake that can be found without the data
is refused here. docs/own-data.md is the reference.
"""

from __future__ import annotations

import datetime as dt
import difflib
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import inspect

from events.types import EVENT_TYPES, KINDS, Kind
from model.datasets.dataset import SOURCES, DatasetError

FieldType: TypeAlias = Literal["identifier", "text", "choice", "number", "integer", "moment", "day"]
Value: TypeAlias = str | int | float | bool


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds where a column's text is one of a list (`in`), or none of it (`not_in`)."""

    column: str
    in_: list[Value] | None = msgspec.field(default=None, name="in")
    not_in: list[Value] | None = None


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a sum, times `scale`."""

    column: str
    scale: float = 1.0


class Sign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column that says which way an amount went: its texts for money out and for money in."""

    column: str
    negative: list[Value]
    positive: list[Value]


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name for numbers below a limit that no earlier band took; without a limit, for all that are left."""

    name: str
    below: float | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source of one field (`column`, `constant` or `sum`) and its conversions."""

    column: str | None = None
    constant: Any = None
    sum: list[Term] | None = None
    map: dict[str, Value] | None = None
    unlisted: Literal["refuse", "keep", "missing"] | None = None
    bands: list[Band] | None = None
    missing: list[Value] | None = None
    scale: float | None = None
    absolute: bool | None = None
    sign: Sign | None = None
    format: str | None = None
    time: str | None = None
    shift_days: float | None = None
    prefix: str | None = None
    where: list[Condition] | None = None


class Csv(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text tables are written."""

    delimiter: str = ","
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tables that hold one kind of record, and the rules of its fields. A rule that is a text names a column."""

    path: str | list[str]
    fields: dict[str, Rule | str]
    where: list[Condition] | None = None
    csv: Csv | None = None


class MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    headline_horizon_days: int
    outcomes: Section
    name: str = "files"
    split: Literal["client", "time"] = "client"
    time_zone: str = "UTC"
    missing: list[Value] = msgspec.field(default_factory=lambda: [""])
    other_users: Literal["keep", "drop"] = "keep"
    csv: Csv = msgspec.field(default_factory=Csv)
    repayments: Section | list[Section] = msgspec.field(default_factory=list)
    transactions: Section | list[Section] = msgspec.field(default_factory=list)
    activity: Section | list[Section] = msgspec.field(default_factory=list)
    profiles: Section | list[Section] = msgspec.field(default_factory=list)

    def sections(self, kind: Kind) -> list[Section]:
        """The sections of a kind of event, in the order of the file."""
        found: Section | list[Section] = getattr(self, kind)
        return [found] if isinstance(found, Section) else found


OUTCOME_TYPES: Mapping[str, FieldType] = {
    "user_id": "identifier",
    "onset": "moment",
    "observed_until": "moment",
    "label": "integer",
    "events_before": "moment",
}
"""Fields of an outcome, by the keys that users write. `onset` is the default date, missing where none was seen, and
`observed_until` the observation end. Events at or after `events_before` are left out."""
REQUIRED_OUTCOMES = ("user_id", "observed_until")

_ALWAYS = frozenset({"column", "missing", "where"})
_OPTIONS: Mapping[FieldType, frozenset[str]] = {
    "identifier": frozenset({"column", "prefix"}),
    "text": _ALWAYS | {"constant", "map", "unlisted", "bands"},
    "choice": _ALWAYS | {"constant", "map", "unlisted"},
    "number": _ALWAYS | {"constant", "sum", "map", "unlisted", "scale", "absolute", "sign"},
    "integer": _ALWAYS | {"constant", "map", "unlisted"},
    "moment": _ALWAYS | {"constant", "format", "time", "shift_days"},
    "day": _ALWAYS | {"constant", "format", "shift_days"},
}

_CONSTANTS: Mapping[FieldType, tuple[type, ...]] = {
    "identifier": (),
    "text": (str, int, float),
    "choice": (str,),
    "number": (int, float),
    "integer": (int,),
    "moment": (str, dt.date),
    "day": (str, dt.date),
}


def read_mapping(path: Path) -> MappingFile:
    """A mapping file, checked. Raises `DatasetError`, which names the key and what to do."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); name your mapping file with --path (see docs/own-data.md)"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no TOML file: {error}; see docs/own-data.md for how one is written") from None
    try:
        mapping = msgspec.convert(content, MappingFile)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{path}: {_explained(str(error))}; see docs/own-data.md") from None
    _check_head(path, mapping)
    for kind in KINDS:
        sections = mapping.sections(kind)
        for number, section in enumerate(sections):
            where = f"{path}: [[{kind}]] {number + 1}" if len(sections) > 1 else f"{path}: [{kind}]"
            required = [name for name, spec in _specs(kind).items() if spec.required and name != "event_id"]
            _check_section(where, section, field_types(kind), required)
            _check_choices(where, section, kind)
    _check_section(f"{path}: [outcomes]", mapping.outcomes, OUTCOME_TYPES, REQUIRED_OUTCOMES)
    if not any(mapping.sections(kind) for kind in KINDS):
        raise DatasetError(f"{path} maps no events; add a section [{'], ['.join(KINDS)}]")
    return mapping


def field_types(kind: Kind) -> dict[str, FieldType]:
    """What each field of a kind of event takes, read off `events.types`."""
    types: dict[str, FieldType] = {}
    for name, spec in _specs(kind).items():
        types[name] = "identifier" if name in ("event_id", "user_id") else _type_of(spec.type)
    return types


def rule_of(section: Section, name: str) -> Rule | None:
    """The rule of a field, a bare column name written out; None where the mapping has none."""
    rule = section.fields.get(name)
    return Rule(column=rule) if isinstance(rule, str) else rule


def columns_of(section: Section) -> list[str]:
    """Every column that a section reads, each once."""
    columns: dict[str, None] = {}
    for name in section.fields:
        rule = rule_of(section, name)
        assert rule is not None
        named = [rule.column, rule.sign.column if rule.sign else None, *(term.column for term in rule.sum or ())]
        columns |= {column: None for column in named if column is not None}
        columns |= {condition.column: None for condition in rule.where or ()}
    return list(columns | {condition.column: None for condition in section.where or ()})


def _specs(kind: Kind) -> dict[str, inspect.Field]:
    described = inspect.type_info(EVENT_TYPES[kind])
    assert isinstance(described, inspect.StructType)
    return {spec.name: spec for spec in described.fields}


def _bare(described: inspect.Type) -> inspect.Type:
    """A type without its metadata and without None."""
    if isinstance(described, inspect.Metadata):
        return _bare(described.type)
    if isinstance(described, inspect.UnionType):
        return _bare(next(part for part in described.types if not isinstance(part, inspect.NoneType)))
    return described


def _type_of(described: inspect.Type) -> FieldType:
    bare = _bare(described)
    by_class: list[tuple[type[inspect.Type], FieldType]] = [
        (inspect.StrType, "text"),
        (inspect.LiteralType, "choice"),
        (inspect.FloatType, "number"),
        (inspect.IntType, "integer"),
        (inspect.DateTimeType, "moment"),
        (inspect.DateType, "day"),
    ]
    return next(name for cls, name in by_class if isinstance(bare, cls))


def _check_head(path: Path, mapping: MappingFile) -> None:
    if mapping.name in SOURCES and mapping.name != "files":
        raise DatasetError(f"{path}: name {mapping.name!r} is a built-in source; give yours another one")
    if not 1 <= mapping.headline_horizon_days <= 3_650:
        raise DatasetError(f"{path}: headline_horizon_days is {mapping.headline_horizon_days}; give a number of days")
    try:
        zoneinfo.ZoneInfo(mapping.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise DatasetError(
            f'{path}: time_zone {mapping.time_zone!r} is not known; write it like "Europe/Prague"'
        ) from None
    for csv in (
        mapping.csv,
        *(section.csv for kind in KINDS for section in mapping.sections(kind)),
        mapping.outcomes.csv,
    ):
        if csv is not None and (len(csv.delimiter) != 1 or len(csv.decimal) != 1 or csv.decimal == csv.thousands):
            raise DatasetError(
                f"{path}: csv needs one character each as delimiter and decimal, and another as thousands"
            )


def _check_section(where: str, section: Section, types: Mapping[str, FieldType], required: Sequence[str]) -> None:
    for name in section.fields:
        if name not in types:
            raise DatasetError(f"{where}: there is no field {name!r}{_meant(name, types)}; it has {', '.join(types)}")
    absent = [name for name in required if name not in section.fields]
    if absent:
        raise DatasetError(f"{where}: fields needs a rule for {' and '.join(absent)}")
    for name in section.fields:
        rule = rule_of(section, name)
        assert rule is not None
        _check_rule(f"{where}.fields.{name}", rule, types[name])
    for condition in section.where or ():
        _check_condition(f"{where}.where", condition)


def _check_choices(where: str, section: Section, kind: Kind) -> None:
    """Whether maps and constants of fields with a fixed list of texts stay within it."""
    for name in section.fields:
        described = _bare(_specs(kind)[name].type)
        rule = rule_of(section, name)
        if rule is None or not isinstance(described, inspect.LiteralType):
            continue
        given = [*(rule.map or {}).values(), *([] if rule.constant is None else [rule.constant])]
        wrong = [value for value in given if value not in described.values]
        if wrong:
            choices = ", ".join(str(value) for value in described.values)
            raise DatasetError(f"{where}.fields.{name}: {', '.join(map(repr, wrong))} is none of {choices}")


def _check_rule(where: str, rule: Rule, kind: FieldType) -> None:
    given = {key for key in rule.__struct_fields__ if getattr(rule, key) is not None}
    wrong = given - _OPTIONS[kind]
    if wrong:
        raise DatasetError(
            f"{where} is of type {kind}, which takes no {' or '.join(sorted(wrong))}; "
            f"it takes {', '.join(sorted(_OPTIONS[kind]))}"
        )
    sources = sorted(given & {"column", "constant", "sum"})
    if len(sources) != 1:
        told = " and ".join(sources) or "none"
        raise DatasetError(f"{where} needs exactly one of column, constant and sum, it has {told}")
    if rule.constant is not None and given - {"constant", "where", "shift_days", "time"}:
        raise DatasetError(f"{where} is a constant: write the value as it is to be, without {', '.join(sorted(given))}")
    if rule.constant is not None and not isinstance(rule.constant, _CONSTANTS[kind]):
        raise DatasetError(f"{where} is of type {kind}, which {rule.constant!r} is not; write another constant")
    if rule.sum == []:
        raise DatasetError(f"{where}: sum names no column")
    if rule.unlisted is not None and rule.map is None:
        raise DatasetError(
            f"{where}: unlisted says what to do with values that a map does not list, but there is no map"
        )
    if kind in ("number", "integer") and any(
        not isinstance(value, (int, float)) for value in (rule.map or {}).values()
    ):
        raise DatasetError(f"{where} is of type {kind}: its map must give numbers, written without quotes")
    if rule.bands is not None and (rule.map is not None or any(band.below is None for band in rule.bands[:-1])):
        raise DatasetError(f"{where}: bands go without map, and only the last of them may have no limit")
    if rule.time is not None:
        try:
            dt.time.fromisoformat(rule.time)
        except ValueError:
            raise DatasetError(f'{where}: time {rule.time!r} is none; write it like "23:59"') from None
    for condition in rule.where or ():
        _check_condition(where, condition)


def _check_condition(where: str, condition: Condition) -> None:
    if (condition.in_ is None) == (condition.not_in is None):
        raise DatasetError(f"{where}: the condition on column {condition.column} needs either in or not_in")


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _explained(error: str) -> str:
    """msgspec's message in the words of a TOML file: its path without the leading `$.`."""
    return error.replace("Object", "the table").replace("`$.", "`").replace("`$`", "the top of the file")
