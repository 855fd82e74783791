import datetime as dt
import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from events.calendar import DAY_MS
from events.instalments import with_missed
from model.datasets.dataset import DatasetError
from model.datasets.taiwan import Taiwan

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "taiwan"
HEADER = (
    "ID,LIMIT_BAL,SEX,EDUCATION,MARRIAGE,AGE,PAY_0,PAY_2,PAY_3,PAY_4,PAY_5,PAY_6,"
    "BILL_AMT1,BILL_AMT2,BILL_AMT3,BILL_AMT4,BILL_AMT5,BILL_AMT6,"
    "PAY_AMT1,PAY_AMT2,PAY_AMT3,PAY_AMT4,PAY_AMT5,PAY_AMT6,default.payment.next.month"
)
CLIENTS = (
    "2,50000,1,1,2,37,2,0,-1,-2,1,3,900,1000,700,0,500,400,0,300,0,500,50,20,1",
    "1,20000,2,2,1,24,0,0,0,0,0,0,100,100,100,100,100,100,10,10,10,10,10,10,0",
)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "UCI_Credit_Card.csv"
    path.write_text("\n".join((HEADER, *CLIENTS)) + "\n")
    return path


def of_client(dataset, user_id, topic):
    return [event for event in dataset.events() if (event.user_id, event.KIND) == (user_id, topic)]


def test_months_run_from_oldest_to_newest(small):
    statements = of_client(Taiwan(small), "taiwan-00002", "transactions")

    assert [event.balance_after for event in statements] == [400, 500, 0, 700, 1000, 900]
    assert [event.occurred_at.date() for event in statements] == [
        dt.date(2005, 4, 30), dt.date(2005, 5, 31), dt.date(2005, 6, 30),
        dt.date(2005, 7, 31), dt.date(2005, 8, 31), dt.date(2005, 9, 30),
    ]  # fmt: skip
    assert {event.credit_limit for event in statements} == {50000}


def test_spending_is_what_makes_up_the_next_statement(small):
    statements = of_client(Taiwan(small), "taiwan-00002", "transactions")

    assert statements[0].category == "opening_balance"
    # May to September: bill - bill before + paid in the month.
    assert [event.amount for event in statements[1:]] == [-150, 0, -700, -600, 100]
    assert [event.category for event in statements[1:]] == ["spending"] * 4 + ["refund"]


def test_each_status_code_keeps_a_form_of_its_own(small):
    repayments = of_client(Taiwan(small), "taiwan-00002", "repayments")

    assert [(event.kind, event.days_past_due) for event in repayments] == [
        ("missed", 90.0), ("missed", 30.0), ("due", None), ("paid", -1.0), ("paid", 0.0), ("missed", 60.0),
    ]  # fmt: skip
    assert [event.amount_due for event in repayments] == [None, 400, 0, 0, 700, 1000]
    assert [event.amount_paid for event in repayments] == [20, 50, 500, 0, 300, 0]


def test_profile_comes_first_with_the_protected_facts_in_their_fields(small):
    profile = next(event for event in Taiwan(small).events() if event.user_id == "taiwan-00002")

    assert profile.KIND == "profiles"
    assert (profile.sex, profile.age_band) == ("male", "35-44")
    assert (profile.education, profile.marital_status, profile.credit_limit) == ("graduate_school", "single", 50000)


def test_the_label_is_the_only_source_of_the_default_date(small):
    outcomes = Taiwan(small).outcomes()
    relabelled = small.with_name("relabelled.csv")
    relabelled.write_text(small.read_text().replace(",20,1\n", ",20,0\n"))

    assert {user: (o.label, o.default_date_ms is None) for user, o in outcomes.items()} == {
        "taiwan-00001": (0, True),
        "taiwan-00002": (1, False),
    }
    assert Taiwan(relabelled).outcomes()["taiwan-00002"].default_date_ms is None
    assert list(Taiwan(relabelled).events()) == list(Taiwan(small).events())


def test_the_headline_horizon_of_the_last_events_answers_the_label(small):
    dataset = Taiwan(small)
    outcomes = dataset.outcomes()
    default_date_ms = outcomes["taiwan-00002"].default_date_ms
    by_month = defaultdict(list)
    for event in dataset.events():
        by_month[event.occurred_at.month].append(event.occurred_at.timestamp() * 1000)

    assert all(0 < (default_date_ms - time_ms) / DAY_MS <= dataset.headline_horizon_days for time_ms in by_month[9])
    assert all(30 < (default_date_ms - time_ms) / DAY_MS <= 60 for time_ms in by_month[8])
    assert all(o.observation_end_ms - 180 * DAY_MS >= max(by_month[9]) for o in outcomes.values())


def test_nothing_is_left_to_the_watchdog(small):
    repayments = of_client(Taiwan(small), "taiwan-00002", "repayments")

    assert list(with_missed(repayments, 3.0, until_ms=2**42)) == repayments


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "no column ID"),
        (HEADER + "\n", "no clients"),
        (HEADER + "\n" + CLIENTS[0].replace("50000", "much") + "\n", "LIMIT_BAL holds 'much'"),
        (HEADER + "\n" + CLIENTS[0] + "\n" + CLIENTS[0] + "\n", "same ID"),
        (HEADER + "\n" + "1,2,3\n", "EDUCATION is empty"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path, text, complaint):
    path = tmp_path / "wrong.csv"
    path.write_text(text)

    with pytest.raises(DatasetError, match=rf"wrong\.csv.*({complaint})"):
        Taiwan(path)


def test_a_file_that_only_claims_to_be_gzipped_is_named(tmp_path):
    path = tmp_path / "UCI_Credit_Card.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode())[:40])

    with pytest.raises(DatasetError, match=r"UCI_Credit_Card\.csv\.gz: cannot be read"):
        Taiwan(tmp_path)


def test_the_real_file():
    if not REAL.is_dir():
        pytest.skip(f"needs the UCI file under {REAL}")
    dataset = Taiwan(REAL)
    outcomes = dataset.outcomes()
    count, latest, statuses = 0, None, set()
    for event in dataset.events():
        count += 1
        assert latest is None or event.occurred_at >= latest
        latest = event.occurred_at
        if event.KIND == "repayments":
            statuses.add((event.kind, event.days_past_due))

    assert (len(outcomes), count) == (30_000, 30_000 * 13)
    assert sum(outcome.label for outcome in outcomes.values()) == 6_636
    assert len(statuses) == 11  # codes -2 to 8
