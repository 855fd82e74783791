"""Somebody's own tables, from files to events: order, cut-offs, and errors that say where."""

from __future__ import annotations

import datetime as dt
import gzip
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.types import Event, Repayment, Transaction
from model.datasets.dataset import Dataset, DatasetError, Outcome
from model.datasets.files import Files
from model.datasets.sources import open_dataset

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "berka"
EXAMPLE = Path(__file__).resolve().parents[4] / "docs" / "mappings" / "berka.toml"
MAPPING = """
headline_horizon_days = 90
time_zone = "Europe/Prague"

[repayments]
path = "bills.csv"
[repayments.fields]
user_id = "customer"
occurred_at = { column = "day", time = "23:59" }
kind = { column = "state", map = { "OK" = "paid", "LATE" = "missed" } }
amount_due = "due"
instalment_no = "no"
due_date = "day"

[[transactions]]
path = "moves"
[transactions.fields]
event_id = "id"
user_id = "customer"
occurred_at = "at"
amount = "amount"

[outcomes]
path = "outcomes.csv"
[outcomes.fields]
user_id = "customer"
onset = { column = "bad_since" }
observed_until = { constant = "2024-12-31" }
label = { column = "bad", map = { "y" = 1, "n" = 0 } }
events_before = "decided"
"""
BILLS = "customer,day,state,due,no\nb,2024-02-01,OK,100,1\na,2024-01-01,LATE,50,1\na,2024-02-01,OK,,2\n"
MOVES = (
    "id,customer,at,amount\n1,a,2024-02-01T23:59:00,-5\n2,a,2023-12-31T10:00:00+00:00,7\n1,a,2024-02-01T23:59:00,-5\n"
)
OUTCOMES = "customer,bad_since,bad,decided\na,2024-03-01,y,\nb,,n,2024-03-01\n"


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    (tmp_path / "moves").mkdir()
    (tmp_path / "bills.csv").write_text(BILLS)
    (tmp_path / "moves" / "m1.csv").write_text(MOVES)
    (tmp_path / "moves" / "notes.md").write_text("no table")
    (tmp_path / "outcomes.csv").write_text(OUTCOMES)
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    return path


def events_of(path: Path) -> list[Event]:
    return list(open_dataset("files", path).events())


def test_events_come_in_order_of_time_and_of_kinds_and_repeated_ones_once(mapping: Path) -> None:
    dataset: Dataset = open_dataset("files", mapping)
    found = list(dataset.events())
    assert [(type(event), event.user_id, event.occurred_at.isoformat()) for event in found] == [
        (Transaction, "a", "2023-12-31T10:00:00+00:00"),
        (Repayment, "a", "2024-01-01T22:59:00+00:00"),
        (Repayment, "b", "2024-02-01T22:59:00+00:00"),
        (Repayment, "a", "2024-02-01T22:59:00+00:00"),
        (Transaction, "a", "2024-02-01T22:59:00+00:00"),
    ]
    assert list(dataset.events()) == found, "each call begins anew"
    last = found[3]
    assert isinstance(last, Repayment)
    assert (last.kind, last.amount_due, last.instalment_no, str(last.due_date)) == ("paid", None, 2, "2024-02-01")
    assert len({event.event_id for event in found}) == len(found)
    assert found[1].event_id == "repayments-0-bills.csv-3"


def test_outcomes_and_names(mapping: Path) -> None:
    dataset = Files(mapping)
    assert (dataset.name, dataset.headline_horizon_days, dataset.split_by) == ("files", 90, "client")
    assert dataset.outcomes() == {
        "a": Outcome("a", 1_709_247_600_000, 1_735_599_600_000, 1),
        "b": Outcome("b", None, 1_735_599_600_000, 0),
    }


def test_what_comes_at_or_after_the_cut_off_is_left_out(mapping: Path) -> None:
    outcomes = mapping.parent / "outcomes.csv"
    outcomes.write_text(OUTCOMES.replace("a,2024-03-01,y,", "a,2024-03-01,y,2024-01-01T23:59"))
    assert Counter(event.user_id for event in events_of(mapping)) == {"a": 1, "b": 1}


def test_users_without_an_outcome_stay_unless_dropped(mapping: Path) -> None:
    (mapping.parent / "outcomes.csv").write_text("customer,bad_since,bad,decided\nb,,n,\n")
    assert {event.user_id for event in events_of(mapping)} == {"a", "b"}
    mapping.write_text(f'other_users = "drop"\n{MAPPING}')
    assert {event.user_id for event in events_of(mapping)} == {"b"}


def test_parquet_and_gzip_give_the_same_events(mapping: Path) -> None:
    plain = events_of(mapping)
    folder = mapping.parent
    (folder / "moves" / "m1.csv").unlink()
    with gzip.open(folder / "moves" / "m1.csv.gz", "wt") as file:
        file.write(MOVES)
    assert events_of(mapping) == plain
    (folder / "moves" / "m1.csv.gz").unlink()
    at = [dt.datetime(2024, 2, 1, 22, 59), dt.datetime(2023, 12, 31, 10)]
    table = {"id": [1.0, 2.0], "customer": ["a", "a"], "at": pa.array(at, pa.timestamp("ns", "UTC")), "amount": [-5, 7]}
    pq.write_table(pa.table(table), folder / "moves" / "m1.parquet")
    assert events_of(mapping) == plain


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "bills.csv",
            BILLS.replace("OK,100", "GONE,100"),
            r"bills.csv, line 2, column state: 'GONE' is not in the map",
        ),
        ("bills.csv", BILLS.replace(",50,", ",-50,"), r"bills.csv, line 3, column due: amount_due is -50.0: Expected"),
        ("bills.csv", BILLS.replace(",50,", ",5O,"), r"bills.csv, line 3, column due: '5O' is no number"),
        ("bills.csv", BILLS.replace("a,2024-01-01", ",2024-01-01"), r"line 3, column customer: is empty"),
        ("bills.csv", BILLS.replace("a,2024-01-01", "a,1.1.24"), r"line 3, column day: '1.1.24' is no date"),
        ("bills.csv", BILLS.replace(",no", ",number"), r"no column no; it has customer, day, state, due, number"),
        ("bills.csv", BILLS + "a,2024\n", r"line 5: 2 cells, but the header names 5 columns"),
        ("bills.csv", "", r"no column customer, day, state, due, no; it has none"),
        ("outcomes.csv", OUTCOMES + "a,,n,\n", r"line 4: user a has an outcome already"),
        ("outcomes.csv", OUTCOMES.splitlines()[0] + "\n", r"hold none"),
        ("bills.csv", BILLS.replace("b,", '"b,'), r"cannot be read as a table"),
    ],
)
def test_errors_name_file_row_and_column(mapping: Path, file: str, text: str, said: str) -> None:
    (mapping.parent / file).write_text(text)
    with pytest.raises(DatasetError, match=said):
        events_of(mapping)


def test_files_that_are_none_are_said(mapping: Path) -> None:
    folder = mapping.parent
    (folder / "bills.csv").write_bytes(BILLS.encode().replace(b"OK", b"\xff\xfe", 1))
    with pytest.raises(DatasetError, match="is not written in utf-8"):
        events_of(mapping)
    (folder / "bills.csv").unlink()
    with pytest.raises(DatasetError, match=r"'bills.csv' is no file"):
        events_of(mapping)
    (folder / "bills.csv").write_text(BILLS.splitlines()[0])
    (folder / "moves" / "m1.csv").unlink()
    (folder / "moves" / "m1.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(DatasetError, match=r"m1.parquet: cannot be read as Parquet"):
        events_of(mapping)


def test_a_table_without_any_event_is_said(mapping: Path) -> None:
    (mapping.parent / "bills.csv").write_text(BILLS.splitlines()[0])
    (mapping.parent / "moves" / "m1.csv").write_text(MOVES.splitlines()[0])
    with pytest.raises(DatasetError, match="hold no event"):
        events_of(mapping)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no Berka tables in {REAL}")
def test_the_example_reads_berka_as_its_adapter_does(tmp_path: Path) -> None:
    for file in REAL.iterdir():
        (tmp_path / file.name).symlink_to(file)
    shutil.copy(EXAMPLE, tmp_path)
    mapped, adapter = Files(tmp_path / EXAMPLE.name), open_dataset("berka", REAL)

    def moves(dataset: Dataset) -> set[tuple[object, ...]]:
        return {
            (event.event_id.removeprefix("berka-t"), event.user_id, event.amount, event.balance_after, event.channel)
            for event in dataset.events()
            if isinstance(event, Transaction)
        }

    assert moves(mapped) == moves(adapter)
    ours, theirs = mapped.outcomes(), adapter.outcomes()
    assert {user: outcome.label for user, outcome in ours.items()} == {u: o.label for u, o in theirs.items()}
