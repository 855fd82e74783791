"""A mapping that cannot be meant is refused before a table is opened, by a message that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.types import KINDS
from model.datasets.dataset import DatasetError
from model.datasets.mapping import columns_of, field_types, read_mapping

HEAD = "headline_horizon_days = 90\n"
OUTCOMES = '[outcomes]\npath = "o.csv"\n[outcomes.fields]\nuser_id = "id"\nobserved_until = "until"\n'
USER = 'user_id = "id"\noccurred_at = "at"\n'


def written(folder: Path, fields: str, head: str = HEAD, outcomes: str = OUTCOMES, more: str = "") -> Path:
    path = folder / "mapping.toml"
    path.write_text(f'{head}[transactions]\npath = "t.csv"\n{more}[transactions.fields]\n{USER}{fields}\n{outcomes}')
    return path


def test_what_a_field_takes_is_read_off_the_events() -> None:
    types = {kind: field_types(kind) for kind in KINDS}
    assert types["repayments"]["kind"] == "choice"
    assert types["repayments"]["due_date"] == "day"
    assert types["repayments"]["instalment_no"] == "integer"
    assert types["transactions"]["occurred_at"] == "moment"
    assert types["transactions"]["category"] == "text"
    assert types["profiles"]["income"] == "number"
    assert types["profiles"]["user_id"] == "identifier"


def test_a_mapping_is_read_with_its_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'amount = { sum = [{ column = "in" }, { column = "out", scale = -1 }] }\n'
        'category = { column = "code", where = [{ column = "type", in = ["x"] }] }',
        more='where = [{ column = "status", not_in = ["void"] }]\n',
    )
    (section,) = read_mapping(path).sections("transactions")
    assert columns_of(section) == ["id", "at", "in", "out", "code", "type", "status"]
    assert read_mapping(path).sections("activity") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('amount = "a"\namonut = "b"', r"no field 'amonut' \(did you mean amount\?\)"),
        ("", "fields needs a rule for amount"),
        ('amount = { colum = "a" }', "unknown field `colum`"),
        ('amount = { column = "a", prefix = "x" }', "takes no prefix"),
        ('amount = { column = "a", constant = 1 }', "exactly one of column, constant and sum"),
        ("amount = { scale = 2 }", "exactly one of column, constant and sum"),
        ("amount = { sum = [] }", "sum names no column"),
        ('amount = { constant = "five" }', "which 'five' is not"),
        ("amount = { constant = 5, scale = 2 }", "is a constant"),
        ('amount = { column = "a", unlisted = "keep" }', "there is no map"),
        ('amount = { column = "a", unlisted = "drop" }', "drop"),
        ('amount = "a"\ncategory = { column = "c", bands = [{ name = "x" }, { below = 3, name = "y" }] }', "bands"),
        ('amount = { column = "a", where = [{ column = "b" }] }', "either in or not_in"),
        ('amount = { column = "a", map = { "x" = "5" } }', "its map must give numbers"),
        ('amount = "a"\nevent_id = { constant = "x" }', "takes no constant"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path: Path, fields: str, said: str) -> None:
    with pytest.raises(DatasetError, match=rf"mapping\.toml.*{said}"):
        read_mapping(written(tmp_path, fields))


@pytest.mark.parametrize("rule", ['{ constant = "payed" }', '{ column = "s", map = { "P" = "payed" } }'])
def test_choices_are_those_of_the_event(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(f'{HEAD}[repayments]\npath = "r.csv"\n[repayments.fields]\n{USER}kind = {rule}\n{OUTCOMES}')
    with pytest.raises(DatasetError, match=r"fields\.kind: 'payed' is none of due, missed, paid, reversed"):
        read_mapping(path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("", "headline_horizon_days"),
        (f"{HEAD}colour = 1\n", "unknown field `colour`"),
        (f'{HEAD}time_zone = "Prague"\n', "time_zone 'Prague' is not known"),
        (f'{HEAD}name = "taiwan"\n', "is a built-in source"),
        ("headline_horizon_days = 0\n", "headline_horizon_days is 0"),
        (f'{HEAD}[csv]\ndelimiter = ";;"\n', "one character each"),
        (f'{HEAD}split = "both"\n', "split"),
        ("headline_horizon_days = \n", "is no TOML file"),
    ],
)
def test_heads_that_cannot_be_meant_are_refused(tmp_path: Path, head: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read_mapping(written(tmp_path, 'amount = "a"', head=head))


def test_outcomes_and_events_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="outcomes"):
        read_mapping(written(tmp_path, 'amount = "a"', outcomes=""))
    with pytest.raises(DatasetError, match=r"\[outcomes\]: fields needs a rule for observed_until"):
        read_mapping(written(tmp_path, 'amount = "a"', outcomes='[outcomes]\npath = "o"\nfields = { user_id = "i" }\n'))
    path = tmp_path / "mapping.toml"
    path.write_text(HEAD + OUTCOMES)
    with pytest.raises(DatasetError, match="maps no events"):
        read_mapping(path)
    with pytest.raises(DatasetError, match="--path"):
        read_mapping(tmp_path / "nowhere.toml")
