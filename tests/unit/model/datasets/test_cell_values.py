"""Text and typed cells mean the same, and what has lost digits or may mean two numbers is refused."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.datasets.cell_values import (
    NULL_TEXTS,
    CellError,
    Style,
    identifier_reader,
    is_missing,
    joined,
    key_of,
    number_reader,
    text_reader,
    whole_reader,
    written,
)
from model.datasets.rules import Csv

PLAIN = Style(Csv(), ("",), dt.UTC)


def first(row: Any) -> Any:
    return row[0]


def number(text: Any, **csv: str) -> float | None:
    found: float | None = number_reader("a", first, Style(Csv(**csv), ("", -999), dt.UTC))([text])
    return found


def identifier(cell: Any, style: Style = PLAIN, *, required: bool = True) -> Any:
    return identifier_reader(first, "a", style, "u-", required=required)([cell])


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(0, 10))
def test_a_whole_number_is_one_key_however_it_is_stored(value: int, zeros: int) -> None:
    forms = [value, float(value), Decimal(value), Decimal(value).scaleb(0).quantize(Decimal(1).scaleb(-zeros))]
    forms += [str(value), f" {value} ", f"{value}.{'0' * (zeros + 1)}"]
    assert {key_of(form) for form in forms} == {str(value)}
    assert {identifier(form) for form in forms} == {f"u-{value}"}


@given(st.decimals(-(10**20), 10**20, places=4))
def test_a_decimal_is_written_without_exponent_and_without_zeros_at_its_end(value: Decimal) -> None:
    text = written(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize(
    ("cell", "text", "key"),
    [
        (None, "", ""),
        (math.nan, "", ""),
        (Decimal("NaN"), "", ""),
        (True, "true", "true"),
        ("0012", "0012", "0012"),
        ("007.0", "007.0", "007.0"),
        ("1.50", "1.50", "1.50"),
        ("v1.0", "v1.0", "v1.0"),
        (1.5, "1.5", "1.5"),
        (Decimal("100"), "100", "100"),
        (dt.date(2024, 1, 5), "2024-01-05", "2024-01-05"),
        (dt.datetime(2024, 1, 5), "2024-01-05T00:00:00", "2024-01-05"),
        (dt.datetime(2024, 1, 5, 12), "2024-01-05T12:00:00", "2024-01-05T12:00:00"),
    ],
)
def test_texts_and_keys(cell: Any, text: str, key: str) -> None:
    assert (written(cell), key_of(cell)) == (text, key)
    assert is_missing(cell) == (text == "")


@pytest.mark.parametrize(
    ("text", "csv", "found"),
    [
        ("1.234", {}, 1.234),
        ("-12.50", {}, -12.5),
        ("+5", {}, 5.0),
        (".5", {}, 0.5),
        ("5.", {}, 5.0),
        ("1e3", {}, 1000.0),
        ("1.234,50", {"decimal": ",", "thousands": "."}, 1234.5),
        ("1.234.567", {"decimal": ",", "thousands": "."}, 1234567.0),
        ("1234,5", {"decimal": ",", "thousands": "."}, 1234.5),
        ("12,50", {"decimal": ","}, 12.5),
        ("1,234.5", {"thousands": ","}, 1234.5),
        ("12,34,567.5", {"thousands": ","}, 1234567.5),
        ("1 234,5", {"decimal": ",", "thousands": " "}, 1234.5),
        ("1\u00a0234,5", {"decimal": ",", "thousands": " "}, 1234.5),
        ("1\u202f234,5", {"decimal": ",", "thousands": " "}, 1234.5),
        ("1\u2019234.5", {"thousands": "'"}, 1234.5),
        ("-999,00", {"decimal": ","}, None),
    ],
)
def test_numbers_are_read_as_csv_says(text: str, csv: dict[str, str], found: float | None) -> None:
    assert number(text, **csv) == found


@pytest.mark.parametrize(
    ("text", "csv"),
    [
        ("1.234", {"decimal": ","}),
        ("1.234,5", {"decimal": ","}),
        ("1,234", {}),
        ("1,234.5", {}),
        ("1.5", {"decimal": ",", "thousands": "."}),
        ("1.23", {"decimal": ",", "thousands": "."}),
        ("1234.567", {"decimal": ",", "thousands": "."}),
        ("1.234.5", {"decimal": ",", "thousands": "."}),
        (".234", {"decimal": ",", "thousands": "."}),
        ("1,5", {"thousands": ","}),
        ("1,23,4", {"thousands": ","}),
        ("1 23", {"thousands": " "}),
        ("1_000", {}),
        ("\u0661\u0662", {}),
        ("0x10", {}),
        ("12.50-", {}),
        ("(12.50)", {}),
        ("12%", {}),
        ("1e999", {}),
        ("None", {}),
        ("NaN", {}),
        ("-", {}),
        (".", {}),
        (dt.timedelta(days=1), {}),
        ([1], {}),
    ],
)
def test_what_may_be_another_number_is_refused(text: Any, csv: dict[str, str]) -> None:
    with pytest.raises(CellError, match=r"column a: .* is no (finite )?number.*(missing|decimal and thousands)"):
        number(text, **csv)


@given(st.floats(-1e12, 1e12), st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'")]))
def test_a_number_written_with_groups_is_the_same_number(value: float, signs: tuple[str, str]) -> None:
    decimal, thousands = signs
    text = f"{value:,.4f}".replace(",", "t").replace(".", decimal).replace("t", thousands)
    found = number(text, decimal=decimal, thousands=thousands)
    assert found == (None if float(f"{value:.4f}") == -999 else float(f"{value:.4f}"))


@pytest.mark.parametrize("listed", [-999, "-999", -999.0, "-999.0"])
@pytest.mark.parametrize("cell", [-999, -999.0, Decimal("-999.00"), "-999", "-999.0", " -999 "])
def test_what_stands_for_missing_does_so_as_text_and_typed(listed: Any, cell: Any) -> None:
    style = Style(Csv(), ("", listed), dt.UTC)
    assert number_reader("a", first, style)([cell]) is None
    assert text_reader(first, "a", style)([cell]) is None
    assert identifier(cell, style, required=False) is None


def test_a_truth_value_that_stands_for_missing_is_not_the_number_one() -> None:
    read = number_reader("a", first, Style(Csv(), (True,), dt.UTC))
    assert [read([cell]) for cell in (True, 1, 1.0, "1", False)] == [None, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("text", sorted(NULL_TEXTS))
def test_a_word_for_no_value_is_no_id_and_no_name_unless_it_is_said_what_it_is(text: str) -> None:
    with pytest.raises(CellError, match="leave such rows out with where"):
        identifier(text)
    with pytest.raises(CellError, match="list it under missing"):
        identifier(text, required=False)
    with pytest.raises(CellError, match=r"list it under missing, or, if it is a name, in a map"):
        text_reader(first, "a", PLAIN)([text])
    assert text_reader(first, "a", PLAIN.with_missing([text]))([text]) is None
    assert identifier(text, PLAIN.with_missing([text]), required=False) is None


@pytest.mark.parametrize("cell", [float(2**53), 1e300, -(2.0**60)])
def test_an_id_that_a_float_may_have_rounded_is_refused(cell: float) -> None:
    with pytest.raises(CellError, match="too large to be exact"):
        identifier(cell)
    assert identifier(2**60) == f"u-{2**60}"


@pytest.mark.parametrize("text", ["1.23457E+12", "1,23457E+12", "-1.2e15"])
def test_an_id_that_a_spreadsheet_has_rounded_is_refused(text: str) -> None:
    with pytest.raises(CellError, match="is a rounded number"):
        identifier(text)
    assert identifier("12E5") == "u-12E5"


def test_an_id_of_several_columns() -> None:
    parts = [identifier_reader(lambda row, at=at: row[at], "a", PLAIN, "", required=True) for at in (0, 1)]
    assert joined(parts, "x-")(["b", 2.0]) == "x-b-2"
    with pytest.raises(CellError, match="needs this id"):
        joined(parts, "")(["b", None])


def test_whole_numbers() -> None:
    read = whole_reader("a", number_reader("a", first, PLAIN))
    assert read(["7.0"]) == 7
    with pytest.raises(CellError, match="no whole number"):
        read(["7.5"])
