import pytest

from model.datasets.simulator import Simulator
from model.datasets.simulator.truths import truths


def test_the_truth_holds_what_makes_the_portfolio_hard():
    figures = truths(Simulator(users=1_024, months=18, seed=33))

    assert 0.004 < figures["borrowers reaching 60 days past due per month at risk"] < 0.025
    assert 0.05 < figures["onsets without early sign"] < 0.4
    assert 0.4 < figures["declines that end without onset"] < 0.75
    assert figures["no onset within 180 days of moving_house"] > 0.8
    assert 1.4 < figures["open contracts per borrower"] < 2.6
    ratio = figures["cards past due, of borrowers with a loan and a card"]
    assert ratio > 1.15 * figures["loans past due, of borrowers with a loan and a card"]
    assert figures["past due on the last contract alone, over on the first alone"] > 2
    several = ("open contracts per borrower", "past due on the last contract alone, over on the first alone")
    assert all(0 <= value <= 1 for name, value in figures.items() if name not in several)


def test_defaults_are_those_of_the_outcomes():
    simulator = Simulator(users=300, months=12, seed=4)
    outcomes = simulator.outcomes().values()
    came = sum(outcome.default_date_ms is not None for outcome in outcomes)
    observed_days = (
        sum((o.default_date_ms or o.observation_end_ms) for o in outcomes) / 86_400_000 - 300 * simulator.first_day
    )

    rate = truths(simulator)["borrowers reaching 60 days past due per month at risk"]

    # Those who join later are observed from the start here; the truth counts them from when they join.
    assert rate >= came / (observed_days / 30.44)
    assert rate == pytest.approx(came / (observed_days / 30.44), rel=0.35)
