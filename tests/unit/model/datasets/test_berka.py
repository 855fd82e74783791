import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

from events.calendar import DAY_MS
from events.columns import due_ms
from model.datasets.berka import Berka
from model.datasets.dataset import DatasetError

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "berka"
TABLES = {
    "account.asc": '"account_id";"district_id";"frequency";"date"\n10;1;"POPLATEK MESICNE";930101\n11;1;"X";930102\n',
    "client.asc": '"client_id";"birth_number";"district_id"\n5;"706213";2\n6;"450204";1\n7;"450204";1\n',
    "disp.asc": '"disp_id";"client_id";"account_id";"type"\n1;7;10;"DISPONENT"\n2;5;10;"OWNER"\n3;6;11;"OWNER"\n',
    "district.asc": "A1;A2;A3\n1;a;Prague\n2;b;central Bohemia\n",
    "loan.asc": (
        '"loan_id";"account_id";"date";"amount";"duration";"payments";"status"\n9;10;970301;12000;12;1000.00;"D"\n'
    ),
    "trans_1993_to_199403.asc": (
        '"trans_id";"account_id";"date";"type";"operation";"amount";"balance";"k_symbol";"bank";"account"\n'
        '1;10;930105;"PRIJEM";"VKLAD";700.00;700.00;"";;\n'
        '2;10;930105;"VYDAJ";"PREVOD NA UCET";200.00;500.00;"SIPO";"AB";1\n'
        '3;11;930105;"PRIJEM";"VKLAD";700.00;700.00;"";;\n'
    ),
    "trans_preloan_1997_98.csv": (
        "trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account\n"
        "4;10;970228;withdrawal;remittance to another bank;300.00;200.00;household;AB;1\n"
        "5;10;970301;credit;credit in cash;300.00;500.00;;;\n"
        "6;10;970210;credit;;5.00;505.00;interest credited;;\n"
    ),
}


@pytest.fixture
def folder(tmp_path):
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_movements_stop_before_the_grant_and_are_the_borrowers_only(folder):
    events = list(Berka(folder).events())

    assert {event.user_id for event in events} == {"berka-10"}
    assert [event.KIND for event in events] == ["profiles", *["transactions"] * 4, "profiles", "repayments"]
    assert [event.occurred_at.date() for event in events[1:5]] == [
        dt.date(1993, 1, 5), dt.date(1993, 1, 5), dt.date(1997, 2, 10), dt.date(1997, 2, 28),
    ]  # fmt: skip


def test_both_languages_end_in_one_vocabulary(folder):
    czech, english = [event for event in Berka(folder).events() if event.KIND == "transactions" and event.amount < 0]

    assert (czech.category, czech.channel, czech.counterparty_type) == ("household", "transfer", "other_bank")
    assert (english.category, english.channel, english.counterparty_type) == ("household", "transfer", "other_bank")
    assert (czech.amount, english.amount) == (-200, -300)


def test_the_grant_ends_the_history_with_the_loan(folder):
    *_, profile, grant = Berka(folder).events()

    assert (grant.kind, grant.amount_due, grant.balance, grant.due_date) == ("due", 1000, 12000, None)
    assert (profile.sex, profile.age_band, profile.region) == ("female", "25-34", "central Bohemia")
    assert (profile.term_months, profile.tenure_months) == (12, 49.9)


def test_the_outcome_is_within_the_headline_horizon_of_the_grant(folder):
    dataset = Berka(folder)
    outcome = dataset.outcomes()["berka-10"]
    last_ms = [event.occurred_at.timestamp() * 1000 for event in dataset.events()][-1]

    assert outcome.label == 1
    assert outcome.default_date_ms == due_ms(dt.date(1997, 5, 30))
    assert 0 < (outcome.default_date_ms - last_ms) / DAY_MS <= dataset.headline_horizon_days
    assert outcome.observation_end_ms - last_ms >= 180 * DAY_MS


def test_the_status_is_in_no_event(folder):
    before = list(Berka(folder).events())
    (folder / "loan.asc").write_text(TABLES["loan.asc"].replace('"D"', '"A"'))

    assert list(Berka(folder).events()) == before
    assert Berka(folder).outcomes()["berka-10"].default_date_ms is None


def test_wrong_folders_are_named_with_their_fault(folder):
    with pytest.raises(DatasetError, match="is not a folder"):
        Berka(folder / "loan.asc")
    (folder / "disp.asc").write_text('"disp_id";"client_id";"account_id";"type"\n')
    with pytest.raises(DatasetError, match="do not cover every loan"):
        Berka(folder)
    (folder / "disp.asc").write_text(TABLES["disp.asc"])
    (folder / "trans_1993_to_199403.asc").unlink()
    (folder / "trans_preloan_1997_98.csv").unlink()
    with pytest.raises(DatasetError, match="no movements"):
        list(Berka(folder).events())
    (folder / "loan.asc").unlink()
    with pytest.raises(DatasetError, match=r"none of loan\.asc"):
        Berka(folder)


def test_the_real_folder():
    if not REAL.is_dir():
        pytest.skip(f"needs the bank's tables under {REAL}")
    dataset = Berka(REAL)
    outcomes = dataset.outcomes()
    kinds, with_movements, latest = Counter(), set(), None
    for event in dataset.events():
        assert latest is None or event.occurred_at >= latest
        latest = event.occurred_at
        kinds[event.KIND] += 1
        if event.KIND == "transactions":
            with_movements.add(event.user_id)
            assert event.category
    bad = {user_id for user_id, outcome in outcomes.items() if outcome.label}

    assert (len(outcomes), len(bad)) == (682, 76)
    assert (len(with_movements), len(with_movements & bad), kinds["transactions"]) == (514, 55, 36_991)
