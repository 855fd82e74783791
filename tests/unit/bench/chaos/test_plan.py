"""A seed always stands for the same run, and different seeds for different ones."""

from __future__ import annotations

from bench.chaos.feed import arrivals
from bench.chaos.plan import SESSION_S, Plan
from stream.settings import load_settings


def test_a_seed_repeats_its_plan_and_its_events() -> None:
    assert Plan.of(7, 300) == Plan.of(7, 300)
    assert arrivals(Plan.of(7, 300)) == arrivals(Plan.of(7, 300))
    assert len(arrivals(Plan.of(7, 300))) == 300


def test_seeds_cover_what_differs_between_deployments() -> None:
    plans = [Plan.of(seed, 300) for seed in range(60)]
    assert {plan.workers for plan in plans} == {1, 2, 3}
    assert {plan.on_disk for plan in plans} == {plan.standby_replicas > 0 for plan in plans} == {True, False}
    assert {plan.backlog_share > 0 for plan in plans} == {plan.late_share > 0 for plan in plans} == {True, False}
    assert {plan.topic_skew_s > 0 for plan in plans} == {True, False}


def test_settings_of_a_plan_are_settings() -> None:
    settings = load_settings(**Plan.of(3, 300).settings())
    assert settings.session_timeout_s == SESSION_S
    assert not settings.watchdog
