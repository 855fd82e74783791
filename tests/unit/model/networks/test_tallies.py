"""Tallies: what they hold is what its definition says of all events, summed up anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import KINDS, Kind
from model.networks.tallies import CHANNELS, LATEST, Tally, slots, with_needed

VOCABULARIES: dict[Kind, dict[str, dict[str, int]]] = {
    "repayments": {"kind": {"due": 2, "paid": 3, "missed": 4}},
    "transactions": {"category": {"groceries": 2, "cash withdrawal": 3}, "channel": {"atm": 2, "card": 3}},
    "activity": {"kind": {"session": 2, "inquiry": 3}},
    "profiles": {"employment": {"employed": 2}},
}


def tally(kind: Kind, names: tuple[str, ...] | None = None) -> Tally:
    inputs = COLUMNS[kind].numeric_inputs
    sizes = [len(VOCABULARIES[kind].get(field, {})) for field in COLUMNS[kind].categorical]
    made = Tally(kind, inputs, sizes, names or slots(kind, inputs, VOCABULARIES[kind]))
    made.learn(VOCABULARIES[kind])
    return made.double()


def histories(kind: Kind, events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of three users, a fifth missing, gaps of days."""
    random = np.random.default_rng(seed)
    inputs = COLUMNS[kind].numeric_inputs
    numeric = random.lognormal(3, 1.5, (3, events, len(inputs))) * random.choice([-1, 1], (3, events, len(inputs)))
    numeric[random.random(numeric.shape) < 0.2] = np.nan
    numeric[..., inputs.index("gap_days")] = random.exponential(10, (3, events))
    numeric[:, 0, inputs.index("gap_days")] = np.nan
    sizes = [len(VOCABULARIES[kind].get(field, {})) + FIRST_CATEGORY_CODE for field in COLUMNS[kind].categorical]
    return numeric, random.integers(0, sizes, (3, events, len(sizes)))


def counts(kind: Kind, channel: str, codes: np.ndarray) -> bool:
    """Whether an event with these codes counts for a channel, by the words of its categories."""
    words = {}
    for field, code in zip(COLUMNS[kind].categorical, codes, strict=True):
        known = {number: category for category, number in VOCABULARIES[kind].get(field, {}).items()}
        words[field] = known.get(int(code))
    chosen = CHANNELS[kind].get(channel)
    if chosen is None:
        field, _, category = channel.partition(":")
        return words[field] == category
    if chosen.field == "cash":
        return any(word is not None and ("cash" in word or "atm" in word) for word in words.values())
    return chosen.field is None or words[chosen.field] in chosen.categories


def value(kind: Kind, column: str, numeric: np.ndarray, codes: np.ndarray) -> float:
    """The value of a column, NaN where it is not known."""
    inputs = COLUMNS[kind].numeric_inputs
    if column == "one":
        return 1.0
    if column in inputs:
        return float(numeric[inputs.index(column)])
    if column.endswith("_code"):
        code = int(codes[COLUMNS[kind].categorical.index(column.removesuffix("_code"))])
        return float(code) if code else math.nan
    amount = float(numeric[inputs.index("amount")])
    if column == "used":
        balance, limit = (float(numeric[inputs.index(name)]) for name in ("balance_after", "credit_limit"))
        return float(np.clip(balance / limit, -100, 100)) if limit > 0 else math.nan
    if math.isnan(amount):
        return math.nan
    return {"inflow": max(amount, 0), "outflow": max(-amount, 0), "inflows": amount > 0, "outflows": amount < 0}[column]


def by_definition(kind: Kind, name: str, numeric: np.ndarray, codes: np.ndarray) -> float:
    """A number of the tally after all of one user's events; NaN for a latest value that is not known."""
    channel, _, what = name.rpartition("/")
    events = range(len(numeric))
    if what.startswith("lag"):
        back = len(numeric) - 1 - int(what.removeprefix("lag"))
        return math.nan if back < 0 else value(kind, channel, numeric[back], codes[back])
    chosen = CHANNELS[kind].get(channel)
    column = "one" if chosen is None else chosen.column
    told = [value(kind, column, numeric[event], codes[event]) for event in events]
    told = [
        0.0 if math.isnan(each) or not counts(kind, channel, codes[event]) else each for event, each in enumerate(told)
    ]
    gaps = np.nan_to_num(numeric[:, COLUMNS[kind].numeric_inputs.index("gap_days")])
    days_ago = gaps.sum() - gaps.cumsum()
    half_life = math.inf if what == "total" else float(what.removeprefix("max").removesuffix("d"))
    decayed = np.array(told) * 0.5 ** (days_ago / half_life)
    return float(max(0.0, decayed.max())) if what.startswith("max") else float(decayed.sum())


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_a_tally_is_what_its_definition_says(kind: Kind, seed: int, events: int) -> None:
    made = tally(kind)
    numeric, codes = histories(kind, events, seed)
    held = made.sequence(torch.from_numpy(numeric), torch.from_numpy(codes))
    found = made.features(held[:, -1], torch.zeros(3, 1, dtype=torch.float64)).numpy()
    for user in range(3):
        expected = [by_definition(kind, name, numeric[user], codes[user]) for name in made.names]
        np.testing.assert_allclose(found[user, : len(expected)], expected, rtol=1e-6, atol=1e-6)  # rates are float32


@pytest.mark.parametrize("kind", KINDS)
def test_sums_go_on_decaying_with_age_and_latest_values_do_not(kind: Kind) -> None:
    made = tally(kind)
    numeric, codes = histories(kind, 5, 1)
    held = made.sequence(torch.from_numpy(numeric), torch.from_numpy(codes))[:, -1]
    now, later = (
        dict(zip(made.feature_names, made.features(held, torch.full((3, 1), age, dtype=torch.float64)).T, strict=True))
        for age in (0.0, 30.0)
    )
    for name in made.names:
        what = name.rpartition("/")[2]
        factor = 0.5 ** (30.0 / float(what.strip("maxd"))) if what.endswith("d") else 1.0
        torch.testing.assert_close(
            later[f"{kind}.{name}"], now[f"{kind}.{name}"] * factor, rtol=1e-6, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_without_events_is_missing_and_not_zero(kind: Kind) -> None:
    made = tally(kind)
    nothing = made.features(torch.zeros(2, made.width, dtype=torch.float64), torch.full((2, 1), -1.0).double())
    assert nothing.shape == (2, len(made.feature_names))
    assert nothing.isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_numbers_are_the_same_numbers(kind: Kind) -> None:
    """What a narrow tally holds does not depend on what else is tallied."""
    whole = tally(kind)
    for features in (whole.feature_names[::3], whole.feature_names[-2:], whole.feature_names[:1]):
        narrow = tally(kind, whole.needed_for(features))
        assert set(features) <= set(narrow.feature_names)
        numeric, codes = (torch.from_numpy(each) for each in histories(kind, 7, 2))
        age = torch.full((3, 1), 4.0, dtype=torch.float64)
        wide = whole.features(whole.sequence(numeric, codes)[:, -1], age)
        found = narrow.features(narrow.sequence(numeric, codes)[:, -1], age)
        at = [whole.feature_names.index(name) for name in narrow.feature_names]
        torch.testing.assert_close(found, wide[:, at], equal_nan=True)


def test_latest_values_are_divided_event_by_event() -> None:
    made = tally("transactions")
    numeric, codes = histories("transactions", 4, 5)
    held = made.sequence(torch.from_numpy(numeric), torch.from_numpy(codes))[:, -1]
    found = dict(
        zip(made.feature_names, made.features(held, torch.zeros(3, 1, dtype=torch.float64)).numpy().T, strict=True)
    )
    inputs = COLUMNS["transactions"].numeric_inputs
    balance, limit = (numeric[..., inputs.index(name)] for name in ("balance_after", "credit_limit"))
    for back in range(6):
        # A limit has one latest value, which all balances are divided by.
        expected = balance[:, -1 - back] / limit[:, -1] if back < 4 else np.full(3, np.nan)
        quotient = found[f"transactions.balance_after/lag{back} : credit_limit/lag0"]
        np.testing.assert_allclose(quotient, expected, rtol=1e-6)
    repaid = tally("repayments").feature_names
    assert "repayments.amount_paid/lag5 : amount_due/lag5" in repaid


def test_a_latest_value_needs_those_before_it() -> None:
    assert with_needed(["balance/lag2", "due/30d", "late_days/max90d"]) == (
        "due/30d",
        "late_days/max90d",
        "balance/lag0",
        "balance/lag1",
        "balance/lag2",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_that_is_named_exists(kind: Kind) -> None:
    names = slots(kind, COLUMNS[kind].numeric_inputs, VOCABULARIES[kind])
    assert {f"{channel}/30d" for channel in CHANNELS[kind] if channel != "gap_days"} <= set(names)
    assert {name.rpartition("/")[0] for name in names if "lag" in name} <= set(LATEST[kind])


def test_a_field_with_too_many_categories_is_not_counted(make_many: Callable[[int], dict[str, int]]) -> None:
    inputs = COLUMNS["transactions"].numeric_inputs
    few, many = (slots("transactions", inputs, {"category": make_many(number)}) for number in (16, 17))
    assert sum(name.startswith("category:") for name in few) == 32
    assert not any(name.startswith("category:") for name in many)


@pytest.fixture
def make_many() -> Callable[[int], dict[str, int]]:
    return lambda number: {f"category {each}": each + FIRST_CATEGORY_CODE for each in range(number)}
