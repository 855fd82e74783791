"""Each rule does to a cell what the reference says, for text and for typed cells alike."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.datasets.cell_values import CellError, Style, Unreadable
from model.datasets.cells import SectionReader, zone_of
from model.datasets.rules import Band, Condition, Csv, DaysBetween, FieldType, Rule, Section, Sign, Term

STYLE = Style(Csv(), ("", "NA"), zone_of("Europe/Prague"))


def value(rule: Rule, kind: FieldType, cells: dict[str, Any], style: Style = STYLE) -> Any:
    reader = SectionReader(Section(path="x", fields={"field": rule}), {"field": kind}, style)
    return reader.fields([cells[column] for column in reader.columns])["field"]


@pytest.mark.parametrize(
    ("cell", "found"),
    [("1.5", 1.5), (" 2 ", 2.0), ("", None), ("NA", None), (None, None), (float("nan"), None), (3, 3.0)],
)
def test_numbers(cell: Any, found: float | None) -> None:
    assert value(Rule(column="a"), "number", {"a": cell}) == found
    assert value(Rule(column="a"), "number", {"a": Decimal("4.25")}) == 4.25


@pytest.mark.parametrize("cell", ["x", "inf", "nan", dt.date(2020, 1, 1)])
def test_what_is_no_number_is_said(cell: Any) -> None:
    with pytest.raises(CellError, match=r"column a: .*missing"):
        value(Rule(column="a"), "number", {"a": cell})


def test_numbers_are_scaled_signed_and_summed() -> None:
    assert value(Rule(column="a", scale=0.01, absolute=True), "number", {"a": "-250"}) == 2.5
    signed = Rule(column="a", sign=Sign(column="t", negative=["D"], positive=["C", 1]))
    assert value(signed, "number", {"a": "5", "t": "D"}) == -5
    assert value(signed, "number", {"a": "5", "t": 1.0}) == 5
    with pytest.raises(CellError, match=r"column t: 'X' is neither"):
        value(signed, "number", {"a": "5", "t": "X"})
    total = Rule(sum=[Term(column="a"), Term(column="b", scale=-1)])
    assert value(total, "number", {"a": "5", "b": "2"}) == 3
    assert value(total, "number", {"a": "", "b": "2"}) == -2, "what is missing adds nothing"
    assert value(total, "number", {"a": "", "b": None}) is None, "unless all is"


def test_how_numbers_are_written_and_what_stands_for_missing() -> None:
    style = Style(Csv(decimal=",", thousands="."), ("", -999), zone_of("UTC"))
    assert value(Rule(column="a"), "number", {"a": "1.234,5"}, style) == 1234.5
    assert value(Rule(column="a"), "number", {"a": "-999,0"}, style) is None
    assert value(Rule(column="a", missing=[0]), "number", {"a": 0.0}, style) is None
    assert value(Rule(column="a"), "integer", {"a": "7,0"}, style) == 7
    with pytest.raises(CellError, match="no whole number"):
        value(Rule(column="a"), "integer", {"a": "7,5"}, style)


def test_maps_say_what_to_do_with_the_rest() -> None:
    table: dict[str, Any] = {"B": "bad", "1": "one"}
    assert value(Rule(column="a", map=table), "text", {"a": " B "}) == "bad"
    assert value(Rule(column="a", map=table), "text", {"a": 1.0}) == "one"
    assert value(Rule(column="a", map=table), "text", {"a": ""}) is None
    with pytest.raises(CellError, match="'C' is not in the map"):
        value(Rule(column="a", map=table), "text", {"a": "C"})
    assert value(Rule(column="a", map=table, unlisted="keep"), "text", {"a": "C"}) == "C"
    assert value(Rule(column="a", map=table, unlisted="missing"), "text", {"a": "C"}) is None
    assert value(Rule(column="a", map={"two": 2}, scale=10.0), "number", {"a": "two"}) == 20
    kept = Rule(column="a", map={"none": 0}, unlisted="keep")
    assert [value(kept, "number", {"a": cell}) for cell in ("none", "7.5", "", 3)] == [0, 7.5, None, 3]
    with pytest.raises(CellError, match="'few' is no number"):
        value(kept, "number", {"a": "few"})
    assert value(Rule(column="a", map={"": "empty"}), "text", {"a": ""}) == "empty"


def test_bands_take_the_first_that_fits() -> None:
    rule = Rule(column="a", bands=[Band(name="young", below=25), Band(name="middle", below=65), Band(name="old")])
    assert [value(rule, "text", {"a": age}) for age in ("24.9", "25", "64", "65", "")] == [
        "young", "middle", "middle", "old", None,
    ]  # fmt: skip
    assert value(Rule(column="a", bands=[Band(name="young", below=25)]), "text", {"a": 30}) is None


@pytest.mark.parametrize(
    ("rule", "cell", "found"),
    [
        (Rule(column="a"), "2024-01-15", "2024-01-14T23:00:00+00:00"),
        (Rule(column="a"), "2024-07-15", "2024-07-14T22:00:00+00:00"),
        (Rule(column="a", time="18:30"), "2024-01-15", "2024-01-15T17:30:00+00:00"),
        (Rule(column="a", time="18:30"), "2024-01-15T01:00:00+00:00", "2024-01-15T01:00:00+00:00"),
        (Rule(column="a", format="%y%m%d"), 930105, "1993-01-04T23:00:00+00:00"),
        (Rule(column="a", format="%d.%m.%Y %H:%M"), "05.01.2024 10:00", "2024-01-05T09:00:00+00:00"),
        (Rule(column="a", format="epoch_s"), "86400", "1970-01-02T00:00:00+00:00"),
        (Rule(column="a", format="epoch_ms"), 1704448800500, "2024-01-05T10:00:00.500000+00:00"),
        (Rule(column="a"), dt.date(2024, 1, 15), "2024-01-14T23:00:00+00:00"),
        (Rule(column="a"), dt.datetime(2024, 1, 15, 12), "2024-01-15T11:00:00+00:00"),
        (Rule(column="a", shift_days=-1.5), "2024-01-15T12:00", "2024-01-13T23:00:00+00:00"),
        (Rule(constant=dt.date(2024, 1, 15), time="12:00"), None, "2024-01-15T11:00:00+00:00"),
    ],
)
def test_moments_are_in_utc(rule: Rule, cell: Any, found: str) -> None:
    assert value(rule, "moment", {"a": cell}).isoformat() == found


def test_days_are_those_of_the_zone() -> None:
    assert value(Rule(column="a"), "day", {"a": "2024-01-15"}) == dt.date(2024, 1, 15)
    assert value(Rule(column="a"), "day", {"a": "2024-01-15T23:30:00+00:00"}) == dt.date(2024, 1, 16)
    assert value(Rule(column="a", missing=["0"]), "day", {"a": "0"}) is None
    with pytest.raises(CellError, match=r"column a: '15/01/24' is no date of the format 'iso'"):
        value(Rule(column="a"), "day", {"a": "15/01/24"})


def test_a_cell_without_a_value_is_an_error_where_it_is_read_unless_it_is_listed() -> None:
    cell = Unreadable("4611686018427387904", "is outside the years 1 to 9999; list it under missing")
    for kind, rule in (("moment", Rule(column="a")), ("text", Rule(column="a")), ("number", Rule(column="a"))):
        with pytest.raises(CellError, match="column a: is outside the years 1 to 9999"):
            value(rule, kind, {"a": cell})
        assert value(msgspec.structs.replace(rule, missing=[cell.text]), kind, {"a": cell}) is None


def test_codes_that_are_one_value_have_one_meaning() -> None:
    with pytest.raises(CellError, match=r"the map has '1\.0' twice"):
        value(Rule(column="a", map={"1": "x", "1.0": "y"}), "text", {"a": "1"})
    assert value(Rule(column="a", map={"1": "x", "1.0": "x"}), "text", {"a": Decimal("1.00")}) == "x"
    with pytest.raises(CellError, match=r"1\.0 is under negative and under positive"):
        value(Rule(column="a", sign=Sign(column="t", negative=["1"], positive=[1.0])), "number", {"a": "5", "t": "1"})


def test_days_between_two_dates_are_a_number() -> None:
    rule = Rule(
        days_between=DaysBetween(start="due", end=Rule(column="paid", format="%d.%m.%Y")), missing=["9999-12-31"]
    )
    assert value(rule, "number", {"due": "2024-03-15", "paid": "02.04.2024"}) == 18.0
    assert value(rule, "integer", {"due": dt.date(2024, 2, 15), "paid": "13.02.2024"}) == -2
    assert value(rule, "number", {"due": "2024-03-15", "paid": "31.12.9999"}) is None
    scaled = msgspec.structs.replace(rule, absolute=True, scale=0.5)
    assert value(scaled, "number", {"due": "2024-02-15", "paid": "13.02.2024"}) == 1.0


def test_identifiers_are_whole_and_never_empty() -> None:
    assert value(Rule(column="a", prefix="u-"), "identifier", {"a": 12.0}) == "u-12"
    assert value(Rule(column="a"), "identifier", {"a": " 0012 "}) == "0012"
    with pytest.raises(CellError, match="needs this id"):
        value(Rule(column="a"), "identifier", {"a": ""})


def test_conditions_decide_about_rows_and_fields() -> None:
    section = Section(
        path="x",
        fields={"a": Rule(column="a", where=[Condition(column="t", in_=["x"])])},
        where=[Condition(column="t", not_in=["void", 9])],
    )
    reader = SectionReader(section, {"a": "number"}, STYLE)
    assert reader.columns == ["a", "t"]
    assert [reader.wanted(["1", kind]) for kind in ("x", "void", 9.0, "9", "y")] == [True, False, False, False, True]
    assert [reader.fields(["1", kind])["a"] for kind in ("x", "y")] == [1.0, None]


@given(st.floats(-1e12, 1e12))
def test_a_number_is_the_same_from_text_and_typed(number: float) -> None:
    assert value(Rule(column="a"), "number", {"a": repr(number)}) == value(Rule(column="a"), "number", {"a": number})
