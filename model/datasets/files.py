"""Files: a user's own tables, CSV or Parquet, as a data set, by a mapping file that assigns their columns to fields.

Events are read as a stream and sorted on disk, so memory does not grow with their number; outcomes are kept in memory.
Every error names the file, the row, the column and what to do. docs/own-data.md is the reference.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from events.types import EVENT_TYPES, KINDS, Event, Kind, encode_event
from model.datasets.cells import CellError, Row, SectionReader, Style, zone_of
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.mapping import OUTCOME_TYPES, Csv, Rule, Section, field_types, read_mapping, rule_of
from model.datasets.spool import Spool

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".asc")
PARQUET_SUFFIXES = (".parquet", ".pq")
PARQUET_ROWS = 8_192
RANKS: dict[Kind, int] = {"profiles": 0, "repayments": 1, "transactions": 2, "activity": 3}
"""Order of the kinds at equal times, the same as when the worker merges topics."""

Numbered: TypeAlias = tuple[str, Row]
"""Where a row stands in its file ("line 3"), and its cells."""


class Files:
    """A `Dataset`; `path` is the mapping file. Paths in it are relative to its folder."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise DatasetError(f"{self._path} is no file; name your mapping file with --path (see docs/own-data.md)")
        self.mapping = read_mapping(self._path)
        self.name = self.mapping.name
        self.headline_horizon_days = self.mapping.headline_horizon_days
        self.split_by = self.mapping.split
        self._zone = zone_of(self.mapping.time_zone)
        self._outcomes, self._before_ms = self._read_outcomes()
        self._spool: Spool | None = None

    def events(self) -> Iterator[Event]:
        """All events in order of event time; at one moment by kind, then in the order of sections, files and rows.

        Of events of one kind and moment with the same id, the first counts. The first call reads the tables.
        """
        if self._spool is None:
            spool = Spool()
            for kind in KINDS:
                for number, section in enumerate(self.mapping.sections(kind)):
                    self._take(spool, kind, number, section)
            if not len(spool):
                raise DatasetError(f"{self._path}: its tables hold no event; look at its paths and conditions")
            self._spool = spool
        return self._decoded(self._spool)

    def outcomes(self) -> dict[str, Outcome]:
        return dict(self._outcomes)

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def _decoded(self, spool: Spool) -> Iterator[Event]:
        decoders = {RANKS[kind]: msgspec.json.Decoder(EVENT_TYPES[kind]).decode for kind in KINDS}
        for (_, rank), items in itertools.groupby(spool.items(), key=lambda item: item[:2]):
            seen: set[str] = set()
            for item in items:
                event = decoders[rank](item[3])
                if event.event_id not in seen:
                    seen.add(event.event_id)
                    yield event

    def _take(self, spool: Spool, kind: Kind, number: int, section: Section) -> None:
        """Put a section's events into the spool."""
        reader = self._reader(section, field_types(kind))
        drop_others = self.mapping.other_users == "drop"
        for file in self._files(section):
            label = f"{kind}-{number}-{file.name}"
            for place, values in self._rows(file, section, reader):
                values.setdefault("event_id", f"{label}-{place.split()[1]}")
                event = self._event(kind, values, section, file, place)
                time_ms = round(event.occurred_at.timestamp() * 1000)
                if time_ms >= self._before_ms.get(event.user_id, time_ms + 1):
                    continue
                if drop_others and event.user_id not in self._outcomes:
                    continue
                spool.put(time_ms, RANKS[kind], encode_event(event))

    def _event(self, kind: Kind, values: dict[str, Any], section: Section, file: Path, place: str) -> Event:
        try:
            return msgspec.convert(values, EVENT_TYPES[kind])
        except msgspec.ValidationError as error:
            raise DatasetError(_refused(file, place, section, values, str(error))) from None

    def _read_outcomes(self) -> tuple[dict[str, Outcome], dict[str, int]]:
        section = self.mapping.outcomes
        reader = self._reader(section, OUTCOME_TYPES)
        outcomes: dict[str, Outcome] = {}
        before: dict[str, int] = {}
        for file in self._files(section):
            for place, values in self._rows(file, section, reader):
                outcome = _outcome(values, f"{file}, {place}")
                if outcome.user_id in outcomes:
                    raise DatasetError(
                        f"{file}, {place}: user {outcome.user_id} has an outcome already; keep one of them"
                    )
                outcomes[outcome.user_id] = outcome
                if values.get("events_before") is not None:
                    before[outcome.user_id] = round(values["events_before"].timestamp() * 1000)
        if not outcomes:
            raise DatasetError(f"{self._path}: the tables of outcomes hold none; look at path and where of [outcomes]")
        return outcomes, before

    def _reader(self, section: Section, types: Any) -> SectionReader:
        return SectionReader(section, types, Style(self._csv(section), tuple(self.mapping.missing), self._zone))

    def _csv(self, section: Section) -> Csv:
        return section.csv or self.mapping.csv

    def _rows(self, file: Path, section: Section, reader: SectionReader) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each wanted row stands, and its fields."""
        rows: Iterator[Numbered]
        if file.suffix in PARQUET_SUFFIXES:
            rows = _parquet_rows(file, reader.columns)
        else:
            rows = _text_rows(file, reader.columns, self._csv(section))
        for place, row in rows:
            try:
                if reader.wanted(row):
                    yield place, reader.fields(row)
            except CellError as error:
                raise DatasetError(f"{file}, {place}, {error}") from None

    def _files(self, section: Section) -> list[Path]:
        """The files of a section: those it names, those of a folder, those that a pattern matches, in order of name."""
        found: list[Path] = []
        for text in [section.path] if isinstance(section.path, str) else section.path:
            path = self._path.parent / text
            if path.is_dir():
                matches = sorted(each for each in path.iterdir() if _is_table(each))
            elif path.is_file():
                matches = [path]
            else:
                folder, pattern = _pattern(self._path.parent, text)
                matches = sorted(each for each in folder.glob(pattern) if each.is_file())
            if not matches:
                raise DatasetError(
                    f"{self._path}: path {text!r} is no file, no folder with tables and no pattern that matches one; "
                    "paths are relative to the mapping file"
                )
            found += matches
        return list(dict.fromkeys(found))


def _pattern(folder: Path, text: str) -> tuple[Path, str]:
    path = Path(text)
    return (Path(path.anchor), str(path.relative_to(path.anchor))) if path.is_absolute() else (folder, text)


def _is_table(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return path.is_file() and not name.startswith((".", "_")) and name.endswith((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))


def _text_rows(file: Path, columns: list[str], style: Csv) -> Iterator[Numbered]:
    """Rows of delimited text, plain or gzipped; the first line has the columns' names."""
    opener: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding=style.encoding, newline="") as text:
            lines = csv.reader(text, delimiter=style.delimiter, strict=True)
            header = [name.strip().removeprefix("\ufeff") for name in next(lines, [])]
            _check_columns(file, columns, header)
            positions = [header.index(column) for column in columns]
            width = len(header)
            for cells in lines:
                if len(cells) == width:
                    yield f"line {lines.line_num}", [cells[position] for position in positions]
                elif cells:
                    raise DatasetError(
                        f"{file}, line {lines.line_num}: {len(cells)} cells, but the header names {width} columns; "
                        "correct the line, or the delimiter under csv"
                    )
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{file} is not written in {style.encoding} ({error.reason}); set encoding under csv"
        ) from None
    except LookupError:
        raise DatasetError(f"{file}: encoding {style.encoding!r} is not known; correct it under csv") from None
    except (OSError, EOFError, csv.Error) as error:
        raise DatasetError(f"{file}: cannot be read as a table: {error}; look at csv in the mapping") from None


def _parquet_rows(file: Path, columns: list[str]) -> Iterator[Numbered]:
    """Rows of a Parquet file, a batch at a time. Needs pyarrow (the `files` extra)."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(
            f"{file}: {error}; Parquet needs pyarrow: pip install -c constraints.txt '.[files]'"
        ) from None
    try:
        with pq.ParquetFile(file) as table:
            _check_columns(file, columns, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(PARQUET_ROWS, columns=columns):
                cells = [_cells(pa, batch.column(batch.schema.get_field_index(column))) for column in columns]
                for row in zip(*cells, strict=True) if cells else [()] * batch.num_rows:
                    number += 1
                    yield f"row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file}: cannot be read as Parquet: {error}; write it again") from None


def _cells(pa: Any, values: Any) -> list[Any]:
    """A column as Python values. Times are truncated to microseconds, the resolution of Python's datetimes."""
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    found: list[Any] = values.to_pylist()
    return found


def _check_columns(file: Path, columns: list[str], header: list[str]) -> None:
    absent = [column for column in columns if column not in header]
    if absent:
        shown = ", ".join(header[:20]) or "none"
        raise DatasetError(f"{file}: no column {', '.join(absent)}; it has {shown}. Correct the mapping")


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


def _refused(file: Path, place: str, section: Section, values: dict[str, Any], error: str) -> str:
    """msgspec's complaint about a field in the words of the table."""
    match = re.search(r"`\$\.(\w+)`", error)
    name = match[1] if match else ""
    rule = rule_of(section, name) if name in section.fields else None
    told = error.split(" - at ")[0]
    column = "" if rule is None else f", {_named(rule)}"
    return f"{file}, {place}{column}: {name} is {values.get(name)!r}: {told}; correct the table, or the rule of {name}"


def _named(rule: Rule) -> str:
    if rule.column is not None:
        return f"column {rule.column}"
    return "the constant" if rule.sum is None else f"columns {', '.join(term.column for term in rule.sum)}"
