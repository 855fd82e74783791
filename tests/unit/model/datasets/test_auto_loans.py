import datetime as dt
from collections import defaultdict
from pathlib import Path

import pytest

from events.columns import due_ms
from events.instalments import with_missed
from model.datasets.auto_loans import AutoLoans
from model.datasets.dataset import DatasetError

MONTHS = 43
REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "auto_loans"
FACTS = {
    "assetNumber": "77",
    "reportingPeriodBeginningDate": "05-01-2017",
    "originalLoanAmount": "12000",
    "originalLoanTerm": "73",
    "originalInterestRatePercentage": "0.07",
    "vehicleNewUsedCode": "2",
    "vehicleValueAmount": "10000",
    "obligorCreditScore": "NA",
    "paymentToIncomePercentage": "0.1165",
    "obligorGeographicLocation": "FL",
    "reportingPeriodBeginningLoanBalanceAmount": "10000",
    "reportingPeriodScheduledPaymentAmount": "200",
    "initialLoanAge": "12",
}
DERIVED = {"Y": "1", "X": "2", "Xc": "3", "C": "0", "D": "1", "R": "0"}


def write(folder, loans, derived=DERIVED, name="loans.csv", observed=MONTHS):
    """A file with a row per loan, given as its fields and its months' (balance, payment)."""
    lines = []
    for fields, months in loans:
        row = {**FACTS, **fields}
        for month in range(1, observed + 1):
            balance, paid = months[month - 1] if month <= len(months) else ("NA", "NA")
            row[f"BAL{month}"], row[f"PMT{month}"] = str(balance), str(paid)
        row.update(derived)
        lines = lines or [",".join(row)]
        lines.append(",".join(row.values()))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def history(tmp_path):
    """Repayments of one loan from its months' (balance, payment)."""

    def build(months):
        dataset = AutoLoans(write(tmp_path, [({}, months)]))
        return [event for event in dataset.events() if event.KIND == "repayments"]

    return build


def closings(events):
    return [(event.kind, event.days_past_due) for event in events if event.event_id.endswith("-end")]


def test_arrears_grow_and_are_caught_up(history):
    months = [(9_800, 200), (9_800, 0), (9_800, 0), (9_500, 400), (9_300, 200), (9_100, 200)]

    assert closings(history(months)) == [
        ("paid", 0), ("missed", 30), ("missed", 60), ("paid", 30), ("paid", 30), ("paid", 30),
    ]  # fmt: skip


def test_payments_ahead_leave_nothing_due(history):
    events = history([(9_400, 600), (9_400, 0), (9_200, 200)])

    assert closings(events) == [("paid", -60), ("due", -30), ("paid", -30)]
    assert [event.amount_due for event in events] == [200, 200, 0, 0]
    assert list(with_missed(events, 3.0, until_ms=due_ms(dt.date(2018, 1, 1)))) == events


def test_a_part_payment_stays_open_for_the_watchdog(history):
    events = history([(9_900, 100), (9_700, 200)])
    with_those_missed = list(with_missed(events, 3.0))

    assert [event.kind for event in with_those_missed] == ["due", "paid", "due", "missed", "paid"]
    assert with_those_missed[3].occurred_at == dt.datetime(2017, 6, 4, tzinfo=dt.UTC)


def test_the_default_date_is_the_first_day_of_the_third_month_without_payment(tmp_path):
    months = [(9_800, 200), (9_800, 0), (9_800, 0), (9_800, 0), (9_600, 200)]
    outcome = AutoLoans(write(tmp_path, [({}, months)])).outcomes()["auto-77"]

    assert outcome.default_date_ms == due_ms(dt.date(2017, 8, 1))
    assert outcome.observation_end_ms == due_ms(dt.date(2017, 10, 1))


@pytest.mark.parametrize(
    ("months", "until"),
    [
        ([(9_800, 200), (9_800, 0), (9_800, 0), (0, 9_900)], dt.date(2017, 9, 1)),
        ([(9_800, 200), (9_800, 0), (9_800, 0)], dt.date(2017, 8, 1)),
        ([(9_800, 0), (9_800, 0), (9_600, 200), (9_600, 0), (9_600, 0)], dt.date(2017, 10, 1)),
        ([(0, 10_050), (0, 0), (0, 0), (0, 0)], dt.date(2017, 6, 1)),
    ],
)
def test_payoff_and_the_end_of_the_data_censor(tmp_path, months, until):
    outcome = AutoLoans(write(tmp_path, [({}, months)])).outcomes()["auto-77"]

    assert (outcome.default_date_ms, outcome.observation_end_ms) == (None, due_ms(until))


def test_columns_that_know_the_future_are_not_read(tmp_path):
    months = [(9_800, 200), (9_800, 0), (9_600, 200)]
    known = AutoLoans(write(tmp_path, [({}, months)], name="a.csv"))
    other = AutoLoans(write(tmp_path, [({}, months)], derived=dict.fromkeys(DERIVED, "9"), name="b.csv"))
    without = AutoLoans(write(tmp_path, [({}, months)], derived={}, name="c.csv"))

    assert list(known.events()) == list(other.events()) == list(without.events())
    assert known.outcomes() == other.outcomes() == without.outcomes()


def test_profile_tells_the_contract_and_leaves_gaps(tmp_path):
    profile = next(AutoLoans(write(tmp_path, [({}, [(9_800, 200)])])).events())

    assert (profile.product, profile.region, profile.bureau_score) == ("auto_loan_used", "FL", None)
    assert (profile.loan_to_value, profile.term_months, profile.tenure_months) == (1.2, 73, 12)


@pytest.mark.parametrize("written", ["None", "NULL", "null", "NaN", "nan", "N/A", "n/a", "#N/A", "NA", " NA ", "", " "])
def test_a_value_that_is_not_known_may_be_written_in_many_ways(tmp_path, written):
    unknown = dict.fromkeys(
        ("obligorCreditScore", "vehicleValueAmount", "paymentToIncomePercentage", "obligorGeographicLocation"), written
    )
    months = [(9_800, 200), (9_600, 200), (written, written), (9_000, 200)]
    dataset = AutoLoans(write(tmp_path, [(unknown, months)]))
    profile = next(dataset.events())

    assert (profile.bureau_score, profile.loan_to_value, profile.payment_to_income, profile.region) == (None,) * 4
    assert len(closings(dataset.events())) == 2, "the loan is in the file for two months"


@pytest.mark.parametrize("written", ["good", "inf", "1_000", "12%", "0x10"])
def test_what_is_no_number_is_named_with_its_line(tmp_path, written):
    path = write(tmp_path, [({}, [(9_800, 200)]), ({"assetNumber": "78", "obligorCreditScore": written}, [(1, 1)])])
    with pytest.raises(DatasetError, match=rf"loans\.csv, line 3: column obligorCreditScore holds '{written}'"):
        AutoLoans(path)


@pytest.mark.parametrize("number", ["", "None"])
def test_a_loan_without_a_number_is_an_error(tmp_path, number):
    with pytest.raises(DatasetError, match=r"loans\.csv, line 2: column assetNumber is empty"):
        AutoLoans(write(tmp_path, [({"assetNumber": number}, [(9_800, 200)])]))


def test_files_may_end_in_capitals(tmp_path):
    write(tmp_path, [({"assetNumber": "1"}, [(9_800, 200)])], name="a.csv")
    write(tmp_path, [({"assetNumber": "2"}, [(9_800, 200)])], name="B.CSV")

    assert AutoLoans(tmp_path).deals() == {"auto-1": "a", "auto-2": "B"}


def test_loans_without_an_open_month_or_schedule_are_left_out(tmp_path):
    loans = [
        ({"assetNumber": "1"}, []),
        ({"assetNumber": "2", "reportingPeriodScheduledPaymentAmount": "0"}, [(9_800, 200)]),
        ({"assetNumber": "3"}, [(9_800, 200)]),
    ]

    assert set(AutoLoans(write(tmp_path, loans)).outcomes()) == {"auto-3"}


def test_a_folder_is_read_whole_and_a_loan_only_once(tmp_path):
    write(tmp_path, [({"assetNumber": "1"}, [(9_800, 200)])], name="a.csv")
    write(tmp_path, [({"assetNumber": "2"}, [(9_800, 200)])], name="b.csv")

    assert set(AutoLoans(tmp_path).outcomes()) == {"auto-1", "auto-2"}
    write(tmp_path, [({"assetNumber": "2"}, [(9_800, 200)])], name="c.csv")
    with pytest.raises(DatasetError, match="same assetNumber"):
        AutoLoans(tmp_path)


def test_wrong_files_are_named_with_their_fault(tmp_path):
    with pytest.raises(DatasetError, match=r"no file and holds no \*\.csv"):
        AutoLoans(tmp_path)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"odd\.csv: no column assetNumber"):
        AutoLoans(tmp_path)
    bad_date = write(tmp_path, [({"reportingPeriodBeginningDate": "soon"}, [(1, 1)])], name="date.csv")
    with pytest.raises(DatasetError, match=r"date\.csv, line 2: reportingPeriodBeginningDate 'soon'"):
        AutoLoans(bad_date)


def test_the_real_files():
    if not REAL.is_dir():
        pytest.skip(f"needs the auto-loan files under {REAL}")
    dataset = AutoLoans(REAL)
    outcomes = dataset.outcomes()
    latest, kinds = None, defaultdict(int)
    for event in dataset.events():
        assert latest is None or event.occurred_at >= latest
        latest = event.occurred_at
        kinds[event.KIND] += 1
        assert event.occurred_at.timestamp() * 1000 <= outcomes[event.user_id].observation_end_ms

    assert (len(outcomes), kinds["profiles"]) == (3_454, 3_454)
    assert sum(outcome.default_date_ms is not None for outcome in outcomes.values()) == 505
    assert kinds["repayments"] > 150_000


@pytest.mark.parametrize("observed", [7, 60])
def test_a_deal_may_be_observed_for_any_number_of_months(tmp_path, observed):
    months = [(9_900 - 10 * month, 200) for month in range(observed)]
    dataset = AutoLoans(write(tmp_path, [({}, months)], observed=observed))

    assert sum(event.event_id.endswith("-end") for event in dataset.events()) == observed


def test_deals_may_number_their_loans_alike(tmp_path):
    write(tmp_path, [({}, [(9_800, 200)]), ({"assetNumber": "78"}, [(9_800, 200)])], name="one_2017.csv")
    write(tmp_path, [({}, [(9_700, 300)])], name="other_2019.csv", observed=12)
    dataset = AutoLoans(tmp_path)

    assert dataset.deals() == {
        "auto-one_2017-77": "one_2017", "auto-other_2019-77": "other_2019", "auto-78": "one_2017",
    }  # fmt: skip
    assert {event.user_id for event in dataset.events()} == set(dataset.deals()) == set(dataset.outcomes())


def test_a_number_twice_in_a_deal_is_an_error(tmp_path):
    path = write(tmp_path, [({}, [(9_800, 200)]), ({}, [(9_700, 300)])])
    with pytest.raises(DatasetError, match="assetNumber 77 occurs twice"):
        AutoLoans(path)
