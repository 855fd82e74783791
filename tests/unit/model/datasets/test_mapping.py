"""A mapping that cannot be meant is refused before a table is opened, by a message that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.types import KINDS
from model.datasets.dataset import DatasetError
from model.datasets.mapping import field_types, read_mapping
from model.datasets.rules import columns_of

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
        ('amount = { column = "a", constant = 1 }', "exactly one of column, constant, sum, days_between"),
        ("amount = { scale = 2 }", "exactly one of column, constant, sum, days_between"),
        ("amount = { sum = [] }", "sum names no column"),
        ('amount = { constant = "five" }', "which 'five' is not"),
        ("amount = { constant = 5, scale = 2 }", "is a constant"),
        ('amount = { column = "a", unlisted = "keep" }', "there is no map"),
        ('amount = { column = "a", unlisted = "drop" }', "drop"),
        ('amount = "a"\ncategory = { column = "c", bands = [{ name = "x" }, { below = 3, name = "y" }] }', "bands"),
        ('amount = { column = "a", where = [{ column = "b" }] }', "either in or not_in"),
        ('amount = { column = "a", map = { "x" = "5" } }', "its map must give numbers"),
        ('amount = "a"\nevent_id = { constant = "x" }', "takes no constant"),
        ('amount = { sum = [{ column = "a" }], map = { "x" = 5 } }', "map goes with column, not with sum"),
        ('amount = { days_between = { from = "a", to = "b" }, constant = 5 }', "exactly one of"),
        ('amount = { days_between = { from = "a" } }', "to"),
        ('amount = { days_between = { from = "a", to = { column = "b", scale = 2 } } }', "days_between.to.*no scale"),
        ('amount = { column = "a", months_before = "b" }', "takes no months_before"),
        ('amount = "a"\nevent_id = { join = [] }', "join names no column"),
        ('amount = "a"\nevent_id = { join = ["a"], column = "b" }', "exactly one of column, join"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path: Path, fields: str, said: str) -> None:
    with pytest.raises(DatasetError, match=rf"mapping\.toml.*{said}"):
        read_mapping(written(tmp_path, fields))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('{ column = "n", months_before = "b", days_after = "c" }', "months_before and days_after: only one"),
        (
            '{ column = "n", months_before = "b", format = "%Y" }',
            r"months_before = \{ column = .…., format = '%Y'",
        ),
        ('{ column = "n", months_before = { constant = 5 } }', "months_before is of type moment, which 5 is not"),
        ('{ column = "n", months_before = { column = "b", format = "%Q" } }', "months_before: format '%Q' is none of"),
        ('{ constant = "2024-01-31", months_before = "b" }', "is a constant"),
        ('{ column = "d", format = "%d.%m" }', "has no year"),
        ('{ column = "d", format = "iso8601" }', "has no year"),
        ('{ column = "d", format = "%Y%m%d%H%M%SZ" }', "write %z"),
        ('{ column = "d", format = "%Y-%m-%d %H:%M %Z" }', "write %z"),
        ('{ column = "d", format = "%Y-%m-%d %" }', "is none of iso, epoch_s, epoch_ms"),
        ('{ column = "d", time = "25:00" }', "time '25:00' is none"),
    ],
)
def test_dates_that_cannot_be_meant_are_refused(tmp_path: Path, rule: str, said: str) -> None:
    path = tmp_path / "mapping.toml"
    fields = f'user_id = "id"\namount = "a"\noccurred_at = {rule}\n'
    path.write_text(f'{HEAD}[transactions]\npath = "t.csv"\n[transactions.fields]\n{fields}{OUTCOMES}')
    with pytest.raises(DatasetError, match=rf"fields\.occurred_at.*{said}"):
        read_mapping(path)


@pytest.mark.parametrize(
    ("unpivot", "said"),
    [
        ("columns = {}", "columns names none"),
        ('columns = { a = "m" }\nnumbers = [1, 2]', "pattern with one {} for the number"),
        ('columns = { a = "m{}{}" }\nnumbers = [1, 2]', "pattern with one {} for the number"),
        ('columns = { a = "m{0.real}" }\nnumbers = [1, 2]', "pattern with one {} for the number"),
        ('columns = { a = "m{}" }', r"needs numbers = \[first, last\] for the columns m{}"),
        ('columns = { a = "m{}" }\nnumbers = [1]', "give the first and the last"),
        ('columns = { a = "m{}" }\nnumbers = [-1, 2]', "from 0 on"),
        ('columns = { a = "m{}", b = ["x"] }\nnumbers = [1, 2]', "it has 1 for b, 2 for numbers"),
        ('columns = { a = ["x", "y"], b = ["z"] }', "it has 2 for a, 1 for b"),
        ("columns = { a = [] }", "it has 0 for a"),
        ('columns = { a = ["x"] }\ndate = "day"', "both of date"),
        ('columns = { a = ["x"] }\nstart = "day"', "both of date"),
        ('columns = { a = ["x"] }\ndate = "d"\nstart = "s"\nstep_months = 1\nstep_days = 1', "one of step_months"),
        ('columns = { a = ["x"] }\ndate = "d"\nstart = "s"\nstep_days = 0', "which is not 0"),
        ('columns = { a = ["x"] }\nstep_months = 1', "only with start"),
        ('columns = { a = ["x"] }\ndate = "d"\nstart = { column = "s", scale = 2 }', "start is of type day"),
        ('columns = { a = ["x"] }\nnumber = "a"', "a is the name of two of its columns"),
        ('columns = { b = ["x"] }', "makes b, but no field reads any of them"),
        ('columns = { a = ["x"] }\nsteps = 1', "unknown field `steps`"),
    ],
)
def test_wide_tables_that_cannot_be_meant_are_refused(tmp_path: Path, unpivot: str, said: str) -> None:
    more = f"[transactions.unpivot]\n{unpivot}\n"
    with pytest.raises(DatasetError, match=rf"mapping\.toml.*{said}"):
        read_mapping(written(tmp_path, 'amount = "a"', more=more))


def test_a_mapping_file_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, 'amount = "a"')
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_mapping(path).headline_horizon_days == 90


def test_ids_that_an_event_may_lack_are_optional() -> None:
    for kind in KINDS:
        for name, found in field_types(kind).items():
            assert (found in ("identifier", "optional identifier")) == name.endswith("_id")
            assert (found == "identifier") == (name in ("event_id", "user_id"))


@pytest.mark.parametrize("rule", ['{ constant = "payed" }', '{ column = "s", map = { "P" = "payed" } }'])
def test_choices_are_those_of_the_event(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(f'{HEAD}[repayments]\npath = "r.csv"\n[repayments.fields]\n{USER}kind = {rule}\n{OUTCOMES}')
    with pytest.raises(DatasetError, match=r"fields\.kind: 'payed' is none of closed, due, missed, opened, paid"):
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
