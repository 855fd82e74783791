"""Own data from end to end: the wide tables of docs/own-data.md, and what was once read as another value in silence.

Each case is a small mapping with its tables. It comes out as the right value, or as an error that names the file, the
row, the column and the remedy.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.columns import DAY_MS
from events.dates import FUTURE_TOLERANCE_MS
from events.types import Activity, Event, Repayment, Transaction
from model.datasets.dataset import DatasetError
from model.datasets.files import MANY_STRANGERS, Files

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "own-data.md"
NOW = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
NOW_MS = round(NOW.timestamp() * 1000)
HEAD = "headline_horizon_days = 90\n"
MOVES = """
[transactions]
path = "moves.csv"
[transactions.fields]
user_id = "customer"
occurred_at = "day"
amount = "amount"
"""
OUTCOMES = """
[outcomes]
path = "outcomes.csv"
csv = { delimiter = "," }
[outcomes.fields]
user_id = "customer"
observed_until = "until"
"""
KNOWN = "customer,until\na,2024-12-31\nb,2024-12-31\n"
MOVE = "customer,day,amount\na,2024-01-05,-1\n"


def own(folder: Path, mapping: str, **tables: str | bytes | pa.Table) -> Files:
    """A data set of a mapping and its tables, by file name with "__" for the point and "/" for a folder."""
    for name, content in {"outcomes__csv": KNOWN, "moves__csv": MOVE, **tables}.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "mapping.toml").write_text(mapping)
    return Files(folder / "mapping.toml", NOW_MS)


def moves(dataset: Files) -> list[tuple[Any, ...]]:
    found = [event for event in dataset.events() if isinstance(event, Transaction)]
    return [(event.user_id, event.occurred_at.isoformat()[:16], event.amount, event.category) for event in found]


def refused(folder: Path, mapping: str, said: str, **tables: Any) -> None:
    with pytest.raises(DatasetError, match=said):
        list(own(folder, mapping, **tables).events())


def contract_of(event: Event) -> str | None:
    found: str | None = getattr(event, "contract_id", None)
    return found


def test_the_wide_tables_of_the_document(tmp_path: Path) -> None:
    part = DOCUMENT.read_text(encoding="utf-8").split("## An example: wide tables")[1].split("\n## ")[0]
    names = re.findall(r"`(\w+\.csv)`", part)
    tables = re.findall(r"```csv\n(.*?)```", part, re.DOTALL)
    (mapping,) = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
    for name, table in zip(dict.fromkeys(names), tables, strict=True):
        (tmp_path / name).write_text(table)
    (tmp_path / "mapping.toml").write_text(mapping, encoding="utf-8")
    dataset = Files(tmp_path / "mapping.toml", NOW_MS)
    events = list(dataset.events())
    repayments = [
        (
            event.user_id, contract_of(event), str(event.occurred_at)[:16], event.kind, event.amount_due,
            event.amount_paid, event.days_past_due, event.instalment_no, str(event.due_date),
        )
        for event in events
        if isinstance(event, Repayment)
    ]  # fmt: skip
    assert sorted(repayments, key=lambda each: (str(each[1]), each[7])) == [
        ("C1", "L1", "2024-01-31 22:00", "paid", 200.0, 200.0, 0.0, 1, "2024-01-31"),
        ("C1", "L1", "2024-02-29 22:00", "paid", 200.0, 200.0, 0.0, 2, "2024-02-29"),
        ("C1", "L1", "2024-03-31 21:00", "missed", 200.0, 0.0, 30.0, 3, "2024-03-31"),
        ("C1", "L1", "2024-04-30 21:00", "paid", 200.0, 400.0, 0.0, 4, "2024-04-30"),
        ("C1", "L2", "2024-02-29 22:00", "paid", 310.0, 310.0, 0.0, 1, "2024-02-29"),
        ("C1", "L2", "2024-03-31 21:00", "missed", 310.0, 0.0, 30.0, 2, "2024-03-31"),
        ("C1", "L2", "2024-04-30 21:00", "missed", 310.0, 0.0, 60.0, 3, "2024-04-30"),
        ("C1", "L2", "2024-05-31 21:00", "missed", 310.0, 0.0, 90.0, 4, "2024-05-31"),
        ("C2", "L3", "2024-01-31 22:00", "paid", 25.0, 25.0, 0.0, 1, "2024-01-31"),
        ("C2", "L3", "2024-02-29 22:00", "paid", 25.0, 25.0, 0.0, 2, "2024-02-29"),
        ("C2", "L4", "2024-02-13 11:00", "paid", None, 80.0, -2.0, 1, "2024-02-15"),
        ("C2", "L4", "2024-04-02 10:00", "paid", None, 80.0, 18.0, 2, "2024-03-15"),
    ]
    inquiries = [
        (event.user_id, str(event.occurred_at), event.count) for event in events if isinstance(event, Activity)
    ]
    assert inquiries == [
        ("C2", "2024-01-30 23:00:00+00:00", 1.0),
        ("C1", "2024-05-30 22:00:00+00:00", 2.0),
    ]
    assert len({(event.user_id, event.event_id) for event in events}) == len(events)
    assert events[1].event_id == "repayments-0-loans.csv-2-1"
    dates = {user: outcome.default_date_ms for user, outcome in dataset.outcomes().items()}
    default = dt.datetime(2024, 4, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert dates == {"C1": round(default.timestamp() * 1000), "C2": None}


def test_an_error_in_a_wide_table_names_the_column_of_the_table(tmp_path: Path) -> None:
    mapping = f"""{HEAD}
[transactions]
path = "moves.csv"
unpivot = {{ columns = {{ amount = "m{{}}" }}, numbers = [1, 2], date = "month", start = "first" }}
fields = {{ user_id = "customer", occurred_at = "month", amount = "amount" }}
{OUTCOMES}"""
    said = r"moves.csv, line 2, number 2, column m2 \(amount\): "
    table = "customer,first,m1,m2\na,2024-01-31,1,two\n"
    refused(tmp_path, mapping, said + "'two' is no number", moves__csv=table)
    table = "customer,first,m1,m2\na,2024-01-31,1,2e13\n"
    refused(tmp_path, mapping, said + r"amount is 2\d+\.0: Expected", moves__csv=table)
    table = "customer,first,m1,m2\na,,1,2\n"
    refused(tmp_path, mapping, r"moves.csv, line 2, number 1, column month: occurred_at is None", moves__csv=table)
    table = "customer,first,m1,m3\na,2024-01-31,1,2\n"
    refused(tmp_path, mapping, r"moves.csv: no column m2; it has customer, first, m1, m3", moves__csv=table)
    table = "customer,first,m1,m2,month\na,2024-01-31,1,2,x\n"
    refused(tmp_path, mapping, r"it has a column month, and unpivot makes another one", moves__csv=table)


def test_the_outcomes_of_several_loans_are_merged_only_if_asked(tmp_path: Path) -> None:
    outcomes = (
        "customer,until,since,bad,decided\n"
        "a,2024-06-30,,0,2024-03-01\na,2024-12-31,2024-05-01,1,\na,2024-11-30,2024-04-01,,2024-02-01\nb,2024-12-31,,,\n"
    )
    fields = 'onset = "since"\nlabel = "bad"\nevents_before = "decided"\n'
    with pytest.raises(DatasetError, match=r'line 3: user a has an outcome already.*several_outcomes = "merge"'):
        own(tmp_path, HEAD + MOVES + OUTCOMES + fields, outcomes__csv=outcomes)
    table = "customer,day,amount\na,2024-01-31,1\na,2024-02-01,2\nb,2024-03-01,3\n"
    mapping = f'several_outcomes = "merge"\n{HEAD}{MOVES}{OUTCOMES}{fields}'
    dataset = own(tmp_path, mapping, outcomes__csv=outcomes, moves__csv=table)
    a = dataset.outcomes()["a"]
    assert (a.default_date_ms, a.observation_end_ms, a.label) == (1_711_929_600_000, 1_735_603_200_000, 1)
    assert [move[2] for move in moves(dataset)] == [1.0, 3.0]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_mark_before_a_quoted_header(tmp_path: Path, mark: bytes) -> None:
    table = mark + b'"customer","day","amount"\r\n"a","2024-01-05","-12.50"\r\n'
    assert moves(own(tmp_path, HEAD + MOVES + OUTCOMES, moves__csv=table)) == [("a", "2024-01-05T00:00", -12.5, None)]


def test_a_point_under_a_decimal_comma(tmp_path: Path) -> None:
    table = "customer;day;amount\na;2024-01-05;1.234\na;2024-01-06;12,50\n"
    csv = '[csv]\ndelimiter = ";"\ndecimal = ","\n'
    said = r"moves.csv, line 2, column amount: '1.234' is no number where decimal is ','; set decimal and thousands"
    refused(tmp_path, HEAD + csv + MOVES + OUTCOMES, said, moves__csv=table)
    found = moves(own(tmp_path, f'{HEAD}{csv}thousands = "."\n{MOVES}{OUTCOMES}', moves__csv=table))
    assert [move[2] for move in found] == [1234.0, 12.5]


@pytest.mark.parametrize("day", ["0001-01-01", "1900-01-01", "1969-12-30", "2025-06-03", "2999-12-31", "9999-12-31"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Prague", "America/New_York"])
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("time", ["00:00", "23:59"])
def test_marks_for_never_are_refused_until_they_are_listed(
    tmp_path: Path, day: str, zone: str, typed: bool, time: str
) -> None:
    head = f'{HEAD}time_zone = "{zone}"\n'
    field = f'onset = {{ column = "since", time = "{time}" }}\n'
    if typed:
        table: Any = pa.table(
            {"customer": ["a"], "until": [dt.date(2024, 12, 31)], "since": [dt.date.fromisoformat(day)]}
        )
        outcomes = OUTCOMES.replace("outcomes.csv", "outcomes.parquet")
        tables = {"outcomes__parquet": table}
    else:
        tables, outcomes = {"outcomes__csv": f"customer,until,since\na,2024-12-31,{day}\n"}, OUTCOMES
    said = r"outcomes\.\w+, (line 2|row 1), column since: .*list it under missing"
    with pytest.raises(DatasetError, match=said):
        own(tmp_path, head + MOVES + outcomes + field, **tables)
    dataset = own(tmp_path, f'{head}missing = ["", "{day}"]\n{MOVES}{outcomes}{field}', **tables)
    assert dataset.outcomes()["a"].default_date_ms is None


@pytest.mark.parametrize("name", ["onset", "observed_until", "occurred_at", "due_date", "events_before"])
@pytest.mark.parametrize("day", ["0001-01-01", "1900-01-01", "9999-12-31"])
def test_every_date_has_bounds(tmp_path: Path, name: str, day: str) -> None:
    bills = """
[repayments]
path = "bills.csv"
fields = { user_id = "customer", occurred_at = "occurred_at", kind = { constant = "due" }, due_date = "due_date" }
[outcomes]
path = "known.csv"
fields = { user_id = "customer", observed_until = "observed_until", onset = "onset", events_before = "events_before" }
"""
    days = dict.fromkeys(("onset", "observed_until", "events_before"), "2024-12-31")
    days |= {"occurred_at": "2024-01-05", "due_date": "2024-02-05", "customer": "a"}

    def table(cells: dict[str, str]) -> str:
        return f"{','.join(cells)}\n{','.join(cells.values())}\n"

    assert len(list(own(tmp_path, HEAD + bills, bills__csv=table(days), known__csv=table(days)).events())) == 1
    days[name] = day
    said = rf"(bills|known)\.csv, line 2, column {name}: .*list it under missing"
    refused(tmp_path, HEAD + bills, said, bills__csv=table(days), known__csv=table(days))


def test_events_are_dated_until_a_day_ahead_of_the_clock_as_in_serving(tmp_path: Path) -> None:
    edge = NOW + dt.timedelta(milliseconds=FUTURE_TOLERANCE_MS)
    table = f"customer,day,amount\na,1970-01-01,-1\na,{edge.isoformat()},-2\n"
    assert [move[2] for move in moves(own(tmp_path, HEAD + MOVES + OUTCOMES, moves__csv=table))] == [-1.0, -2.0]
    later = (edge + dt.timedelta(milliseconds=1)).isoformat()
    for day, told in ((later, "more than a day ahead of the clock"), ("1969-12-31", "before 1970")):
        table = f"customer,day,amount\na,2024-01-05,-1\na,{day},-2\n"
        refused(tmp_path, HEAD + MOVES + OUTCOMES, rf"line 3, column day: occurred_at is .*{told}", moves__csv=table)
    assert FUTURE_TOLERANCE_MS == DAY_MS


PARQUET = MOVES.replace("moves.csv", "moves.parquet") + 'category = "category"\n'


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([Decimal(1001), Decimal(1002)], pa.decimal128(38, 10)),
        pa.array([1001.0, 1002.0]),
        pa.array([1001, 1002], pa.int16()),
        pa.array([1001, 1002], pa.uint64()),
        pa.array(["1001", "1002.0"]),
        pa.array([b"1001", b"1002"], pa.binary()),
        pa.array(["1001", "1002"]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("known", ["1001", "1001.0", '" 1001"'])
def test_ids_are_the_same_however_a_table_stores_them(tmp_path: Path, ids: pa.Array, known: str) -> None:
    days = [dt.date(2024, 1, 5), dt.date(2024, 1, 6)]
    table = pa.table({"customer": ids, "day": days, "amount": [-5.5, 7.0], "category": ["food", "pay"]})
    mapping = f'{HEAD}other_users = "drop"\n{PARQUET}{OUTCOMES}'
    dataset = own(tmp_path, mapping, moves__parquet=table, outcomes__csv=f"customer,until\n{known},2024-12-31\n")
    assert moves(dataset) == [("1001", "2024-01-05T00:00", -5.5, "food")]


@pytest.mark.parametrize(
    "states",
    [
        pa.array([Decimal(1), Decimal(2)], pa.decimal128(38, 10)),
        pa.array([1.0, 2.0]),
        pa.array(["1.00", "2"]),
        pa.array([b"1", b"2"], pa.binary()),
    ],
)
@pytest.mark.parametrize("listed", ["1", "1.0", '"1"', '"1.0"'])
def test_conditions_are_the_same_however_a_table_stores_codes(tmp_path: Path, states: pa.Array, listed: str) -> None:
    days = [dt.date(2024, 1, 5), dt.date(2024, 1, 6)]
    table = pa.table(
        {"customer": ["a", "a"], "day": days, "amount": [-5.5, 7.0], "category": ["x", "y"], "state": states}
    )
    where = f'where = [{{ column = "state", in = [{listed}] }}]\n[transactions.fields]'
    mapping = HEAD + PARQUET.replace("[transactions.fields]", where) + OUTCOMES
    assert [move[3] for move in moves(own(tmp_path, mapping, moves__parquet=table))] == ["x"]


def test_strings_without_the_mark_of_text(tmp_path: Path) -> None:
    ids, names = pa.array([b"a", b"b"], pa.binary()), pa.array([b"food", b"\xff"], pa.binary())
    days = [dt.date(2024, 1, 5), dt.date(2024, 1, 6)]
    table = pa.table({"customer": ids, "day": days, "amount": [-5.5, 7.0], "category": names})
    said = r"moves.parquet, row 2, column category: b'\\xff' is no text in UTF-8"
    refused(tmp_path, HEAD + PARQUET + OUTCOMES, said, moves__parquet=table)
    plain = HEAD + PARQUET.replace('category = "category"\n', "") + OUTCOMES
    assert [move[0] for move in moves(own(tmp_path, plain, moves__parquet=table))] == ["a", "b"]


def test_times_beyond_the_calendar_are_an_error_only_where_they_are_read(tmp_path: Path) -> None:
    days = pa.array([2**62, 0], pa.int64()).cast(pa.timestamp("ms"))
    table = pa.table({"customer": ["c", "a"], "day": days, "amount": [1.0, 2.0], "category": ["x", "y"]})
    said = r"moves.parquet, row 1, column day: \d+ as timestamp\[ms\] is outside the years 1 to 9999; list it"
    refused(tmp_path, HEAD + PARQUET + OUTCOMES, said, moves__parquet=table)
    where = 'where = [{ column = "category", in = ["y"] }]\n[transactions.fields]'
    mapping = HEAD + PARQUET.replace("[transactions.fields]", where) + OUTCOMES
    assert [move[2] for move in moves(own(tmp_path, mapping, moves__parquet=table))] == [2.0]


BILLS = """
[repayments]
path = "bills.csv"
[repayments.fields]
event_id = "no"
user_id = "customer"
occurred_at = "due"
kind = { constant = "due" }
amount_due = "amount"
"""


def test_ids_that_are_unique_per_user_only(tmp_path: Path) -> None:
    table = "customer,no,due,amount\na,1,2024-01-31,100\nb,1,2024-01-31,250\na,2,2024-02-29,100\nb,2,2024-02-29,250\n"
    events = list(own(tmp_path, HEAD + BILLS + OUTCOMES, bills__csv=table).events())
    assert [(event.user_id, event.event_id) for event in events] == [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")]


@pytest.mark.parametrize("second", ["a,1,2024-01-31,250", "a,1,2024-02-29,100"])
def test_ids_that_are_not_unique_per_user(tmp_path: Path, second: str) -> None:
    table = f"customer,no,due,amount\na,1,2024-01-31,100\n{second}\n"
    said = r"bills.csv, line [23]: event_id '1' of user 'a' also stands for another event \(.*bills.csv, line [23]\)"
    refused(tmp_path, HEAD + BILLS + OUTCOMES, said, bills__csv=table)
    joined = BILLS.replace('event_id = "no"', 'event_id = { join = ["due", "no", "amount"] }')
    events = list(own(tmp_path, HEAD + joined + OUTCOMES, bills__csv=table).events())
    assert events[0].event_id == "2024-01-31-1-100"
    assert len(events) == 2


def test_dates_of_fourteen_digits(tmp_path: Path) -> None:
    table = "customer,day,amount\na,20240105120000Z,-1\n"
    said = r"moves.csv, line 2, column day: '20240105120000Z' is no date of the format 'iso'.*; set format"
    refused(tmp_path, HEAD + MOVES + OUTCOMES, said, moves__csv=table)
    mapping = HEAD + MOVES.replace('"day"', '{ column = "day", format = "%Y%m%d%H%M%S%z" }') + OUTCOMES
    assert moves(own(tmp_path, mapping, moves__csv=table))[0][1] == "2024-01-05T12:00"


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    mapping = HEAD + MOVES.replace('"moves.csv"', '["y2023/part-0.csv", "y2024/part-0.csv"]') + OUTCOMES
    tables = {f"y{year}/part-0__csv": f"customer,day,amount\na,{year}-01-01,-1\n" for year in (2023, 2024)}
    events = list(own(tmp_path, mapping, **tables).events())
    assert [event.event_id for event in events] == [
        "transactions-0-y2023/part-0.csv-2",
        "transactions-0-y2024/part-0.csv-2",
    ]


def test_files_that_end_in_capitals(tmp_path: Path) -> None:
    tables = {"m/jan__csv": MOVE, "m/FEB__CSV": MOVE.replace("01-05", "02-05")}
    mapping = HEAD + MOVES.replace("moves.csv", "m") + OUTCOMES
    assert [move[1][:10] for move in moves(own(tmp_path, mapping, **tables))] == ["2024-01-05", "2024-02-05"]


@pytest.mark.parametrize("folder", ["", "f" * 100 + "/"])
def test_long_file_names(tmp_path: Path, folder: str) -> None:
    names = [f"{folder}loan_transactions_export_{letter * 110}_ü" for letter in "xy"]
    mapping = HEAD + MOVES.replace('"moves.csv"', str([f"{name}.csv" for name in names])) + OUTCOMES
    events = list(own(tmp_path, mapping, **{f"{name}__csv": MOVE for name in names}).events())
    assert len({event.event_id for event in events}) == 2
    assert all(len(event.event_id) <= 128 for event in events)
    again = list(own(tmp_path, mapping).events())
    assert [event.event_id for event in again] == [event.event_id for event in events]


def test_a_long_id_of_the_table_names_its_rule(tmp_path: Path) -> None:
    table = f"customer,no,due,amount\na,{'1' * 129},2024-01-31,100\n"
    said = r"bills.csv, line 2, column no: event_id is .*length <= 128; correct the table, or the rule of event_id"
    refused(tmp_path, HEAD + BILLS + OUTCOMES, said, bills__csv=table)


@pytest.mark.parametrize(
    "header", ["customer,day,amount,amount", "customer,day,amount, amount", "day,day,customer,amount"]
)
def test_a_column_twice_in_the_header(tmp_path: Path, header: str) -> None:
    refused(
        tmp_path, HEAD + MOVES + OUTCOMES, r"2 columns have the name (amount|day)", moves__csv=f"{header}\na,b,c,d\n"
    )


def test_a_column_twice_in_parquet(tmp_path: Path) -> None:
    columns: list[list[Any]] = [["a"], [dt.date(2024, 1, 5)], [-1.0], ["x"], [-99.0]]
    table = pa.table(columns, names=["customer", "day", "amount", "category", "amount"])
    said = r"moves.parquet: 2 columns have the name amount \(columns 3 and 5\)"
    refused(tmp_path, HEAD + PARQUET + OUTCOMES, said, moves__parquet=table)


@pytest.mark.parametrize("word", ["None", "NULL", "NaN", "N/A"])
def test_words_for_no_value(tmp_path: Path, word: str) -> None:
    with_name = HEAD + MOVES + 'category = "name"\n' + OUTCOMES
    amount = f"customer,day,name,amount\na,2024-01-05,x,{word}\n"
    refused(
        tmp_path, with_name, rf"line 2, column amount: '{word}' is no number; list it under missing", moves__csv=amount
    )
    name = f"customer,day,name,amount\na,2024-01-05,{word},-1\n"
    refused(tmp_path, with_name, rf"line 2, column name: '{word}' is how programs write", moves__csv=name)
    customer = f"customer,day,name,amount\na,2024-01-05,x,-1\n{word},2024-01-05,x,-1\n"
    refused(tmp_path, with_name, rf"line 3, column customer: '{word}' is how programs write", moves__csv=customer)
    assert moves(own(tmp_path, f'missing = ["{word}"]\n{with_name}', moves__csv=name))[0][3] is None
    kept = with_name.replace('"name"', f'{{ column = "name", map = {{ "{word}" = "{word}" }}, unlisted = "keep" }}')
    assert moves(own(tmp_path, kept, moves__csv=name))[0][3] == word


def test_users_whose_ids_are_written_otherwise_are_said(tmp_path: Path) -> None:
    mapping = HEAD + MOVES + OUTCOMES
    table = "customer,day,amount\n0012,2024-01-05,-1\n"
    said = r"no user of any event has an outcome; events have users such as '0012', \[outcomes\] such as '12'"
    known = "customer,until\n12,2024-12-31\n"
    refused(tmp_path, mapping, said, moves__csv=table, outcomes__csv=known)
    refused(tmp_path, f'other_users = "drop"\n{mapping}', said, moves__csv=table, outcomes__csv=known)
    more = mapping + '[profiles]\npath = "facts.csv"\nfields = { user_id = "customer", occurred_at = "day" }\n'
    others = "".join(f"0{number},2024-01-05,-1\n" for number in range(10, 10 + MANY_STRANGERS))
    tables = {"moves__csv": f"customer,day,amount\n{others}", "facts__csv": "customer,day\n12,2024-01-05\n"}
    refused(tmp_path, more, r"\[transactions\]: none of its users has an outcome", outcomes__csv=known, **tables)


def test_a_constant_that_is_no_date_is_said(tmp_path: Path) -> None:
    mapping = HEAD + MOVES.replace('"day"', '{ constant = "soon" }') + OUTCOMES
    refused(tmp_path, mapping, r"mapping.toml: the rules of moves.csv: .*'soon' is no date")


def test_a_usual_export_of_a_bank(tmp_path: Path) -> None:
    table = (
        "Kunde;Tag;Betrag;Zweck\r\n"
        'Müller;31.03.2024 03:30;-1.234,50;"Miete\nMärz; ""kalt"""\r\n'
        "Müller;27.10.2024 02:30;2.000,00;Gehalt\r\n"
    )
    mapping = f"""{HEAD}time_zone = "Europe/Berlin"
csv = {{ delimiter = ";", decimal = ",", thousands = ".", encoding = "latin-1" }}
[transactions]
path = "moves.csv"
[transactions.fields]
user_id = "Kunde"
occurred_at = {{ column = "Tag", format = "%d.%m.%Y %H:%M" }}
amount = "Betrag"
category = "Zweck"
{OUTCOMES}"""
    known = "customer,until\nMüller,2024-12-31\n"
    assert moves(own(tmp_path, mapping, moves__csv=table.encode("latin-1"), outcomes__csv=known)) == [
        ("Müller", "2024-03-31T01:30", -1234.5, 'Miete\nMärz; "kalt"'),
        ("Müller", "2024-10-27T00:30", 2000.0, "Gehalt"),
    ]
