"""What borrowers' contracts come to, judged by the rule that workers go by (`events.repayments`)."""

from collections import Counter, defaultdict
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.calendar import DAY_MS, date_of
from events.contracts import (
    NO_DAY,
    contract_days,
    contract_id_of,
    find_contract,
    id_words,
    initial_ledger,
    initial_standing,
)
from events.repayments import apply_repayments, repayment_columns
from model.datasets.simulator import BLOCK_USERS, Simulator
from model.datasets.simulator.accounts import DELINQUENCY_DAYS, miss_rate
from model.datasets.simulator.columns import CONTRACTS
from model.datasets.simulator.state import OPEN, WRITTEN_OFF
from model.datasets.simulator.terms import CARD, contract_ids, shares_paid_first

SEEDS = st.integers(0, 10_000)
KINDS = ("opened", "due", "paid", "missed", "reversed", "restructured", "written_off", "closed")


def moment_ms(event):
    return round(event.occurred_at.timestamp() * 1000)


class Portfolio:
    """Events and traits by borrower."""

    def __init__(self, users, months, seed):
        self.simulator = Simulator(users=users, months=months, seed=seed)
        self.events = defaultdict(list)
        for event in self.simulator.events():
            self.events[event.user_id].append(event)
        self.outcomes = self.simulator.outcomes()
        self.traits = [self.simulator.traits_of(block) for block in range(-(-users // BLOCK_USERS))]

    def trait(self, name, user_id):
        block, row = divmod(int(user_id[1:]), BLOCK_USERS)
        return getattr(self.traits[block], name)[row]

    def repayments(self, user_id):
        return [event for event in self.events[user_id] if event.KIND == "repayments"]


@pytest.fixture(scope="module")
def portfolio():
    return Portfolio(users=700, months=14, seed=5)


class Ledgers:
    """The contracts of borrowers by the rule; an event of each borrower at a time, since a call has its cost.

    `rounds` yields the borrowers' next events, with their rows and days, before these are applied, and in the end None
    for each borrower, with the day before observation ends.
    """

    def __init__(self, portfolio, user_ids):
        histories = {user_id: portfolio.repayments(user_id) for user_id in user_ids}
        self.user_ids = sorted(histories, key=lambda user_id: -len(histories[user_id]))
        self._histories = [histories[user_id] for user_id in self.user_ids]
        self._until = [portfolio.outcomes[user_id].observation_end_ms // DAY_MS - 1 for user_id in self.user_ids]
        self.standing, self.ledger = initial_standing(len(self.user_ids)), initial_ledger(len(self.user_ids))
        self.today = np.full(len(self.user_ids), NO_DAY)

    def rounds(self):
        for number in range(max(map(len, self._histories)) + 1):
            ending = [row for row, history in enumerate(self._histories) if len(history) == number]
            yield np.array(ending, dtype=int), np.array([self._until[row] for row in ending]), None
            events = [history[number] for history in self._histories if len(history) > number]
            if not events:
                return
            rows = np.arange(len(events))
            times_ms = np.array([moment_ms(event) for event in events])
            days = times_ms // DAY_MS
            yield rows, days, events
            self.today[rows] = np.maximum(self.today[rows], days)
            columns = repayment_columns(events, times_ms)
            apply_repayments(self.standing[: len(rows)], self.ledger[: len(rows)], columns, days, self.today[rows])

    def days(self, rows, days):
        """Days past due of each contract, `[rows, places]`, 0 where nothing is known."""
        return np.nan_to_num(contract_days(self.standing[rows], days))

    def of_contract(self, events, days):
        """Days past due of the contracts that events of the first borrowers are about."""
        rows = np.arange(len(events))
        found, place = find_contract(self.standing[rows], id_words([event.contract_id for event in events]))
        return np.where(found, self.days(rows, days)[rows, place], 0)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_each_contract_has_one_currency_a_balance_of_zero_or_more_and_an_end(seed):
    portfolio = Portfolio(users=60, months=9, seed=seed)

    for history in portfolio.events.values():
        currencies, ended = defaultdict(set), {}
        for event in history:
            if event.KIND == "activity":
                continue
            if event.contract_id is not None:
                currencies[event.contract_id].add(event.currency)
            else:
                assert event.KIND != "repayments"
                assert event.currency is None
            if event.KIND == "repayments":
                assert event.balance is None or event.balance >= 0
                assert event.contract_id not in ended
                if event.kind == "closed":
                    ended[event.contract_id] = event.occurred_at
        assert all(len(stated) == 1 for stated in currencies.values())


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_reported_days_past_due_are_those_of_the_rule(seed):
    """Of lenders who tell of payments on their day: where the rule knows the contract from its beginning, or since a
    bill without arrears, a bill states what the rule has worked out."""
    portfolio = Portfolio(users=120, months=10, seed=seed)
    prompt = [user_id for user_id in portfolio.events if portfolio.trait("report_lag_days", user_id) == 0]
    ledgers, followed = Ledgers(portfolio, prompt), set()
    checked = behind = 0
    for _, days, events in ledgers.rounds():
        expected = () if events is None else ledgers.of_contract(events, days)
        for event, worked_out in zip(events or (), expected, strict=True):
            contract = event.user_id, event.contract_id
            if event.kind in {"due", "written_off"} and event.days_past_due is not None:
                if contract in followed:
                    assert abs(event.days_past_due - worked_out) <= 1, event
                    checked += 1
                    behind += worked_out > 0
                elif event.days_past_due == 0:
                    followed.add(contract)
            if event.kind == "opened":
                followed.add(contract)
    assert checked > 200
    assert behind > 5


def test_the_default_date_is_the_first_day_on_which_the_rule_finds_a_contract_serious(portfolio):
    """Without borrowers who came with arrears: their first bills are not among the events; and without lenders who tell
    late, to whom a payment of the 59th day may look like one of the 61st, or who count what they forgive as paid."""
    chosen = []
    for user_id in portfolio.events:
        firsts = {}
        for event in portfolio.repayments(user_id):
            firsts.setdefault(event.contract_id, event)
        came_clean = all(
            first.kind == "opened" or (first.kind == "due" and first.days_past_due == 0) for first in firsts.values()
        )
        if portfolio.trait("report_lag_days", user_id) == 0 and came_clean:
            chosen.append(user_id)
    ledgers = Ledgers(portfolio, chosen)
    found, before = {}, np.zeros(len(chosen), dtype=int)
    for rows, days, _ in ledgers.rounds():
        worst = ledgers.days(rows, days).max(axis=1)
        for row, day, late in zip(rows.tolist(), days.tolist(), worst.tolist(), strict=True):
            if late >= DELINQUENCY_DAYS:
                found.setdefault(ledgers.user_ids[row], max(day - int(late) + DELINQUENCY_DAYS, before[row]) * DAY_MS)
        before[rows] = days

    assert {user_id: found.get(user_id) for user_id in chosen} == {
        user_id: portfolio.outcomes[user_id].default_date_ms for user_id in chosen
    }
    assert len(found) >= 15


def test_events_of_every_kind_come_at_plausible_rates(portfolio):
    per_contract = Counter()
    contracts = set()
    for user_id in portfolio.events:
        for event in portfolio.repayments(user_id):
            per_contract[event.kind] += 1
            contracts.add((user_id, event.contract_id))
    rates = {kind: per_contract[kind] / len(contracts) for kind in KINDS}

    assert 4 < rates["due"] < 14
    assert 0.85 < rates["paid"] / rates["due"] < 1.1
    assert 0.2 < rates["opened"] < 0.6
    assert 0.03 < rates["closed"] < 0.2
    assert 0.005 < rates["written_off"] < 0.06
    assert 0.01 < rates["restructured"] < 0.1
    assert 0.01 < rates["reversed"] < 0.1
    assert 0.1 < rates["missed"] / rates["due"] < 0.35


def test_borrowers_have_one_to_four_contracts_at_a_time_of_every_type(portfolio):
    counts, types, currencies = Counter(), Counter(), 0
    for traits in portfolio.traits:
        counts.update(traits.terms.held.sum(axis=0).tolist())
    for user_id in portfolio.events:
        names = {event.contract_id for event in portfolio.repayments(user_id)}
        types.update({name.split("-")[0] for name in names})
        currencies += len({event.currency for event in portfolio.repayments(user_id)}) > 1

    assert set(counts) == {1, 2, 3, 4}
    assert 0.35 < counts[1] / counts.total() < 0.55
    assert min(types[kind] for kind in ("loan", "card", "overdraft")) > 30
    assert 0 < currencies / len(portfolio.events) < 0.06


def test_instalment_numbers_count_by_contract_and_collide(portfolio):
    collide = 0
    for user_id in portfolio.events:
        numbers = defaultdict(list)
        for event in portfolio.repayments(user_id):
            if event.kind == "due":
                numbers[event.contract_id].append(event.instalment_no)
        for mine in numbers.values():
            assert mine == list(range(mine[0], mine[0] + len(mine)))
        seen = Counter(number for mine in numbers.values() for number in mine)
        collide += max(seen.values(), default=0) > 1
    assert collide > len(portfolio.events) / 10


def test_what_is_paid_first_is_missed_less_often(portfolio):
    """Months of borrowers with several contracts: of the first and the last in their order of preference, the last one
    alone is left unpaid far more often than the first one alone."""
    last_only = first_only = some = several = 0
    for traits in range(len(portfolio.traits)):
        for before, _ in portfolio.simulator.lives_of(traits):
            is_open = (before.phase == OPEN) & before.active
            behind = is_open & (before.unpaid > 1)
            many = is_open.sum(axis=0) > 1
            first = is_open.argmax(axis=0)
            last = CONTRACTS - 1 - is_open[::-1].argmax(axis=0)
            users = np.arange(len(many))
            last_only += int((many & behind[last, users] & ~behind[first, users]).sum())
            first_only += int((many & behind[first, users] & ~behind[last, users]).sum())
            any_behind = many & behind.any(axis=0)
            several += int(any_behind.sum())
            some += int((any_behind & (behind.sum(axis=0) < is_open.sum(axis=0))).sum())

    assert last_only > 2 * first_only
    assert 0.6 < some / several < 0.95


def test_cards_and_large_contracts_come_last(portfolio):
    terms = portfolio.traits[0].terms
    both = terms.held[0] & terms.held[1] & ~terms.held[2:].any(axis=0)
    cards = (terms.product[:2, both] == CARD).sum(axis=0)
    one_card = cards == 1
    no_card = cards == 0
    instalment = terms.instalment[:2, both]

    assert (terms.product[1, both] == CARD)[one_card].mean() > 0.7
    assert (instalment[1] > instalment[0])[no_card].mean() > 0.7


@given(st.floats(-0.6, 6.0), st.floats(-3.0, 3.0))
def test_more_cash_and_a_place_nearer_the_front_make_a_payment_surer(stress, cash):
    traits = Simulator(users=1, months=1).traits_of(0)

    def rate(cash, paid_first):
        return miss_rate(traits, np.full(BLOCK_USERS, stress), np.full(BLOCK_USERS, cash), paid_first)

    assert (rate(cash, 0.3) <= rate(cash, 1.0)).all()
    assert (rate(cash + 0.5, 0.7) <= rate(cash, 0.7)).all()


def test_shares_paid_first_grow_to_one_over_the_open_contracts():
    terms = Simulator(users=1, months=1).traits_of(0).terms

    shares = shares_paid_first(terms, terms.held)

    assert (np.diff(shares, axis=0) >= 0).all()
    np.testing.assert_allclose(shares[-1], 1.0)
    assert (shares[:-1][~terms.held[:-1] & (np.arange(CONTRACTS - 1)[:, None] == 0)] == 0).all()


def test_contract_ids_differ_within_a_borrower_and_over_generations():
    terms = Simulator(users=1, months=1).traits_of(0).terms
    user = np.repeat(np.arange(BLOCK_USERS), 2 * CONTRACTS)
    place = np.tile(np.repeat(np.arange(CONTRACTS), 2), BLOCK_USERS)
    generation = np.tile(np.arange(2), BLOCK_USERS * CONTRACTS)

    names = contract_ids(terms, place, user, generation)

    assert len(set(zip(user.tolist(), names, strict=True))) == len(names)
    assert all(contract_id_of(id_words([name])[0]) == name for name in names[:50])


def test_a_borrower_goes_on_after_one_of_several_contracts_was_written_off(portfolio):
    after = 0
    for user_id in portfolio.events:
        history = portfolio.repayments(user_id)
        for contract_id, mine in groupby(sorted(history, key=lambda event: event.contract_id), lambda e: e.contract_id):
            ends = [event.occurred_at for event in mine if event.kind == "written_off"]
            after += bool(ends) and any(e.occurred_at > ends[0] and e.contract_id != contract_id for e in history)
    *_, (_, week) = portfolio.simulator.lives_of(0)

    assert after > 3
    assert ((week.state.phase == WRITTEN_OFF).any(axis=0) & week.state.active).any()
    assert date_of(portfolio.simulator.first_day) == portfolio.simulator.start
