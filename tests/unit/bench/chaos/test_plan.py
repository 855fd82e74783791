"""A seed always stands for the same run, and different seeds for different ones."""

from __future__ import annotations

from bench.chaos.feed import arrivals
from bench.chaos.plan import ALWAYS, FAULTS, LONG_SESSION_S, SESSION_S, Plan
from stream.settings import load_settings


def test_a_seed_repeats_its_plan_and_its_events() -> None:
    assert Plan.of(7, 300) == Plan.of(7, 300)
    assert arrivals(Plan.of(7, 300), 4) == arrivals(Plan.of(7, 300), 4)
    assert len(arrivals(Plan.of(7, 300, ["kill"]), 4)) == 300


def test_where_users_are_forgotten_tombstones_take_the_place_of_some_events() -> None:
    whole, some = (arrivals(Plan.of(7, 900, faults), 4) for faults in (["kill"], ["forgetting"]))
    tombstones = [(kind, key) for kind, key, value, _ in some if value is None]
    assert len(some) == len(whole)
    assert 10 < len(tombstones) < 60
    assert {kind for kind, _ in tombstones} == {"profiles"}
    assert {key for _, key in tombstones} <= {key for _, key, _, _ in whole}
    assert all(value is not None for _, _, value, _ in whole)


def test_seeds_cover_what_differs_between_deployments() -> None:
    plans = [Plan.of(seed, 300) for seed in range(60)]
    assert {plan.workers for plan in plans} == {1, 2, 3}
    assert {plan.on_disk for plan in plans} == {plan.standby_replicas > 0 for plan in plans} == {True, False}
    assert {plan.backlog_share > 0 for plan in plans} == {plan.late_share > 0 for plan in plans} == {True, False}
    assert {plan.topic_skew_s > 0 for plan in plans} == {True, False}


def test_settings_of_a_plan_are_settings() -> None:
    settings = load_settings(**Plan.of(3, 300, ["kill"]).settings())
    assert settings.session_timeout_s == SESSION_S
    assert not settings.watchdog
    assert load_settings(**Plan.of(3, 300, ["transaction_timeout"]).settings()).session_timeout_s == LONG_SESSION_S


def test_every_kind_of_fault_is_drawn_beside_those_that_all_have() -> None:
    plans = [Plan.of(seed, 300) for seed in range(300)]
    assert {kind for plan in plans for kind in plan.faults} == set(FAULTS)
    assert all(plan.faults[: len(ALWAYS)] == ALWAYS for plan in plans)
    assert {plan.sinks for plan in plans} == {0, 1, 2}


def test_a_plan_has_what_its_faults_need() -> None:
    for seed in range(20):
        assert Plan.of(seed, 300, ["state_full"]).on_disk
        assert Plan.of(seed, 300, ["database_slow"]).sinks
        assert Plan.of(seed, 300, ["kill", "poison"]).faults == ("kill", "poison")
        assert Plan.of(seed, 300, ["kill", "poison"]).disturbances == ("kill",)


def test_the_servers_of_somebody_else_are_left_alone() -> None:
    for seed in range(60):
        plan = Plan.of(seed, 300, owns_servers=False)
        assert not {FAULTS[kind].needs for kind in plan.faults} & {"broker", "database"}
        assert plan.sinks == 0
