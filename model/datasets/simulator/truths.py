"""Truths: figures of the latent process, such as how many declines have an early sign and how many look-alikes are
harmless. For docs/simulator.md; never an input to a model. The names of the figures are keys of docs/simulator.json and
stay, where "onset" is the default date.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from model.datasets.simulator import BLOCK_USERS, Simulator
from model.datasets.simulator import state as states
from model.datasets.simulator.accounts import DELINQUENCY_DAYS
from model.datasets.simulator.behaviour import visible_stress
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.state import NEVER, State, Week
from model.datasets.simulator.terms import CARD, Terms

SIGN_WEEKS = 8
"""How long before the first missed due date an early sign, or arrears, count."""
SIGN = 0.5
"""Visible stress that counts as a sign: half of the final stress of a moderate slide."""
LOOK_ALIKE_DAYS = 180


def truths(simulator: Simulator) -> dict[str, float]:
    """The figures of a portfolio, by name. Shares are of one."""
    tallies: Counter[str] = Counter()
    for block in range(-(-simulator.users // BLOCK_USERS)):
        _count_block(simulator, block, tallies)
    months = tallies["weeks"] * 7 / 30.44
    tallies["contract years"] = round(tallies["open contracts"] * 7 / 365.25)
    figures = {
        "borrowers reaching 60 days past due per month at risk": tallies["onsets"] / months,
        "onsets without early sign": tallies["onsets without sign"] / max(tallies["judged onsets"], 1),
        "onsets without a slide, a shock or a cash-out": tallies["quiet onsets"] / max(tallies["onsets"], 1),
        "declines that end without onset": 1 - tallies["onsets of declines"] / max(tallies["declines"], 1),
        "borrowers with relief granted": tallies["relieved"] / simulator.users,
        "weeks with a strained economy": float((simulator.strain_by_week() > 0.5).mean()),
        "borrowers who join after the start": tallies["joined"] / simulator.users,
        "borrowers who pay off and leave per year": tallies["left"] / (tallies["weeks"] / 52),
        "borrowers whose lender tells of payments late": tallies["told late"] / simulator.users,
        "borrowers with movements told twice": tallies["told twice"] / simulator.users,
    }
    figures |= {
        name: tallies[part] / max(tallies[whole], 1)
        for name, part, whole in (
            ("open contracts per borrower", "open contracts", "borrower weeks"),
            ("contracts that begin per open contract and year", "opened", "contract years"),
            ("contracts that end per open contract and year", "closed", "contract years"),
            ("contracts that are written off per open contract and year", "written off", "contract years"),
            ("loans past due, of borrowers with a loan and a card", "late loans", "loans"),
            ("cards past due, of borrowers with a loan and a card", "late cards", "cards"),
            ("past due on the last contract alone, over on the first alone", "last alone", "first alone"),
        )
    }
    for name in (*states.EPISODE_NAMES.values(), "relief"):
        seen = tallies[f"{name} seen"]
        if seen:
            figures[f"no onset within {LOOK_ALIKE_DAYS} days of {name}"] = 1 - tallies[f"{name} onset"] / seen
    return figures


def _count_block(simulator: Simulator, block: int, tallies: Counter[str]) -> None:
    """Adds a block's borrowers to the tallies; those beyond the portfolio's number are left out."""
    traits, number = simulator.traits_of(block), min(BLOCK_USERS, simulator.users - block * BLOCK_USERS)
    shown, late, began, relieved, active, stories = [], [], [], [], [], []
    state = None
    for before, week in simulator.lives_of(block):
        state = week.state
        _count_contracts(traits.terms.take(np.arange(number)), before.take(np.arange(number)), week, tallies)
        at_risk = before.active & (before.defaulted_day == NEVER)
        shown.append(np.where(at_risk, visible_stress(traits, week), 0.0)[:number])
        late.append((at_risk & in_arrears(before, traits.terms.bill_dom, week).any(axis=0))[:number])
        begins = at_risk & (state.episode_weeks == states.EPISODE_WEEKS)
        began.append(np.where(begins, state.episode, 0)[:number])
        relieved.append((at_risk & (state.holiday > before.holiday).any(axis=0))[:number])
        active.append(at_risk[:number])
        stories.append((at_risk & (before.story == states.STABLE) & (state.story != states.STABLE))[:number])
    assert state is not None
    weeks = np.array(active)
    defaulted_day = state.defaulted_day[:number]
    came = (defaulted_day != NEVER) & weeks.any(axis=0)
    defaulted_week = np.where(came, (defaulted_day - simulator.first_day) // 7, -1)
    declined = np.array(stories).any(axis=0)
    tallies["weeks"] += int(weeks.sum())
    tallies["onsets"] += int(came.sum())
    tallies["quiet onsets"] += int((came & (state.story[:number] == states.STABLE)).sum())
    tallies["declines"] += int(declined.sum())
    tallies["onsets of declines"] += int((declined & came).sum())
    tallies["joined"] += int((traits.join_share[:number] > 0).sum())
    tallies["left"] += int(((state.ended_day[:number] != NEVER) & ~came & weeks.any(axis=0)).sum())
    tallies["told late"] += int((traits.report_lag_days[:number] > 0).sum())
    tallies["told twice"] += int(traits.two_feeds[:number].sum())
    tallies["relieved"] += int(np.array(relieved).any(axis=0).sum())
    _count_signs(np.array(shown), np.array(late), defaulted_week, tallies)
    for episode, name in states.EPISODE_NAMES.items():
        _count_followed(np.array(began) == episode, defaulted_week, name, tallies)
    _count_followed(np.array(relieved), defaulted_week, "relief", tallies)


def _count_contracts(terms: Terms, before: State, week: Week, tallies: Counter[str]) -> None:
    """A week of open contracts, and how the first and the last in a borrower's order of preference stand."""
    users = np.arange(len(before.active))
    week = week.take(users)
    is_open, late = week.running, in_arrears(before, terms.bill_dom, week)
    tallies["open contracts"] += int(is_open.sum())
    tallies["borrower weeks"] += int(is_open.any(axis=0).sum())
    tallies["opened"] += int(week.opened.sum())
    tallies["closed"] += int(week.closed.sum())
    tallies["written off"] += int((week.written_off_days >= 0).sum())
    loans, cards = is_open & ~terms.revolving, is_open & (terms.product == CARD)
    both = loans.any(axis=0) & cards.any(axis=0)
    for name, kind in (("loans", loans), ("cards", cards)):
        tallies[name] += int((kind & both).sum())
        tallies[f"late {name}"] += int((kind & both & late).sum())
    first, last = is_open.argmax(axis=0), len(is_open) - 1 - is_open[::-1].argmax(axis=0)
    tallies["first alone"] += int((late[first, users] & ~late[last, users]).sum())
    tallies["last alone"] += int((late[last, users] & ~late[first, users]).sum())


def in_arrears(state: State, bill_dom: Ints, week: Week) -> Flags:
    """Which contracts are past due as the week begins, `[CONTRACTS, n]`."""
    due = week.calendar.due_day(state.bill_month - state.unpaid + 1, bill_dom)
    flags: Flags = week.running & (state.unpaid > 0) & (due < week.calendar.first_day)
    return flags


def _count_signs(shown: Floats, late: Flags, defaulted_week: Ints, tallies: Counter[str]) -> None:
    """Defaults whose arrears began without visible stress or earlier arrears; `shown` and `late` are `[weeks, n]`."""
    first_miss = defaulted_week - -(-DELINQUENCY_DAYS // 7)
    for row in np.flatnonzero(first_miss >= SIGN_WEEKS):
        before = slice(first_miss[row] - SIGN_WEEKS, first_miss[row])
        tallies["judged onsets"] += 1
        tallies["onsets without sign"] += not (shown[before, row].max() >= SIGN or late[before, row].any())


def _count_followed(began: Flags, defaulted_week: Ints, name: str, tallies: Counter[str]) -> None:
    """Beginnings `[weeks, n]` early enough to be judged, and those with a default within `LOOK_ALIKE_DAYS`."""
    within = LOOK_ALIKE_DAYS // 7
    when, row = np.nonzero(began[: max(len(began) - within, 0)])
    tallies[f"{name} seen"] += len(row)
    tallies[f"{name} onset"] += int(((defaulted_week[row] >= when) & (defaulted_week[row] <= when + within)).sum())
