"""Dates are read as their format says, digit by digit, and counted in months and days as calendars do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.datasets.cell_dates import date_reader, days_between_reader, months_later
from model.datasets.cell_values import CellError, Reader, Style
from model.datasets.cells import zone_of
from model.datasets.rules import Csv, Rule

PRAGUE = Style(Csv(), ("",), zone_of("Europe/Prague"))
NEW_YORK = Style(Csv(), ("",), zone_of("America/New_York"))
UTC = Style(Csv(), ("",), dt.UTC)


def cell_of(column: str) -> Reader:
    return lambda row: row[column]


def read(rule: Rule, cells: dict[str, Any], style: Style = UTC, *, days: bool = False) -> Any:
    return date_reader(rule, cell_of, style, whole_days=days)(cells)


def moment(rule: Rule, cell: Any, style: Style = UTC) -> str:
    return read(rule, {"a": cell}, style).isoformat()


A = Rule(column="a")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-01-05", "2024-01-05T00:00:00+00:00"),
        ("20240105", "2024-01-05T00:00:00+00:00"),
        (20240105, "2024-01-05T00:00:00+00:00"),
        (20240105.0, "2024-01-05T00:00:00+00:00"),
        (Decimal("20240105.000"), "2024-01-05T00:00:00+00:00"),
        ("2024-01-05 12:00", "2024-01-05T12:00:00+00:00"),
        ("2024-01-05T12:00:00Z", "2024-01-05T12:00:00+00:00"),
        ("2024-01-05T12:00:00.123456789+01:00", "2024-01-05T11:00:00.123456+00:00"),
        ("2024-01-05 12:00:00,5+0100", "2024-01-05T11:00:00.500000+00:00"),
        ("20240105T120000Z", "2024-01-05T12:00:00+00:00"),
        ("20240105T12", "2024-01-05T12:00:00+00:00"),
    ],
)
def test_iso_dates(text: Any, found: str) -> None:
    assert moment(A, text) == found


@pytest.mark.parametrize(
    "text",
    [
        "20240105120000",
        "20240105120000Z",
        "202401051200",
        20240105120000,
        "20240105112",
        "2024-01-05x12:00",
        "2024-01-05-12:00",
        "2024-01-05112:00",
        "2024-W01-5",
        "2024-005",
        "2024-1-5",
        "24-01-05",
        "05-01-2024",
        "1704412800",
        "1704412800000",
        "240105",
        "2024-01-05T12:00:00 PM",
        "2024-13-01",
        "\u0662\u0660\u0662\u0664-01-05",
    ],
)
def test_what_only_looks_like_an_iso_date_is_refused(text: Any) -> None:
    with pytest.raises(CellError, match=r"column a: .* is no date of the format 'iso'.*set format"):
        moment(A, text)


@given(st.text("0123456789TZ+-: .", min_size=11, max_size=20))
def test_digits_are_never_taken_for_a_separator(text: str) -> None:
    try:
        found = read(A, {"a": text})
    except CellError:
        return
    assert found is None or (text.strip()[8] in "T " or text.strip()[10:11] in ("", "T", " "))


@pytest.mark.parametrize(
    ("pattern", "cell", "found"),
    [
        ("%Y%m%d%H%M%S", "20240105120000", "2024-01-05T12:00:00+00:00"),
        ("%Y%m%d%H%M%S", 20240105120000, "2024-01-05T12:00:00+00:00"),
        ("%Y%m%d%H%M%S%z", "20240105120000Z", "2024-01-05T12:00:00+00:00"),
        ("%y%m%d", 50105, "2005-01-05T00:00:00+00:00"),
        ("%y%m%d", 105.0, "2000-01-05T00:00:00+00:00"),
        ("%d%m%Y", Decimal(5012024), "2024-01-05T00:00:00+00:00"),
        ("%d.%m.%Y", "5.1.2024", "2024-01-05T00:00:00+00:00"),
        ("%m/%Y", "02/2024", "2024-02-01T00:00:00+00:00"),
        ("%b-%y", "Jan-24", "2024-01-01T00:00:00+00:00"),
        ("epoch_s", "1704412800", "2024-01-05T00:00:00+00:00"),
        ("epoch_s", "1704412800.0", "2024-01-05T00:00:00+00:00"),
        ("epoch_ms", Decimal(1704412800123), "2024-01-05T00:00:00.123000+00:00"),
    ],
)
def test_patterns(pattern: str, cell: Any, found: str) -> None:
    assert moment(Rule(column="a", format=pattern), cell) == found


@pytest.mark.parametrize(
    ("pattern", "cell", "said"),
    [
        ("%y%m%d", "50105", "6 characters, it has 5"),
        ("%Y%m%d", "2024115", "8 characters, it has 7"),
        ("%Y%m%d", 202401051, "8 characters, it has 9"),
        ("%Y%m%d%H%M%S", "2024010512000", "14 characters, it has 13"),
        ("epoch_ms", "1704412800", "rather seconds: epoch_s"),
        ("epoch_ms", 0, "rather seconds"),
        ("epoch_s", 1704412800000, "is no date"),
        ("epoch_s", "1_704", "is no date"),
        ("epoch_s", "nan", "is no date"),
        ("epoch_s", "", None),
    ],
)
def test_what_a_pattern_would_read_as_another_date_is_refused(pattern: str, cell: Any, said: str | None) -> None:
    rule = Rule(column="a", format=pattern)
    if said is None:
        assert read(rule, {"a": cell}) is None
        return
    with pytest.raises(CellError, match=said):
        moment(rule, cell)


EDGES = [dt.date(1, 1, 1), dt.date(1900, 1, 1), dt.date(9999, 12, 31)]


@pytest.mark.parametrize("style", [UTC, PRAGUE, NEW_YORK, Style(Csv(), ("",), dt.timezone(dt.timedelta(hours=14)))])
@pytest.mark.parametrize("day", EDGES)
@pytest.mark.parametrize("time", [None, "23:59:59"])
@pytest.mark.parametrize("typed", [str, lambda day: day, lambda day: dt.datetime.combine(day, dt.time())])
def test_a_date_at_the_edge_is_itself_or_refused_and_may_stand_for_missing(
    style: Style, day: dt.date, time: str | None, typed: Callable[[dt.date], Any]
) -> None:
    rule = Rule(column="a", time=time)
    try:
        found = read(rule, {"a": typed(day)}, style)
    except CellError as error:
        assert "at the edge of the calendar" in str(error)  # noqa: PT017
        assert day != dt.date(1900, 1, 1)
    else:
        assert found.astimezone(style.zone).date() == day
    assert read(rule, {"a": typed(day)}, style.with_missing([str(day)])) is None


@pytest.mark.parametrize("pattern", ["%d.%m.%Y", "%d.%m.%Y %H:%M"])
def test_a_day_that_stands_for_missing_does_so_in_every_format(pattern: str) -> None:
    rule = Rule(column="a", format=pattern, missing=["9999-12-31"])
    assert read(rule, {"a": dt.datetime(9999, 12, 31, 23, 59).strftime(pattern)}) is None
    assert read(rule, {"a": dt.datetime(2024, 12, 31, 23, 59).strftime(pattern)}) is not None


@given(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)), st.integers(-600, 600))
def test_months_later_are_as_many_months_and_keep_the_day_where_there_is_one(date: dt.date, months: int) -> None:
    later = months_later(date, months)
    assert (later.year * 12 + later.month) - (date.year * 12 + date.month) == months
    assert later.day == date.day or (later.day < date.day and (later + dt.timedelta(days=1)).day == 1)


@pytest.mark.parametrize(
    ("rule", "count", "found"),
    [
        (Rule(column="a", months_before="b"), 1, dt.date(2024, 2, 29)),
        (Rule(column="a", months_before="b"), "13", dt.date(2023, 2, 28)),
        (Rule(column="a", months_before="b"), 0.0, dt.date(2024, 3, 31)),
        (Rule(column="a", months_after="b"), -1, dt.date(2024, 2, 29)),
        (Rule(column="a", months_after="b"), 3, dt.date(2024, 6, 30)),
        (Rule(column="a", days_before="b"), 31, dt.date(2024, 2, 29)),
        (Rule(column="a", days_after="b"), "-31", dt.date(2024, 2, 29)),
        (Rule(column="a", days_after="b"), "", None),
        (Rule(column="a", months_before=Rule(constant="2024-03-15"), end_of_month=True), 1, dt.date(2024, 2, 29)),
        (Rule(column="a", months_before=Rule(column="c", format="%m/%y")), 2, dt.date(2023, 12, 1)),
        (Rule(column="a", months_before=Rule(column="b", end_of_month=True), shift_days=1), 1, dt.date(2024, 3, 1)),
    ],
)
def test_numbers_of_months_and_days_from_a_date(rule: Rule, count: Any, found: dt.date | None) -> None:
    cells = {"a": count, "b": "2024-03-31", "c": "02/24"}
    assert read(rule, cells, PRAGUE, days=True) == found


def test_a_moment_counted_back_keeps_the_time_of_day_of_the_zone() -> None:
    rule = Rule(column="a", months_before="b", time="18:00")
    at = read(rule, {"a": 6, "b": "2024-07-15"}, PRAGUE)
    assert at.isoformat() == "2024-01-15T17:00:00+00:00", "winter time"
    with_time = {"a": 6, "b": "2024-07-15T08:00"}
    assert read(rule, with_time, PRAGUE).isoformat() == "2024-01-15T07:00:00+00:00"


@pytest.mark.parametrize(
    ("count", "base", "said"),
    [
        (1.5, "2024-01-31", "no whole number"),
        ("two", "2024-01-31", "is no number"),
        (99_999, "2024-01-31", "outside the calendar"),
        (1, "soon", "column b: 'soon' is no date"),
        (1, "0001-01-01", "outside the calendar"),
    ],
)
def test_what_cannot_be_counted_is_said(count: Any, base: str, said: str) -> None:
    with pytest.raises(CellError, match=said):
        read(Rule(column="a", months_before="b"), {"a": count, "b": base})


@given(st.dates(dt.date(1970, 1, 2), dt.date(2100, 1, 1)), st.integers(-400, 400))
def test_days_between_are_calendar_days(due: dt.date, late: int) -> None:
    paid = due + dt.timedelta(days=late)
    ends = [date_reader(Rule(column=name), cell_of, PRAGUE, whole_days=True) for name in ("due", "paid")]
    days = days_between_reader(*ends)
    assert days({"due": str(due), "paid": f"{paid}T23:59:00"}) == late
    assert days({"due": str(due), "paid": ""}) is None


@given(st.dates(dt.date(1, 1, 2), dt.date(9999, 12, 30)))
def test_the_end_of_a_month_is_its_last_day(date: dt.date) -> None:
    found = read(Rule(column="a", end_of_month=True), {"a": date}, days=True)
    assert (found.year, found.month) == (date.year, date.month)
    assert found.month == 12 or (found + dt.timedelta(days=1)).day == 1
