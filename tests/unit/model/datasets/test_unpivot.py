"""A wide row becomes a row per period, with the cells, numbers and dates of that period."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.datasets.cell_dates import months_later
from model.datasets.cell_values import CellError, Style
from model.datasets.cells import SectionReader
from model.datasets.mapping import field_types
from model.datasets.rules import Condition, Csv, Rule, Section, Unpivot

STYLE = Style(Csv(), ("",), dt.UTC)
FIELDS: dict[str, Rule | str] = {
    "user_id": "customer",
    "occurred_at": Rule(column="month", end_of_month=True, time="23:59"),
    "kind": Rule(column="state", map={"ok": "paid", "late": "missed"}),
    "amount_paid": "paid",
    "instalment_no": "no",
}


def section(unpivot: Unpivot, fields: dict[str, Rule | str] = FIELDS, **more: Any) -> Section:
    return Section(path="loans.csv", fields=fields, unpivot=unpivot, **more)


def rows(reader: SectionReader, cells: dict[str, Any]) -> list[tuple[int | None, dict[str, Any]]]:
    found = reader.periods([cells[column] for column in reader.columns])
    return [(number, reader.fields(row)) for number, row in found if reader.wanted(row)]


UNPIVOT = Unpivot(
    columns={"state": "s{}", "paid": "p{:02}"}, numbers=[1, 3], number="no", date="month", start="first", step_months=1
)
CELLS = {"customer": "a", "first": "2024-01-31", "s1": "ok", "s2": "late", "s3": "", "p01": "5", "p02": "0", "p03": ""}


def test_a_row_per_period() -> None:
    reader = SectionReader(
        section(UNPIVOT, where=[Condition(column="state", not_in=[""])]), field_types("repayments"), STYLE
    )
    assert sorted(reader.columns) == sorted(CELLS)
    assert reader.made == ["month", "state", "paid", "no"]
    assert [(number, *values.values()) for number, values in rows(reader, CELLS)] == [
        (1, "a", dt.datetime(2024, 1, 31, 23, 59, tzinfo=dt.UTC), "paid", 5.0, 1),
        (2, "a", dt.datetime(2024, 2, 29, 23, 59, tzinfo=dt.UTC), "missed", 0.0, 2),
    ]
    assert reader.column_of("paid", 2) == "p02 (paid)"
    assert reader.column_of("customer", 2) == "customer"


def test_columns_may_be_listed_and_run_backwards() -> None:
    listed = Unpivot(columns={"state": ["s3", "s1"], "paid": ["p03", "p01"]}, number="no", date="month", start="first")
    reader = SectionReader(section(listed), field_types("repayments"), STYLE)
    assert [values["instalment_no"] for _, values in rows(reader, CELLS)] == [1, 2]
    assert [values["amount_paid"] for _, values in rows(reader, CELLS)] == [None, 5.0]
    assert "s2" not in reader.columns
    back = Unpivot(columns={"paid": "p{:02}"}, numbers=[3, 1], number="no", date="month", start="first", step_months=-1)
    fields = {name: rule for name, rule in FIELDS.items() if name != "kind"}
    reader = SectionReader(section(back, fields), field_types("repayments"), STYLE)
    found = rows(reader, CELLS)
    assert [(number, str(values["occurred_at"])[:10], values["amount_paid"]) for number, values in found] == [
        (3, "2024-01-31", None), (2, "2023-12-31", 0.0), (1, "2023-11-30", 5.0),
    ]  # fmt: skip


@given(
    st.dates(dt.date(1971, 1, 1), dt.date(2100, 1, 1)),
    st.integers(1, 24),
    st.integers(-6, 6).filter(bool),
    st.booleans(),
)
def test_dates_are_counted_from_the_first(first: dt.date, periods: int, step: int, in_months: bool) -> None:
    unpivot = Unpivot(
        columns={"paid": "p{}"}, numbers=[0, periods - 1], date="month", start=Rule(constant=first),
        **{"step_months" if in_months else "step_days": step},
    )  # fmt: skip
    reader = SectionReader(
        section(unpivot, {"due_date": "month", "amount_paid": "paid"}), field_types("repayments"), STYLE
    )
    found = rows(reader, {f"p{number}": number for number in range(periods)})
    expected = [
        months_later(first, step * place) if in_months else first + dt.timedelta(days=step * place)
        for place in range(periods)
    ]
    assert [values["due_date"] for _, values in found] == expected
    assert [values["amount_paid"] for _, values in found] == [float(number) for number in range(periods)]


def test_a_start_that_is_missing_gives_no_date_and_a_wrong_one_is_said() -> None:
    reader = SectionReader(section(UNPIVOT), field_types("repayments"), STYLE)
    assert {values["occurred_at"] for _, values in rows(reader, {**CELLS, "first": "", "s3": "ok"})} == {None}
    with pytest.raises(CellError, match=r"column first: 'soon' is no date"):
        rows(reader, {**CELLS, "first": "soon"})
    with pytest.raises(CellError, match=r"1 steps from 9999-12-31 are outside the calendar"):
        rows(reader, {**CELLS, "first": "9999-12-31"})
