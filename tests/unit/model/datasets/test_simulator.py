import datetime as dt
import tracemalloc
from collections import Counter, defaultdict
from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest

from events.calendar import DAY_MS
from events.columns import due_ms
from events.instalments import with_missed
from events.types import EVENT_TYPES, KINDS, encode_event
from model.datasets.dataset import DatasetError
from model.datasets.simulator import BLOCK_USERS, Simulator, life
from model.datasets.simulator.state import Draws

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
    lags = [lag for block in range(3) for lag in portfolio.traits_of(block).report_lag_days.tolist()]
    return {user_id for user_id, lag in zip(portfolio.user_ids(), lags, strict=False) if lag == 0}


def test_records_are_the_events_encoded():
    simulator = Simulator(users=90, months=4, seed=1)
    expected = [
        (event.KIND, event.user_id.encode(), encode_event(event), moment_ms(event)) for event in simulator.events()
    ]

    assert list(simulator.keyed_events()) == expected


def test_every_record_is_a_valid_event():
    decoders = {kind: msgspec.json.Decoder(EVENT_TYPES[kind]) for kind in KINDS}

    for kind, key, value, time_ms in Simulator(users=300, months=5, seed=2).keyed_events():
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
    """6 to 12 events per user and month; default within 90 days after 2 to 6 % of the events whose 90 days were
    seen."""
    positives = negatives = 0
    for event in events:
        outcome, time_ms = outcomes[event.user_id], moment_ms(event)
        if outcome.default_date_ms is not None and time_ms < outcome.default_date_ms <= time_ms + 90 * DAY_MS:
            positives += 1
        elif outcome.default_date_ms is None or time_ms < outcome.default_date_ms:
            negatives += outcome.default_date_ms is not None or time_ms + 90 * DAY_MS <= outcome.observation_end_ms

    assert 6 <= len(events) / 1_500 / MONTHS <= 12
    assert 0.02 <= positives / (positives + negatives) <= 0.06


def test_every_story_and_every_kind_of_event_is_told(events, outcomes):
    stories = Counter(outcome.scenario for outcome in outcomes.values())
    in_default = Counter(outcome.scenario for outcome in outcomes.values() if outcome.default_date_ms is not None)

    assert {"stable", "slow_slide", "shock", "cash_out", "recovery", "seasonal", "no_early_sign"} <= stories.keys()
    assert {"holiday_spending", "moving_house", "income_switch"} <= stories.keys()
    assert {"slow_slide", "shock", "cash_out", "no_early_sign"} <= in_default.keys()
    assert Counter(event.kind for event in events if event.KIND == "repayments").keys() == {
        "due", "paid", "missed", "reversed", "opened", "restructured", "written_off", "closed",
    }  # fmt: skip
    assert {event.kind for event in events if event.KIND == "activity"} == {"session", "inquiry", "device_change"}


def test_defaults_are_spread_over_the_period_and_some_borrowers_join_later(events, outcomes):
    start = moment_ms_of(dt.date(2023, 1, 1))
    quarters = Counter(
        (o.default_date_ms - start) // (92 * DAY_MS) for o in outcomes.values() if o.default_date_ms is not None
    )
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
    assert 0.1 < sum(event.balance_after is None for event in spending) / len(spending) < 0.35


def test_only_lenders_who_stay_silent_or_tell_late_leave_work_to_the_watchdog(repayments, outcomes, prompt):
    by_reporting = {True: 0, False: 0}
    silent = 0
    some = dict(islice(repayments.items(), 200))
    for user_id, history in some.items():
        reports = any(event.kind == "due" and event.days_past_due is not None for event in history)
        added = len(list(with_missed(history, 3.0, outcomes[user_id].observation_end_ms))) - len(history)
        if user_id in prompt:
            by_reporting[reports] += added
        silent += not reports

    assert by_reporting[True] == 0
    assert by_reporting[False] > silent / 5
    assert 0.1 < silent / len(some) < 0.2


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


def test_true_hazard_agrees_with_what_happens_and_ranks_it():
    """Over portfolios with economies of their own: within one, defaults depend on each other through bad times."""
    hazards, came = [], []
    for seed in range(30, 42):
        simulator = Simulator(users=100, months=7, seed=seed)
        outcomes = simulator.outcomes()
        at_ms = moment_ms_of(dt.date(2023, 1, 1)) + (84 + seed % 7) * DAY_MS
        known = simulator.true_hazards(simulator.user_ids()[:40], np.full(40, at_ms + 5))
        default_dates_ms = [outcomes[user_id].default_date_ms for user_id in simulator.user_ids()[:40]]
        happened = np.array(
            [
                default_date_ms is not None and at_ms <= default_date_ms < at_ms + 90 * DAY_MS
                for default_date_ms in default_dates_ms
            ]
        )
        at_risk = ~np.isnan(known)
        hazards.append(known[at_risk])
        came.append(happened[at_risk])
    hazards, came = np.concatenate(hazards), np.concatenate(came)
    spread = np.sqrt((hazards * (1 - hazards)).sum())
    wins = (hazards[came][:, None] > hazards[~came]) + 0.5 * (hazards[came][:, None] == hazards[~came])

    assert came.sum() >= 8
    assert abs(came.sum() - hazards.sum()) < 3 * spread
    assert wins.mean() > 0.85


def test_many_true_hazards_are_those_of_one_at_a_time():
    simulator = Simulator(users=BLOCK_USERS + 3, months=6, seed=4)
    start = moment_ms_of(dt.date(2023, 1, 1))
    user_ids = [simulator.user_ids()[number] for number in (3, BLOCK_USERS + 1, 3, 40, 3)]
    times_ms = start + np.array([90, 30, 91, 20, 90]) * DAY_MS + np.array([5, 6, 7, 8, 9])

    together = simulator.true_hazards(user_ids, times_ms, 60)

    anew = Simulator(users=BLOCK_USERS + 3, months=6, seed=4)
    alone = [anew.true_hazard(user_id, int(at_ms), 60) for user_id, at_ms in zip(user_ids, times_ms, strict=True)]
    np.testing.assert_array_equal(together, alone)
    assert together[0] == together[4]


def test_true_hazard_knows_the_payment_of_the_day_and_not_that_of_the_morrow():
    """A borrower who is about to reach 60 days, and pays it all on the third day of a week."""
    simulator = Simulator(users=2 * BLOCK_USERS, months=9, seed=12)
    start = moment_ms_of(dt.date(2023, 1, 1))
    before_pay, after_pay = [], []
    for block in range(2):
        for number, (before, week) in enumerate(simulator.lives_of(block)):
            settles_all = (week.pay_count > 1) & (week.state.unpaid == 0) & (week.pay_offset >= 1) & ~week.restructured
            settles_all &= (week.state.unpaid == 0).all(axis=0) & ((week.pay_offset >= 0).sum(axis=0) == 1)
            never = (before.defaulted_day == -1) & (week.state.defaulted_day == -1)
            for place, row in zip(*[found[:2] for found in np.nonzero(settles_all & never)], strict=True):
                user_id = simulator.user_ids()[block * BLOCK_USERS + row]
                paid_ms = start + (7 * number + int(week.pay_offset[place, row])) * DAY_MS
                before_pay.append((user_id, paid_ms - DAY_MS))
                after_pay.append((user_id, paid_ms))

    def mean(moments):
        return simulator.true_hazards([user for user, _ in moments], np.array([at for _, at in moments]), 30).mean()

    assert len(before_pay) > 20
    assert mean(before_pay) > 2 * mean(after_pay)


def test_what_is_told_does_not_depend_on_what_comes_later():
    """From the tenth week on chance is another; until then not a byte differs."""

    class Otherwise(Simulator):
        def lives_of(self, block):
            traits = self.traits_of(block)
            rng = np.random.default_rng(99)
            state = None
            for number, (before, week) in enumerate(super().lives_of(block)):
                if number >= 10:
                    draws = Draws.of(rng, BLOCK_USERS)
                    before = week.state if state is None else state
                    week = life.step(traits, before, draws, self.calendar(number), np.zeros(1))
                state = week.state
                yield before, week

    options = {"users": 200, "months": 5, "seed": 8}
    until_ms = moment_ms_of(dt.date(2023, 1, 1)) + 70 * DAY_MS

    def told(simulator):
        records = list(simulator.keyed_events())
        return [record for record in records if record[3] < until_ms], records

    (early, whole), (other_early, other_whole) = told(Simulator(**options)), told(Otherwise(**options))

    assert early == other_early
    assert whole != other_whole


def test_bad_times_come_to_all_and_cost_defaults():
    def default_count(strain):
        simulator = Simulator(users=BLOCK_USERS, months=12, seed=6)
        simulator._strain[:] = strain
        return sum(outcome.default_date_ms is not None for outcome in simulator.outcomes().values())

    assert default_count(2.0) > 1.3 * default_count(0.0)
    assert Simulator(users=3, months=24, seed=1).strain_by_week().max() > 0.5


def test_lenders_let_bills_pass(repayments):
    """Between the bills of a contract that goes on there are gaps of two months and more."""
    gaps = contracts = 0
    for history in repayments.values():
        of_contract = defaultdict(list)
        for event in history:
            if event.kind == "due":
                of_contract[event.contract_id].append(event.due_date)
        for due in of_contract.values():
            contracts += 1
            gaps += any((later - earlier).days > 45 for earlier, later in pairwise(due))

    assert 0.03 < gaps / contracts < 0.2


def test_two_feeds_tell_the_same_movement_twice(events, portfolio):
    doubled = {
        user_id
        for block in range(3)
        for user_id, flag in zip(
            portfolio.user_ids()[block * BLOCK_USERS :], portfolio.traits_of(block).two_feeds, strict=False
        )
        if flag
    }
    amounts = defaultdict(Counter)
    for event in events:
        if event.KIND == "transactions":
            amounts[event.user_id][event.amount] += 1
    twice = {user for user, seen in amounts.items() if sum(seen.values()) > 20 and np.median(list(seen.values())) >= 2}

    assert 0.01 < len(doubled) / 1_500 < 0.06
    assert twice <= doubled
    assert len(twice) >= 10


def test_true_hazard_is_unknown_after_default_and_outside_the_portfolio(portfolio, outcomes):
    gone = next(
        o for o in outcomes.values() if o.default_date_ms and o.default_date_ms < o.observation_end_ms - 30 * DAY_MS
    )
    start = moment_ms_of(dt.date(2023, 1, 1))

    assert np.isnan(portfolio.true_hazard(gone.user_id, gone.default_date_ms + 8 * DAY_MS))
    with pytest.raises(DatasetError, match="no user 'u42'"):
        portfolio.true_hazard("u42", start)
    with pytest.raises(DatasetError, match="outside the simulated"):
        portfolio.true_hazard("u0000001", start - DAY_MS)


def test_the_period_starts_and_ends_where_it_is_told():
    simulator = Simulator(users=50, months=2, seed=3, start=dt.date(2024, 2, 10))
    times = [event.occurred_at.date() for event in simulator.events()]

    assert dt.date(2024, 2, 10) <= min(times)
    assert max(times) <= dt.date(2024, 4, 9)
    assert max(outcome.observation_end_ms for outcome in simulator.outcomes().values()) == due_ms(dt.date(2024, 4, 10))
