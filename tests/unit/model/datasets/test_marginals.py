import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.datasets.marginals import (
    arrears_figures,
    bucket,
    contract_figures,
    marginals,
    movement_figures,
    payment_figures,
    use_figures,
)
from model.datasets.simulator import Simulator


@pytest.mark.parametrize(("days", "expected"), [(-3, 0), (0, 0), (1, 1), (30, 1), (31, 2), (60, 2), (61, 3), (500, 3)])
def test_arrears_are_counted_in_instalments(days, expected):
    assert bucket(days) == expected


def test_rolls_cures_and_relapses_are_counted_from_month_to_month():
    figures = arrears_figures([dict(enumerate((0, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0))), {5: 0, 6: 0, 8: 3}])

    assert figures["months at no arrears"] == 10 / 15
    assert figures["roll from none to arrears"] == 2 / 8
    assert figures["roll from 1 to 2 instalments"] == 1 / 3
    assert figures["cure from 1 instalment"] == 2 / 3
    assert figures["improvement from 2 instalments"] == 1.0
    assert "improvement from 3 or more" not in figures
    assert figures["accounts ever in arrears"] == 1.0
    assert figures["relapse within 6 months of a cure"] == 1.0


def test_arrears_on_some_of_several_contracts_are_counted_by_month():
    loan, card = {0: 0, 1: 1, 2: 2, 3: 0}, {0: 0, 1: 1, 2: 0, 3: 0}

    figures = contract_figures([{"loan-1": loan, "card-1": card}, {"loan-2": {1: 0, 2: 1}}])

    assert figures["contracts with a bill in a month, mean"] == pytest.approx(10 / 6)
    assert figures["months with bills of several contracts"] == pytest.approx(4 / 6)
    assert figures["of these in arrears, not on all contracts"] == 0.5
    assert figures["of these in arrears, on one contract"] == 0.5
    assert figures["cure from 1 instalment, card"] == 1.0
    assert figures["roll from none to arrears, loan"] == 1.0
    assert contract_figures([{None: loan}]) == {}


def test_nothing_to_count_gives_no_figures():
    assert arrears_figures([{}, {3: 1}]) == {}
    assert payment_figures(np.array([])) == {}
    assert use_figures([{1: 0.5}]) == {}
    assert movement_figures([(np.array([1.0, 2.0]), np.array([-1.0, -2.0]))]) == {}


@given(st.lists(st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=20), max_size=8))
def test_shares_of_months_and_of_rolls_are_shares(histories):
    figures = arrears_figures(histories)

    if figures:
        assert sum(figures[name] for name in figures if name.startswith("months at")) == pytest.approx(1.0)
        assert all(0 <= value <= 1 for name, value in figures.items() if "over the year" not in name)


def test_movements_are_counted_in_whole_months_and_spread_in_days():
    start = (dt.date(2023, 1, 1) - dt.date(1970, 1, 1)).days
    days = np.arange(start, start + 365, 2.0)
    amounts = np.where(np.arange(len(days)) % 5 == 0, 100.0, -10.0)

    figures = movement_figures([(days, amounts)])

    assert figures["movements per month, 50th percentile"] == 15.0
    assert figures["days between movements, 50th percentile"] == 2.0
    assert figures["movements on the day of the one before"] == 0.0
    assert figures["money out, standard deviation of its logarithm within an account (median)"] == pytest.approx(0.0)
    assert figures["movements that bring money in"] == pytest.approx(0.2, abs=0.01)


def test_a_source_says_what_it_has():
    figures = marginals(Simulator(users=120, months=9, seed=3))

    assert 0.7 < figures["months at no arrears"] < 0.99
    assert 0.02 < figures["without transactions"] < 0.25
    assert 0.1 < figures["missing balance_after"] < 0.35
    assert figures["payment over amount due, 50th percentile"] == pytest.approx(1.0)
