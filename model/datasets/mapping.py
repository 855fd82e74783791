"""Mapping files: how the columns of a user's own tables become the fields of events and outcomes.

Reads and checks the TOML file and compiles its rules; opens no table. Every mistake that can be found without the data
is refused here. docs/own-data.md is the reference.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from events.types import EVENT_TYPES, KINDS, Kind
from model.datasets.dataset import SOURCES, DatasetError
from model.datasets.rules import (
    RELATIVE,
    Condition,
    FieldType,
    MappingFile,
    Rule,
    Section,
    Unpivot,
    as_rule,
    base_of,
    columns_of,
    rule_of,
)

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
_DATED = _ALWAYS | {"constant", "format", "shift_days", "end_of_month", *RELATIVE}
_OPTIONS: Mapping[FieldType, frozenset[str]] = {
    "identifier": frozenset({"column", "join", "prefix"}),
    "optional identifier": _ALWAYS | {"join", "prefix"},
    "text": _ALWAYS | {"constant", "map", "unlisted", "bands"},
    "choice": _ALWAYS | {"constant", "map", "unlisted"},
    "number": _ALWAYS | {"constant", "sum", "days_between", "map", "unlisted", "scale", "absolute", "sign"},
    "integer": _ALWAYS | {"constant", "days_between", "map", "unlisted"},
    "moment": _DATED | {"time"},
    "day": _DATED,
}
FORMATS = ("iso", "epoch_s", "epoch_ms")
_CODES = re.compile(r"%([a-zA-Z%])")
_NUMBERED = re.compile(r"[^{}]*\{(?::0[1-9])?\}[^{}]*")
_SOURCES = ("column", "constant", "sum", "join", "days_between")

_CONSTANTS: Mapping[FieldType, tuple[type, ...]] = {
    "identifier": (),
    "optional identifier": (),
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
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
        if name.endswith("_id"):
            types[name] = "identifier" if spec.required else "optional identifier"
        else:
            types[name] = _type_of(spec.type)
    return types


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
    if section.unpivot is not None:
        _check_unpivot(f"{where}.unpivot", section.unpivot, columns_of(section))


def _check_unpivot(where: str, unpivot: Unpivot, read: Sequence[str]) -> None:
    if not unpivot.columns:
        raise DatasetError(f'{where}: columns names none; write columns = {{ paid = "m{{}}" }}')
    lists = {name: names for name, names in unpivot.columns.items() if isinstance(names, list)}
    patterns = {name: text for name, text in unpivot.columns.items() if isinstance(text, str)}
    for name, text in patterns.items():
        if not _NUMBERED.fullmatch(text):
            raise DatasetError(
                f'{where}: columns.{name} is {text!r}; give a pattern with one {{}} for the number, such as "m{{}}" '
                'or "m{:02}", or a list of columns'
            )
    if unpivot.numbers is None and patterns:
        raise DatasetError(f"{where} needs numbers = [first, last] for the columns {' and '.join(patterns.values())}")
    if unpivot.numbers is not None and (len(unpivot.numbers) != 2 or min(unpivot.numbers) < 0):
        raise DatasetError(f"{where}: numbers is {unpivot.numbers}; give the first and the last, from 0 on")
    counts = {name: len(names) for name, names in lists.items()}
    if unpivot.numbers is not None:
        counts["numbers"] = len(unpivot.periods())
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise DatasetError(
            f"{where} must have as many columns for each name, it has "
            f"{', '.join(f'{count} for {name}' for name, count in counts.items())}"
        )
    if (unpivot.start is None) != (unpivot.date is None):
        raise DatasetError(
            f"{where} needs both of date (a name for the period's date) and start (the first date), or none"
        )
    steps = [step for step in (unpivot.step_months, unpivot.step_days) if step is not None]
    if len(steps) > 1 or 0 in steps or (steps and unpivot.start is None):
        raise DatasetError(f"{where} takes one of step_months and step_days, which is not 0, and only with start")
    if unpivot.start is not None:
        _check_rule(f"{where}.start", as_rule(unpivot.start), "day")
    made = unpivot.made()
    twice = {name for name in made if made.count(name) > 1}
    if twice:
        raise DatasetError(f"{where}: {' and '.join(sorted(twice))} is the name of two of its columns; rename one")
    if not set(made) & set(read):
        raise DatasetError(f"{where} makes {', '.join(made)}, but no field reads any of them; name them in fields")


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
    sources = sorted(given & set(_SOURCES))
    if len(sources) != 1:
        told = " and ".join(sources) or "none"
        possible = [source for source in _SOURCES if source in _OPTIONS[kind]]
        raise DatasetError(f"{where} needs exactly one of {', '.join(possible)}, it has {told}")
    if rule.constant is not None and given - {"constant", "where", "shift_days", "time", "end_of_month"}:
        raise DatasetError(f"{where} is a constant: write the value as it is to be, without {', '.join(sorted(given))}")
    if rule.constant is not None and not isinstance(rule.constant, _CONSTANTS[kind]):
        raise DatasetError(f"{where} is of type {kind}, which {rule.constant!r} is not; write another constant")
    if rule.sum == [] or rule.join == []:
        raise DatasetError(f"{where}: {sources[0]} names no column")
    alone = sorted(given & {"map", "unlisted", "bands"})
    if alone and rule.column is None:
        raise DatasetError(f"{where}: {' and '.join(alone)} goes with column, not with {sources[0]}")
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
    if rule.days_between is not None:
        _check_rule(f"{where}.days_between.from", as_rule(rule.days_between.start), "day")
        _check_rule(f"{where}.days_between.to", as_rule(rule.days_between.end), "day")
    _check_dates(where, rule, kind)
    for condition in rule.where or ():
        _check_condition(where, condition)


def _check_dates(where: str, rule: Rule, kind: FieldType) -> None:
    """Whether time, format and the date that a number is counted from can be meant."""
    if rule.time is not None:
        try:
            dt.time.fromisoformat(rule.time)
        except ValueError:
            raise DatasetError(f'{where}: time {rule.time!r} is none; write it like "23:59"') from None
    relative = [key for key in RELATIVE if getattr(rule, key) is not None]
    if len(relative) > 1 or (relative and rule.column is None):
        raise DatasetError(f"{where}: {' and '.join(relative)}: only one is possible, with the column of the number")
    if base := base_of(rule):
        if rule.format is not None:
            raise DatasetError(
                f"{where}: its column holds a number, which has no format; write it into the date: "
                f'{base[0]} = {{ column = "…", format = {rule.format!r} }}'
            )
        _check_rule(f"{where}.{base[0]}", base[1], kind)
    if rule.format is not None and rule.format not in FORMATS:
        _check_format(where, rule.format)


def _check_format(where: str, pattern: str) -> None:
    """A pattern of `strptime` must be known, name a year, and take the zone of times from %z."""
    codes = _CODES.findall(pattern)
    try:
        dt.datetime.strptime(dt.datetime(2024, 1, 5, 12, tzinfo=dt.UTC).strftime(pattern), pattern)
    except (ValueError, re.error):
        raise DatasetError(
            f"{where}: format {pattern!r} is none of {', '.join(FORMATS)} and no pattern of Python's strptime"
        ) from None
    if not {"Y", "y", "c", "x", "G"} & set(codes):
        raise DatasetError(f"{where}: format {pattern!r} has no year; add %Y where the year stands")
    if "Z" in codes or re.search(r"%[HMSfTXR]Z$", pattern):
        raise DatasetError(
            f"{where}: format {pattern!r} passes over the zone; write %z, which reads Z and +01:00, or set time_zone"
        )


def _check_condition(where: str, condition: Condition) -> None:
    if (condition.in_ is None) == (condition.not_in is None):
        raise DatasetError(f"{where}: the condition on column {condition.column} needs either in or not_in")


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _explained(error: str) -> str:
    """msgspec's message in the words of a TOML file: its path without the leading `$.`."""
    return error.replace("Object", "the table").replace("`$.", "`").replace("`$`", "the top of the file")
