"""Files: a user's own tables, CSV or Parquet, as a data set, by a mapping file that assigns their columns to fields.

Events are read as a stream and sorted on disk, so memory hardly grows with their number; outcomes are kept in memory.
Every error names the file, the row, the column and what to do. docs/own-data.md is the reference.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from events.dates import EARLIEST_DATE, LATEST_DATE, OutsideTime, date_outside, time_outside
from events.types import EVENT_TYPES, KINDS, Event, Kind
from model.datasets.cell_values import CellError, Style
from model.datasets.cells import SectionReader, zone_of
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.delimited import text_rows
from model.datasets.mapping import OUTCOME_TYPES, field_types, read_mapping
from model.datasets.parquet import parquet_rows
from model.datasets.rules import Csv, FieldType, Rule, Section, columns_of_rule, rule_of
from model.datasets.spooled_events import Origin, SpooledEvents
from model.datasets.table_files import files_of, is_parquet, name_from

RANKS: dict[Kind, int] = {"profiles": 0, "repayments": 1, "transactions": 2, "activity": 3}
"""Order of the kinds at equal times, the same as when the worker merges topics."""

LONGEST_LABEL = 96
"""Characters of a made-up event id that name kind, section and file; the rest is room for the row and the period."""

MANY_STRANGERS = 20
"""Users of a section, none of whom has an outcome, that are no chance: their ids are written otherwise."""

_OUTSIDE: dict[OutsideTime, str] = {
    "before_1970": "before 1970",
    "in_the_future": "more than a day ahead of the clock",
}

Fields = dict[str, Any]
"""Values of a row by field name."""


class Files:
    """A `Dataset`; `path` is the mapping file. Paths in it are relative to its folder.

    `now_ms` (ms since 1970-01-01 UTC) is the clock that events and outcomes may not be ahead of, by default the wall's.
    """

    def __init__(self, path: Path, now_ms: int | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise DatasetError(f"{self._path} is no file; name your mapping file with --path (see docs/own-data.md)")
        self._now_ms = round(time.time() * 1000) if now_ms is None else now_ms
        self.mapping = read_mapping(self._path)
        self.name = self.mapping.name
        self.headline_horizon_days = self.mapping.headline_horizon_days
        self.split_by = self.mapping.split
        self._zone = zone_of(self.mapping.time_zone)
        self._outcomes, self._before_ms = self._read_outcomes()
        self._events: SpooledEvents | None = None
        self._known, self._stranger = False, ""

    def events(self) -> Iterator[Event]:
        """All events in order of event time; at one moment by kind, then in the order of sections, files and rows.

        An event that stands twice, with the same id and content, comes once. The first call reads the tables.
        """
        if self._events is None:
            events = SpooledEvents(RANKS)
            for kind in KINDS:
                for number, section in enumerate(self.mapping.sections(kind)):
                    self._take(events, kind, number, section)
            if not self._known and self._stranger:
                raise DatasetError(self._no_outcome("no user of any event", self._stranger))
            if not len(events):
                raise DatasetError(f"{self._path}: its tables hold no event; look at its paths and conditions")
            events.check()
            self._events = events
        return iter(self._events)

    def outcomes(self) -> dict[str, Outcome]:
        return dict(self._outcomes)

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def _take(self, events: SpooledEvents, kind: Kind, number: int, section: Section) -> None:
        """Put a section's events into the spool."""
        reader = self._reader(section, field_types(kind))
        drop_others = self.mapping.other_users == "drop"
        strangers: set[str] = set()
        known = False
        for file in files_of(self._path, _paths(section)):
            label = _label(kind, number, name_from(self._path.parent, file))
            for origin, values in self._rows(file, section, reader):
                period = "" if origin.period is None else f"-{origin.period}"
                values.setdefault("event_id", f"{label}-{origin.place.number}{period}")
                event = self._event(kind, values, section, reader, origin)
                self._check_dates(values, section, reader, origin)
                if event.user_id in self._outcomes:
                    known = True
                else:
                    if len(strangers) < MANY_STRANGERS:
                        strangers.add(event.user_id)
                    if drop_others:
                        continue
                time_ms = round(event.occurred_at.timestamp() * 1000)
                if time_ms < self._before_ms.get(event.user_id, time_ms + 1):
                    events.put(event, origin)
        self._known = self._known or known
        self._stranger = self._stranger or min(strangers, default="")
        if not known and len(strangers) >= MANY_STRANGERS:
            sections = self.mapping.sections(kind)
            where = f"[{kind}]" if len(sections) == 1 else f"[[{kind}]] {number + 1}"
            raise DatasetError(self._no_outcome(f"{where}: none of its users", min(strangers)))

    def _no_outcome(self, whose: str, stranger: str) -> str:
        return (
            f"{self._path}: {whose} has an outcome; events have users such as {stranger!r}, [outcomes] such as "
            f"{next(iter(self._outcomes))!r}: make user_id the same in both (column, prefix, zeros in front)"
        )

    def _event(self, kind: Kind, values: Fields, section: Section, reader: SectionReader, origin: Origin) -> Event:
        try:
            return msgspec.convert(values, EVENT_TYPES[kind])
        except msgspec.ValidationError as error:
            raise DatasetError(_refused(origin, section, reader, values, str(error))) from None

    def _read_outcomes(self) -> tuple[dict[str, Outcome], dict[str, int]]:
        section = self.mapping.outcomes
        reader = self._reader(section, OUTCOME_TYPES)
        outcomes: dict[str, Outcome] = {}
        before: dict[str, int] = {}
        for file in files_of(self._path, _paths(section)):
            for origin, values in self._rows(file, section, reader):
                self._check_dates(values, section, reader, origin)
                outcome = _outcome(values, str(origin))
                user_id = outcome.user_id
                if user_id in outcomes and self.mapping.several_outcomes == "refuse":
                    raise DatasetError(
                        f"{origin}: user {user_id} has an outcome already; keep one of them, or, where each row is a "
                        'loan, set several_outcomes = "merge"'
                    )
                outcomes[user_id] = _merged(outcomes[user_id], outcome) if user_id in outcomes else outcome
                if values.get("events_before") is not None:
                    before_ms = round(values["events_before"].timestamp() * 1000)
                    before[user_id] = min(before.get(user_id, before_ms), before_ms)
        if not outcomes:
            raise DatasetError(f"{self._path}: the tables of outcomes hold none; look at path and where of [outcomes]")
        return outcomes, before

    def _reader(self, section: Section, types: Mapping[str, FieldType]) -> SectionReader:
        try:
            return SectionReader(section, types, Style(self._csv(section), tuple(self.mapping.missing), self._zone))
        except CellError as error:
            raise DatasetError(f"{self._path}: the rules of {section.path}: {error}") from None

    def _csv(self, section: Section) -> Csv:
        return section.csv or self.mapping.csv

    def _rows(self, file: Path, section: Section, reader: SectionReader) -> Iterator[tuple[Origin, Fields]]:
        """Where each wanted row stands, and its fields."""
        if is_parquet(file):
            in_utc = self.mapping.time_zone in ("UTC", "Etc/UTC")
            rows = parquet_rows(file, reader.columns, reader.made, zone_is_utc=in_utc)
        else:
            rows = text_rows(file, reader.columns, self._csv(section), reader.made)
        for place, cells in rows:
            number: int | None = None
            try:
                for number, row in reader.periods(cells):
                    if reader.wanted(row):
                        yield Origin(file, place, number), reader.fields(row)
            except CellError as error:
                column = reader.column_of(error.column, number)
                raise DatasetError(f"{Origin(file, place, number)}, column {column}: {error.told}") from None

    def _check_dates(self, values: Fields, section: Section, reader: SectionReader, origin: Origin) -> None:
        """Whether dates are within what serving takes. Those of events and outcomes lie not ahead of the clock."""
        for name, value in values.items():
            if not isinstance(value, dt.date):
                continue
            if isinstance(value, dt.datetime) and name != "events_before":
                outside = time_outside(round(value.timestamp() * 1000), self._now_ms)
                told = None if outside is None else _OUTSIDE[outside]
            else:
                day = value.date() if isinstance(value, dt.datetime) else value
                told = f"not within {EARLIEST_DATE} and {LATEST_DATE}" if date_outside(day) else None
            if told is not None:
                column = _column(section, reader, name, origin)
                raise DatasetError(
                    f"{origin}{column}: {name} is {value}, which is {told}; list it under missing if it stands for "
                    "none, leave such rows out with where, or correct it"
                )


def _paths(section: Section) -> list[str]:
    return [section.path] if isinstance(section.path, str) else section.path


def _label(kind: Kind, number: int, name: str) -> str:
    """What made-up ids of a file's events begin with; a long name is cut off at the front, after its hash."""
    name = name.encode("utf-8", "backslashreplace").decode()
    label = f"{kind}-{number}-{name}"
    if len(label) <= LONGEST_LABEL:
        return label
    start = f"{kind}-{number}-{hashlib.sha256(name.encode()).hexdigest()[:16]}-"
    return start + name[len(start) - LONGEST_LABEL :]


def _outcome(values: dict[str, Any], where: str) -> Outcome:
    # The keys of a mapping file keep their names: `onset` is the default date, `observed_until` the observation end.
    until, default_date, label = values["observed_until"], values.get("onset"), values.get("label")
    if until is None:
        raise DatasetError(f"{where}: observed_until is missing; say until when the user was observed")
    if label not in (None, 0, 1):
        raise DatasetError(f"{where}: label is {label}; map it to 1 (bad) and 0 (good)")
    return Outcome(
        user_id=values["user_id"],
        default_date_ms=None if default_date is None else round(default_date.timestamp() * 1000),
        observation_end_ms=round(until.timestamp() * 1000),
        label=None if label is None else int(label),
    )


def _merged(one: Outcome, other: Outcome) -> Outcome:
    """The outcome of a user of whom several loans are known: in default as soon as one is, known as long as one is."""
    dates = [each.default_date_ms for each in (one, other) if each.default_date_ms is not None]
    labels = [each.label for each in (one, other) if each.label is not None]
    return Outcome(
        user_id=one.user_id,
        default_date_ms=min(dates, default=None),
        observation_end_ms=max(one.observation_end_ms, other.observation_end_ms),
        label=max(labels, default=None),
    )


def _refused(origin: Origin, section: Section, reader: SectionReader, values: Fields, error: str) -> str:
    """msgspec's complaint about a field in the words of the table."""
    match = re.search(r"`\$\.(\w+)`", error)
    name = match[1] if match else ""
    told = error.split(" - at ")[0]
    if name == "event_id" and name not in section.fields:
        remedy = "give event_id a rule"
    else:
        remedy = f"correct the table, or the rule of {name}"
    return f"{origin}{_column(section, reader, name, origin)}: {name} is {values.get(name)!r}: {told}; {remedy}"


def _column(section: Section, reader: SectionReader, name: str, origin: Origin) -> str:
    """The columns of a field, for messages; nothing where it has none."""
    rule = rule_of(section, name) if name in section.fields else None
    if rule is None:
        return ""
    columns = [reader.column_of(column, origin.period) for column in _named(rule)]
    return f", column{'s' * (len(columns) > 1)} {', '.join(columns)}" if columns else ", the constant"


def _named(rule: Rule) -> list[str]:
    """The columns that a rule's value is made of, without those of its conditions."""
    return columns_of_rule(msgspec.structs.replace(rule, where=None))
