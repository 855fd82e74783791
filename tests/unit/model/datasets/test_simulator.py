import datetime as dt
import tracemalloc
from collections import Counter, defaultdict

import msgspec
import numpy as np
import pytest

from events.columns import DAY_MS, due_ms
from events.instalments import PAID_IN_FULL, with_missed
from events.types import EVENT_TYPES, KINDS, encode_event
from model.datasets import DatasetError
from model.datasets.simulator import BLOCK_USERS, Simulator
from model.datasets.simulator.life import DELINQUENCY_DAYS

MONTHS = 12


def moment_ms(event):
    return round(event.occurred_at.timestamp() * 1000)


@pytest.fixture(scope="module")
def portfolio():
    return Simulator(users=1_500, months=MONTHS, seed=7)


@pytest.fixture(scope="module")
def events(portfolio):
    return list(portfolio.events())


@pytest.fixture(scope="module")
def outcomes(portfolio):
    return portfolio.outcomes()


@pytest.fixture(scope="module")
def repayments(events):
    by_user = defaultdict(list)
    for event in events:
        if event.KIND == "repayments":
            by_user[event.user_id].append(event)
    return by_user


@pytest.fixture(scope="module")
def prompt(portfolio):
    """Borrowers whose lender tells of a payment on its day."""
    lags = [lag for block in range(3) for lag in portfolio._traits(block).report_lag_days.tolist()]
    return {user_id for user_id, lag in zip(portfolio.user_ids(), lags, strict=False) if lag == 0}


def test_records_are_the_events_encoded():
    simulator = Simulator(users=90, months=4, seed=1)
    expected = [
        (event.KIND, event.user_id.encode(), encode_event(event), moment_ms(event)) for event in simulator.events()
    ]

    assert list(simulator.records()) == expected


def test_every_record_is_a_valid_event():
    decoders = {kind: msgspec.json.Decoder(EVENT_TYPES[kind]) for kind in KINDS}

    for kind, key, value, time_ms in Simulator(users=300, months=5, seed=2).records():
        event = decoders[kind].decode(value)
        assert (event.user_id.encode(), moment_ms(event)) == (key, time_ms)


def test_events_are_in_order_within_the_period_and_named_once(portfolio, events):
    times = [moment_ms(event) for event in events]

    assert times == sorted(times)
    assert times[0] >= moment_ms_of(dt.date(2023, 1, 1))
    assert times[-1] < moment_ms_of(dt.date(2024, 1, 1))
    assert len({event.event_id for event in events}) == len(events)
    assert {event.user_id for event in events} <= set(portfolio.user_ids())


def moment_ms_of(date):
    return due_ms(date)


def test_a_borrower_does_not_depend_on_how_many_others_there_are():
    few, many = Simulator(users=40, months=3, seed=5), Simulator(users=BLOCK_USERS + 40, months=3, seed=5)
    chosen = set(few.user_ids())

    assert list(few.events()) == [event for event in many.events() if event.user_id in chosen]
    outcomes = many.outcomes()
    assert few.outcomes() == {user_id: outcomes[user_id] for user_id in few.user_ids()}


def test_calls_start_anew_and_may_be_interleaved():
    simulator = Simulator(users=30, months=2, seed=9)
    first, second = simulator.events(), simulator.events()

    pairs = list(zip(first, second, strict=True))

    assert pairs
    assert all(one == other for one, other in pairs)


def test_seeds_differ():
    assert list(Simulator(users=5, months=1, seed=1).events()) != list(Simulator(users=5, months=1, seed=2).events())


def test_volume_and_positive_rate_are_those_of_a_portfolio(events, outcomes):
    """6 to 12 events per user and month; onset within 90 days after 2 to 6 % of the events whose 90 days were seen."""
    positives = negatives = 0
    for event in events:
        outcome, time_ms = outcomes[event.user_id], moment_ms(event)
        if outcome.onset_ms is not None and time_ms < outcome.onset_ms <= time_ms + 90 * DAY_MS:
            positives += 1
        elif outcome.onset_ms is None or time_ms < outcome.onset_ms:
            negatives += outcome.onset_ms is not None or time_ms + 90 * DAY_MS <= outcome.observed_until_ms

    assert 6 <= len(events) / 1_500 / MONTHS <= 12
    assert 0.02 <= positives / (positives + negatives) <= 0.06


def test_every_story_and_every_kind_of_event_is_told(events, outcomes):
    stories = Counter(outcome.scenario for outcome in outcomes.values())
    onsets = Counter(outcome.scenario for outcome in outcomes.values() if outcome.onset_ms is not None)

    assert {"stable", "slow_slide", "shock", "cash_out", "recovery", "seasonal", "no_early_sign"} <= stories.keys()
    assert {"holiday_spending", "moving_house", "income_switch"} <= stories.keys()
    assert {"slow_slide", "shock", "cash_out", "no_early_sign"} <= onsets.keys()
    assert Counter(event.kind for event in events if event.KIND == "repayments").keys() == {
        "due", "paid", "missed", "reversed",
    }  # fmt: skip
    assert {event.kind for event in events if event.KIND == "activity"} == {"session", "inquiry", "device_change"}


def test_onsets_are_spread_over_the_period_and_some_borrowers_join_later(events, outcomes):
    start = moment_ms_of(dt.date(2023, 1, 1))
    quarters = Counter((o.onset_ms - start) // (92 * DAY_MS) for o in outcomes.values() if o.onset_ms is not None)
    first = {}
    for event in events:
        first.setdefault(event.user_id, moment_ms(event))
    late = sum(time_ms > start + 40 * DAY_MS for time_ms in first.values()) / len(first)

    assert min(quarters[quarter] for quarter in range(4)) >= 10
    assert 0.2 < late < 0.5


def test_some_fields_and_some_whole_kinds_are_missing(events):
    kinds_of = defaultdict(set)
    for event in events:
        kinds_of[event.user_id].add(event.KIND)
    share = {kind: sum(kind in kinds for kinds in kinds_of.values()) / len(kinds_of) for kind in KINDS}
    spending = [event for event in events if event.KIND == "transactions"]

    assert share["repayments"] > 0.97
    assert 0.8 < share["transactions"] < 0.95
    assert 0.75 < share["activity"] < 0.92
    assert 0.9 < share["profiles"] < 0.99
    assert 0.07 < sum(event.category is None for event in spending) / len(spending) < 0.16
    assert 0.1 < sum(event.balance_after is None for event in spending) / len(spending) < 0.25


def onset_from_ledger(history, until_ms):
    """The first moment at which an instalment was 60 days overdue, from bills, payments and reversals alone."""
    bills, paid = {}, defaultdict(float)
    for event in [*history, None]:
        time_ms = until_ms if event is None else moment_ms(event)
        overdue = [
            due_ms(due_date) + DELINQUENCY_DAYS * DAY_MS
            for number, (due_date, amount) in bills.items()
            if paid[number] < PAID_IN_FULL * amount
        ]
        if overdue and min(overdue) < time_ms:
            return min(overdue)
        if event is None:
            return None
        number = event.instalment_no
        if event.kind == "due":
            bills.setdefault(number, (event.due_date, event.amount_due))
        elif event.kind == "paid":
            if number is None:
                number = min((n for n, (_, amount) in bills.items() if paid[n] < PAID_IN_FULL * amount), default=-1)
            paid[number] += event.amount_due if event.amount_paid is None else event.amount_paid
        elif event.kind == "reversed":
            paid[number] -= event.amount_paid
    return None


def test_the_true_onset_is_what_the_bills_and_payments_add_up_to(repayments, outcomes, prompt):
    """Without borrowers who were in arrears before the period: their first bills are not among the events; and without
    lenders who tell late, to whom a payment of the 59th day may look like one of the 61st."""
    checked = 0
    for user_id, history in repayments.items():
        if user_id not in prompt:
            continue
        first = next((event for event in history if event.kind == "due"), None)
        numbers = [event.instalment_no for event in history if event.instalment_no is not None]
        if first is None or min(numbers) < first.instalment_no or history[0].kind != "due":
            continue
        if first.days_past_due != 0:
            continue
        assert onset_from_ledger(history, outcomes[user_id].observed_until_ms) == outcomes[user_id].onset_ms, user_id
        checked += outcomes[user_id].onset_ms is not None
    assert checked >= 40


def test_only_lenders_who_stay_silent_or_tell_late_leave_work_to_the_watchdog(repayments, outcomes, prompt):
    by_reporting = {True: 0, False: 0}
    silent = 0
    for user_id, history in repayments.items():
        reports = any(event.kind == "due" and event.days_past_due is not None for event in history)
        added = len(list(with_missed(history, 3.0, outcomes[user_id].observed_until_ms))) - len(history)
        if user_id in prompt:
            by_reporting[reports] += added
        silent += not reports

    assert by_reporting[True] == 0
    assert by_reporting[False] > silent / 5
    assert 0.1 < silent / len(repayments) < 0.2


def test_memory_does_not_grow_with_the_months():
    def peak_bytes(months):
        tracemalloc.start()
        for _ in Simulator(users=20, months=months).events():
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)
    assert peak_bytes(10) < 1.3 * peak_bytes(2)


def test_true_hazard_agrees_with_what_happens_and_ranks_it(portfolio, outcomes):
    at_ms = moment_ms_of(dt.date(2023, 1, 1)) + 140 * DAY_MS
    hazards, came = [], []
    for user_id in portfolio.user_ids()[: 2 * BLOCK_USERS]:
        hazard = portfolio.true_hazard(user_id, at_ms)
        if np.isnan(hazard):
            continue
        onset_ms = outcomes[user_id].onset_ms
        hazards.append(hazard)
        came.append(onset_ms is not None and at_ms <= onset_ms < at_ms + 90 * DAY_MS)
    hazards, came = np.array(hazards), np.array(came)
    expected, spread = hazards.sum(), np.sqrt((hazards * (1 - hazards)).sum())
    wins = (hazards[came][:, None] > hazards[~came]) + 0.5 * (hazards[came][:, None] == hazards[~came])

    assert came.sum() >= 10
    assert abs(came.sum() - expected) < 4 * spread
    assert wins.mean() > 0.85


def test_true_hazard_is_unknown_after_the_onset_and_outside_the_portfolio(portfolio, outcomes):
    gone = next(o for o in outcomes.values() if o.onset_ms and o.onset_ms < o.observed_until_ms - 30 * DAY_MS)
    start = moment_ms_of(dt.date(2023, 1, 1))

    assert np.isnan(portfolio.true_hazard(gone.user_id, gone.onset_ms + 8 * DAY_MS))
    with pytest.raises(DatasetError, match="no user 'u42'"):
        portfolio.true_hazard("u42", start)
    with pytest.raises(DatasetError, match="outside the simulated"):
        portfolio.true_hazard("u0000001", start - DAY_MS)


def test_the_period_starts_and_ends_where_it_is_told():
    simulator = Simulator(users=50, months=2, seed=3, start=dt.date(2024, 2, 10))
    times = [event.occurred_at.date() for event in simulator.events()]

    assert dt.date(2024, 2, 10) <= min(times)
    assert max(times) <= dt.date(2024, 4, 9)
    assert max(outcome.observed_until_ms for outcome in simulator.outcomes().values()) == due_ms(dt.date(2024, 4, 10))
