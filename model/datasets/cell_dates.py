"""Dates of tables: from cells to moments, by format, time zone, and numbers of months or days from another date.

Whatever can be read in two ways is refused: the text of a date must have the form that its format says, digit by digit.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from model.datasets.cell_values import (
    CellError,
    Reader,
    Row,
    Style,
    key_of,
    number_reader,
    whole_reader,
    written,
)
from model.datasets.rules import Rule, base_of

UTC = dt.UTC

_EPOCHS = {"epoch_s": 1.0, "epoch_ms": 1e-3}
_LEAST_EPOCH_MS = 1e10
"""Smaller numbers, dated until 1970-04-26 as milliseconds, are seconds of the years 1970 to 2286."""
DIFFERENT_TEXTS = 1 << 16
"""Texts of dates whose moments are kept, since tables repeat them."""
_TIME_CODES = ("%H", "%I", "%c", "%X", "%T", "%R")
_ISO = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
    r"(?P<time>[T ][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH_TEXT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_CODE_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3}
_DIGITS_ADJACENT = re.compile(r"%[YymdHMSj](?:%[YymdHMSj]|[0-9])")


def date_reader(rule: Rule, cell_of: Callable[[str], Reader], style: Style, *, whole_days: bool) -> Reader:
    """Moments in UTC, or, with `whole_days`, days of the time zone; None where missing."""
    read_local, column = _local_reader(rule, cell_of, style, dt.time()), rule.column or ""

    def read(row: Row) -> dt.datetime | dt.date | None:
        found = read_local(row)
        if found is None:
            return None
        try:
            moment: dt.datetime = found.astimezone(style.zone if whole_days else UTC)
        except (ValueError, OverflowError):
            raise CellError(column, _outside(found)) from None
        return moment.date() if whole_days else moment

    return read


def days_between_reader(start: Reader, end: Reader) -> Reader:
    """Days from one date until another, float; None where either is missing."""

    def read(row: Row) -> float | None:
        first, last = start(row), end(row)
        return None if first is None or last is None else float((last - first).days)

    return read


def months_later(date: dt.date, months: int) -> dt.date:
    """The same day so many months later (negative: earlier), or that month's last day where it is shorter."""
    year, place = divmod(date.year * 12 + date.month - 1 + months, 12)
    return dt.date(year, place + 1, min(date.day, calendar.monthrange(year, place + 1)[1]))


def _local_reader(rule: Rule, cell_of: Callable[[str], Reader], style: Style, clock: dt.time) -> Reader:
    """Moments with a time zone. `clock` is the time of day of dates without one, unless the rule has its own."""
    clock = dt.time.fromisoformat(rule.time) if rule.time else clock
    style = style.with_missing(rule.missing)
    column = rule.column or ""
    base = base_of(rule)
    if base is not None:
        source = _relative_reader(column, base[0], base[1], cell_of, style, clock)
    elif rule.constant is not None:
        fixed = _absolute_reader("(constant)", "iso", lambda _: rule.constant, style, clock)([])
        source = _always(fixed)
    else:
        source = _absolute_reader(column, rule.format or "iso", cell_of(column), style, clock)
    shift = dt.timedelta(days=rule.shift_days or 0.0)
    to_month_end = bool(rule.end_of_month)
    if not shift and not to_month_end:
        return source

    def read(row: Row) -> dt.datetime | None:
        found: dt.datetime | None = source(row)
        if found is None:
            return None
        try:
            if to_month_end:
                found = found.astimezone(style.zone)
                found = found.replace(day=calendar.monthrange(found.year, found.month)[1])
            return found + shift
        except (ValueError, OverflowError):
            raise CellError(column, _outside(found)) from None

    return read


def _always(value: Any) -> Reader:
    return lambda _: value


def _relative_reader(
    column: str, key: str, base: Rule, cell_of: Callable[[str], Reader], style: Style, clock: dt.time
) -> Reader:
    unit, direction = key.split("_")
    number = whole_reader(column, number_reader(column, cell_of(column), style))
    start_of = _local_reader(base, cell_of, style, clock)
    sign = -1 if direction == "before" else 1

    def read(row: Row) -> dt.datetime | None:
        count: int | None = number(row)
        start: dt.datetime | None = start_of(row)
        if count is None or start is None:
            return None
        try:
            local = start.astimezone(style.zone)
            date = local.date()
            moved = months_later(date, sign * count) if unit == "months" else date + dt.timedelta(days=sign * count)
        except (ValueError, OverflowError):
            told = f"{count} {unit} {direction} {start.date()} is outside the calendar"
            raise CellError(column, f"{told}; list it under missing, or correct it") from None
        return dt.datetime.combine(moved, local.time(), style.zone)

    return read


def _absolute_reader(column: str, pattern: str, cell: Reader, style: Style, clock: dt.time) -> Reader:
    missing = style.missing_keys()
    missing_days = {dt.date.fromisoformat(key) for key in missing if _DAY.fullmatch(key) and _is_day(key)}
    moment_of = _moment_reader(pattern, clock, style.zone)

    def read(row: Row) -> dt.datetime | None:
        raw = cell(row)
        if raw is None or key_of(raw) in missing or (not isinstance(raw, str) and written(raw) in missing):
            return None
        try:
            found = moment_of(raw)
        except (ValueError, OverflowError, TypeError) as error:
            told = f" ({error})" if isinstance(error, _Ambiguous) else ""
            raise CellError(
                column,
                f"{_shown(raw)} is no date of the format {pattern!r}{told}; set format or list it under missing",
            ) from None
        # A day that stands for missing does so in every format and at every time of that day.
        return None if missing_days and found.date() in missing_days else found

    return read


class _Ambiguous(ValueError):
    """A text that `strptime` would read, but perhaps not as it is meant."""


def _moment_reader(pattern: str, clock: dt.time, zone: dt.tzinfo) -> Callable[[Any], dt.datetime]:
    """From a cell to the moment that it names; a date without a time gets `clock`, a time without a zone `zone`."""
    has_time = any(code in pattern for code in _TIME_CODES)
    width = _fixed_width(pattern)

    @lru_cache(DIFFERENT_TEXTS)
    def of_text(text: str, typed: bool) -> dt.datetime:
        if pattern == "iso":
            form = _ISO.fullmatch(text)
            if form is None:
                raise ValueError
            found, timed = dt.datetime.fromisoformat(text), form["time"] is not None
        else:
            if width is not None and typed:
                text = text.rjust(width, "0")  # a number has lost the zeros in front
            if width is not None and len(text) != width:
                raise _Ambiguous(f"{width} characters, it has {len(text)}")
            found, timed = dt.datetime.strptime(text, pattern), has_time
        return found if timed else dt.datetime.combine(found.date(), clock, found.tzinfo)

    def of_cell(raw: Any) -> dt.datetime:
        if isinstance(raw, dt.datetime):
            found = raw
        elif isinstance(raw, dt.date):
            found = dt.datetime.combine(raw, clock)
        elif pattern in _EPOCHS:
            return _of_epoch(raw, pattern)
        else:
            found = of_text(written(raw), not isinstance(raw, str))
        return found if found.tzinfo is not None else found.replace(tzinfo=zone)

    return of_cell


def _of_epoch(raw: Any, pattern: str) -> dt.datetime:
    if isinstance(raw, str) and not _EPOCH_TEXT.fullmatch(raw.strip()):
        raise ValueError
    number = float(raw)
    if pattern == "epoch_ms" and abs(number) < _LEAST_EPOCH_MS:
        raise _Ambiguous("so few milliseconds are rather seconds: epoch_s")
    return dt.datetime.fromtimestamp(number * _EPOCHS[pattern], UTC)


def _fixed_width(pattern: str) -> int | None:
    """The length of a text whose numbers stand without a separator, such as %y%m%d; None where separators part them."""
    if not _DIGITS_ADJACENT.search(pattern):
        return None
    width = 0
    for code, literal in re.findall(r"%(.)|([^%])", pattern):
        if literal:
            width += 1
        elif code in _CODE_WIDTHS:
            width += _CODE_WIDTHS[code]
        else:
            return None
    return width


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _shown(raw: Any) -> str:
    return str(raw) if isinstance(raw, dt.date) else repr(raw)


def _outside(found: dt.datetime) -> str:
    return f"{found.replace(tzinfo=None)} is at the edge of the calendar and has no time in UTC; list it under missing"
