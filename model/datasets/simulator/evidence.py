"""Evidence: likelihoods of a week's events given a latent state, for `belief`. Uses the rates of `life` and `behaviour`
themselves, so that it cannot differ from the process that makes the events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.datasets.simulator import accounts, behaviour
from model.datasets.simulator import state as states
from model.datasets.simulator.accounts import DELAY_SPREAD_DAYS, LATEST_DELAY_DAYS, own_shares
from model.datasets.simulator.behaviour import CATEGORIES, CATEGORY_TABLE, Surface
from model.datasets.simulator.calendar import NOTICE_DAYS, Calendar
from model.datasets.simulator.columns import CONTRACTS, Flags, Floats, Ints
from model.datasets.simulator.drafts import DAY_S, Draft
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import NEVER, Mind, State, Week

_TRANSACTIONS, _ACTIVITY = 1, 2
_CODE = {name: code for code, name in enumerate(CATEGORIES)}
_SPENT = CATEGORY_TABLE.max() + 1
_MODE_SHARES = np.stack([np.bincount(row, minlength=_SPENT) / len(row) for row in CATEGORY_TABLE])
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_ACTIVITIES = {name: place for place, name in enumerate(behaviour.ACTIVITIES)}
_NEVER_HAPPENS = 1e-6


class Seen(NamedTuple):
    """Visible behaviour of borrowers in a week, arrays `[n]` unless stated."""

    open: Flags  # movements can be seen: the feed works
    elsewhere: Flags
    moves: Ints  # movements out
    by_category: Floats  # of those with a category, [n, categories]
    payday: Ints  # day of the month
    paid: Flags
    benefit: Flags
    used: Floats  # of the line, NaN where unknown
    used_before: Floats
    acts: Ints  # sessions, inquiries, changes of device, [3, n]
    repeats: Floats  # of sessions, in all
    log_seconds: Floats  # of timed sessions, in all
    timed: Ints
    days: Ints  # the last day seen, 0 to 6


def seen_in(
    drafts: list[Draft], surface: Surface, line: Flags, rows: Ints, used_before: Floats, first_day: int, days: Ints
) -> Seen:
    """Visible behaviour of the borrowers at `rows` of a block by the end of `days` (0 to 6) of the week that begins on
    `first_day`; `surface` as it was when the drafts were made, `line` whether the line can be used, of the whole block,
    and `used_before` the use of the line a week earlier."""
    place = np.full(len(surface.income), -1)
    place[rows] = np.arange(len(rows))
    count = len(rows)
    moves, by_category = np.zeros(count, np.int64), np.zeros((count, _SPENT))
    paid, benefit, told = (np.zeros(count, np.bool_) for _ in range(3))
    transactions, activity = drafts[_TRANSACTIONS], drafts[_ACTIVITY]
    last_s = np.full(len(place), -1)
    last_s[rows] = (first_day + days + 1) * DAY_S
    chosen = np.flatnonzero(transactions.time_s < last_s[transactions.user])
    amounts, categories = transactions.fields[0], transactions.fields[1]
    for row in chosen.tolist():
        user, category = place[transactions.user[row]], categories[row]
        told[user] = True
        if amounts[row] < 0:
            moves[user] += 1
            if category is not None:
                by_category[user, _CODE[category]] += 1
        elif category != "tax_refund":
            paid[user] = True
            benefit[user] |= category == "benefit"
    acts = np.zeros((3, count), np.int64)
    repeats, log_seconds, timed = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    kinds, times, seconds = activity.fields
    for row in np.flatnonzero(activity.time_s < last_s[activity.user]).tolist():
        user, kind = place[activity.user[row]], _ACTIVITIES[kinds[row]]
        acts[kind, user] += 1
        if kind == 0:
            repeats[user] += times[row] - 1
            if seconds[row]:
                log_seconds[user] += np.log(seconds[row])
                timed[user] += 1
    return Seen(
        open=surface.outage_weeks[rows] == 0,
        elsewhere=surface.elsewhere[rows],
        moves=moves,
        by_category=by_category,
        payday=surface.payday_dom[rows],
        paid=paid,
        benefit=benefit,
        used=np.where(told & line[rows], surface.utilisation[rows], np.nan),
        used_before=used_before,
        days=days,
        acts=acts,
        repeats=repeats,
        log_seconds=log_seconds,
        timed=timed,
    )


@dataclass
class Known:
    """What is known of each contract's latest bill while it may still be paid as intended; `forget` and `take_up`
    change it in place.

    `due_day` `[CONTRACTS, n]` is `NEVER` unless a bill without arrears is open; `means` and `stress` `[CONTRACTS,
    particles]` are the probability that its payment is intended, given that it has not been made, and the stress when
    the bill came.
    """

    due_day: Ints
    means: Floats
    stress: Floats

    @classmethod
    def nothing(cls, users: int, particles: int) -> Known:
        of_each = (CONTRACTS, particles)
        return cls(np.full((CONTRACTS, users), NEVER), np.zeros(of_each), np.zeros(of_each))

    def forget(self, users: Flags, rows: Flags) -> None:
        self.due_day[:, users] = NEVER
        self.means[:, rows] = 0.0

    def take_up(self, before: State, calendar: Calendar, habits: Traits, mind: State) -> None:
        """Begin with bills that were sent before the first week."""
        due = calendar.due_day(before.bill_month, habits.terms.bill_dom)
        is_open = (before.phase == states.OPEN) & (before.unpaid == 1) & (due + LATEST_DELAY_DAYS >= calendar.first_day)
        self.due_day[:] = np.where(is_open, due, NEVER)
        self.means[:] = (mind.pay_day != NEVER) | (mind.unpaid == 0)
        self.stress[:] = mind.stress

    def take(self, users: Ints, rows: Ints) -> Known:
        """What is known of some borrowers, by the particles at `rows`."""
        return Known(self.due_day[:, users], self.means[:, rows], self.stress[:, rows])

    def pay_days(self, traits: Traits, users: Ints, rows: Ints, first_day: Ints, rng: np.random.Generator) -> Ints:
        """Days on which futures pay the latest bill as intended, from `first_day` `[n]` on; `NEVER` for the others."""
        due = self.due_day[:, users]
        mean = accounts.usual_delay_days(traits, self.stress[:, rows])
        delay = np.full(due.shape, -NOTICE_DAYS, dtype=np.int64)
        for _ in range(20):
            early = due + delay < first_day
            drawn = np.rint(mean + DELAY_SPREAD_DAYS * rng.standard_normal(due.shape))
            delay = np.where(early, np.clip(drawn, 1 - NOTICE_DAYS, LATEST_DELAY_DAYS).astype(np.int64), delay)
        day = np.maximum(due + delay, first_day)
        means = (due != NEVER) & (rng.random(due.shape) < self.means[:, rows])
        return np.where(means, day, NEVER)


def account_likelihood(
    traits: Traits, before: State, week: Week, days: Ints, stress: Floats, cash: Floats, known: Known, strain: Floats
) -> tuple[Floats, Known]:
    """Likelihood per particle, `[n × particles]`, of the payments of the week by the end of `days` on all contracts,
    and what is known of their latest bills then.

    `traits`, `stress` and `cash` are per particle, the rest per borrower; `before` is the account at the start of the
    week. Given stress and cash, what is paid on a contract does not depend on the others: the likelihood is a product.
    """
    particles = len(stress) // len(before.active)

    def each(values: Floats | Ints | Flags) -> Floats:
        return np.repeat(values, particles, axis=-1)

    calendar, first_day = week.calendar, week.calendar.first_day
    bill_dom, running = traits.terms.bill_dom[:, ::particles], week.running
    paid_first = each(week.paid_first)
    billed = (week.bill_offset >= 0) & (week.bill_offset <= days)
    acts = (week.pay_offset >= 0) & (week.pay_offset <= days)
    pays, restructured = acts & ~week.restructured, acts & week.restructured
    unpaid = before.unpaid + (week.reversed_no >= 0)
    opens = billed & (unpaid == 0)
    due_day = calendar.due_day(week.state.bill_month, bill_dom)
    due_day = np.where(opens, due_day, np.where(billed, NEVER, known.due_day))
    is_open = each(due_day != NEVER).astype(np.bool_)
    when_billed = np.where(each(opens), stress, known.stress)
    missing = accounts.miss_rate(traits, stress, cash, paid_first)
    means = np.where(each(opens), 1 - missing, np.where(each(billed), 0.0, known.means))

    oldest = calendar.due_day(before.bill_month - unpaid + 1, bill_dom)
    late = running & (before.unpaid > 0) & (oldest < first_day)
    late_days = each(first_day - oldest).astype(np.int64)
    rate = accounts.catch_up_rate(traits, calendar, stress, cash, paid_first, late_days)
    rate = np.where(each(late), rate, 0.0)
    no_plan = np.where(each(pays), rate / 7, 1 - rate * each(days + 1) / 7)

    mean = accounts.usual_delay_days(traits, when_billed)
    elapsed = each(first_day - due_day)
    then = each(first_day + week.pay_offset - due_day)
    left = np.maximum(_later(elapsed - 1, mean), 1e-12)
    plan = np.where(each(pays), _later(then - 1, mean) - _later(then, mean), _later(elapsed + each(days), mean)) / left
    as_meant = means * np.minimum(plan, 1.0)
    either = np.maximum(as_meant + (1 - means) * no_plan, 1e-12)
    likelihood = np.where(is_open, either, no_plan)
    means = np.where(is_open & ~each(pays).astype(np.bool_), as_meant / either, 0.0)
    after = Known(np.where(acts, NEVER, due_day), means, when_billed)

    catches_up = late & pays & (due_day == NEVER)
    likelihood *= np.where(each(catches_up), _settles(traits, before, week, stress, each), 1.0)
    calm = np.where(stress < 0.5, accounts.EXTRA_RATE, _NEVER_HAPPENS)
    likelihood *= np.where(each(pays & (week.pay_count > 0)), np.where(each(week.pay_extra > 0), calm, 1 - calm), 1.0)
    may_ask = running & (unpaid == 0) & (known.due_day == NEVER) & (before.holiday == 0)
    offered = accounts.OFFER_RATE * behaviour.is_december(calendar) + _NEVER_HAPPENS
    asks = each(own_shares(week.paid_first)) * np.maximum(accounts.ask_rate(stress, strain), offered)
    likelihood *= np.where(each(may_ask), np.where(each(week.state.holiday > 0), asks, 1 - asks), 1.0)
    return np.where(each(restructured | ~running), 1.0, likelihood).prod(axis=0), after


def _settles(
    traits: Traits, before: State, week: Week, stress: Floats, each: Callable[[Floats | Ints | Flags], Floats]
) -> Floats:
    """Likelihood of how much a payment on arrears settles."""
    one = accounts.one_only_share(traits, stress)
    settles = each(week.pay_count)
    open_then = each(
        week.state.unpaid + week.pay_count - ((week.bill_offset >= 0) & (week.bill_offset > week.pay_offset))
    )
    parts = np.where(each(before.part) < 0.6, accounts.PART_SHARE, 0.0)
    whole = np.where(open_then > 1, one * (1 - parts), 1 - one * parts)
    likelihood: Floats = np.maximum(
        np.select([settles == 0, settles == 1], [one * parts, whole], 1 - one), _NEVER_HAPPENS
    )
    return likelihood


def _later(days: Floats, mean: Floats) -> Floats:
    """Probability that an intended payment comes more than so many days after the due date."""
    later = 1 - _normal_share((days + 0.5 - mean) / DELAY_SPREAD_DAYS)
    return np.where(days < 1 - NOTICE_DAYS, 1.0, np.where(days >= LATEST_DELAY_DAYS, 0.0, later))


def _normal_share(values: Floats) -> Floats:
    """The normal distribution function, within 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(values))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * values**2) / np.sqrt(2 * np.pi) * series
    share: Floats = np.where(values > 0, 1 - tail, tail)
    return share


def behaviour_log_likelihood(traits: Traits, before: State, week: Week, mind: Mind, seen: Seen, rows: Ints) -> Floats:
    """Logarithm of the likelihood of a week's behaviour per particle, `[n × particles]`; `rows` are their borrowers.

    A one-off cash purchase is treated as known.
    """
    calendar = week.calendar
    purchase = (week.state.episode == states.CASH_PURCHASE) & (week.state.episode_weeks == states.EPISODE_WEEKS)
    hidden = mind.regime == states.NO_SIGN
    shown = np.where(hidden, 0.0, traits.visibility * np.maximum(mind.stress, 0.0))
    december = behaviour.is_december(calendar)
    open_feed = (seen.open & before.active)[rows] & traits.has_transactions
    spending = _spending(traits, mind, seen, shown, december, rows) + _use(traits, mind, seen, shown, december, rows)
    spending = np.where(purchase[rows], 0.0, spending) + _income(traits, calendar, mind, seen, rows)
    acting = before.active[rows] & traits.has_activity
    return np.where(open_feed, spending, 0.0) + np.where(acting, _acts(traits, mind, seen, shown, december, rows), 0.0)


def _spending(traits: Traits, mind: Mind, seen: Seen, shown: Floats, december: bool, rows: Ints) -> Floats:
    """Log-likelihood of the number of movements and of their categories."""
    rate = behaviour.spending_rate(traits, mind.regime, mind.episode, shown, december)
    rate = rate * (np.where(seen.elsewhere, behaviour.ELSEWHERE_SHARE, 1.0) * (seen.days + 1) / 7)[rows]
    spread = behaviour.WEEKLY_SPREAD
    of_node = np.exp(spread * _NODES - 0.5 * spread**2)
    moves = np.where(traits.two_feeds, seen.moves[rows] // 2, seen.moves[rows])
    likelihood = np.zeros(len(rows))
    for node, weight in zip(of_node, _NODE_WEIGHTS / _NODE_WEIGHTS.sum(), strict=True):
        likelihood += weight * np.exp(-rate * node) * (rate * node) ** moves
    stressed = behaviour.stressed_share(traits, shown)
    first = np.where(mind.regime == states.CASH_OUT, behaviour.CASHING_SHARE, 0.0)
    second = np.where(mind.episode == states.MOVING, behaviour.MOVING_SHARE, 0.0) * (first == 0)
    rest = (1 - first - second) * (1 - stressed)
    festive = np.where(traits.festive & december, behaviour.FESTIVE_SHARE, 0.0) * (first + second == 0)
    shares = np.stack(
        (rest * (1 - festive), (1 - first - second) * stressed, first, second, rest * festive)
    )  # in the order of the modes
    told = np.log(np.maximum(np.einsum("mn,mc->nc", shares, _MODE_SHARES), _NEVER_HAPPENS))
    kinds: Floats = (told * seen.by_category[rows]).sum(axis=1)
    return kinds + np.log(np.maximum(likelihood, 1e-300))


def _use(traits: Traits, mind: Mind, seen: Seen, shown: Floats, december: bool, rows: Ints) -> Floats:
    """Log-likelihood of the change of the use of the line, where it is known before and after and is at neither
    limit."""
    pull, target = behaviour.utilisation_pull(traits, mind.regime, mind.episode, shown, december)
    used, earlier = seen.used[rows], seen.used_before[rows]
    spread = behaviour.unsteadiness(traits)
    inside = (used > 0) & (used < 1.08) & (traits.credit_limit > 0)
    off = np.where(inside, used - earlier - pull * (target - earlier), 0.0) / spread
    density = (1 - behaviour.JUMP_RATE) * np.exp(-0.5 * off**2) / (spread * np.sqrt(2 * np.pi)) + behaviour.JUMP_RATE
    return np.where(inside & ~np.isnan(off), np.log(np.where(np.isnan(off), 1.0, density)), 0.0)


def _income(traits: Traits, calendar: Calendar, mind: Mind, seen: Seen, rows: Ints) -> Floats:
    """Log-likelihood of a salary, a benefit or neither on the day of the salary."""
    comes, from_state = behaviour.pay_rate(traits, mind.regime)
    since = states.EPISODE_WEEKS - mind.episode_weeks
    silent = np.where(mind.episode == states.INCOME_SWITCH, np.clip((6 - since) / 4, 0.0, 1.0), 0.0)
    comes = comes * (1 - silent)
    paid, benefit = seen.paid[rows], seen.benefit[rows]
    likelihood = np.where(paid, comes * np.where(benefit, from_state, 1 - from_state), 1 - comes)
    offset = calendar.offset_of_dom[seen.payday]
    on_day = ((offset >= 0) & (offset <= seen.days) & ~seen.elsewhere)[rows]
    return np.where(on_day, np.log(np.maximum(likelihood, _NEVER_HAPPENS)), 0.0)


def _acts(traits: Traits, mind: Mind, seen: Seen, shown: Floats, december: bool, rows: Ints) -> Floats:
    """Log-likelihood of sessions, inquiries and changes of device, and of the sessions' repeats and durations."""
    rates = behaviour.activity_rates(traits, mind.regime, mind.episode, shown, december)
    rates = rates * ((seen.days + 1) / 7)[rows]
    acts = seen.acts[:, rows]
    total: Floats = (acts * np.log(np.maximum(rates, 1e-9)) - rates).sum(axis=0)
    mean = behaviour.usual_repeats(shown)
    total += -seen.repeats[rows] / mean + acts[0] * np.log1p(-np.exp(-1 / mean))
    usual = behaviour.usual_log_duration(shown)
    return (
        total + (usual * seen.log_seconds[rows] - 0.5 * seen.timed[rows] * usual**2) / behaviour.LOG_DURATION_SPREAD**2
    )
