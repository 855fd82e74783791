"""Events to measure on: as many as asked for, in order, and none that a worker would refuse."""

from __future__ import annotations

import time

import pytest

from bench.arena import Lap, launch, spread
from bench.overload import Flood, Moment, figures_of, medians_of, rate
from bench.workload import Stream, Workload, user_id


@pytest.mark.parametrize(("events", "users"), [(1, 1), (300, 3), (2_000, 200)])
def test_as_many_as_asked_for_in_order(events: int, users: int) -> None:
    workload = Workload.simulated(events, users)
    assert len(workload) == events
    times_ms = [time_ms for *_, time_ms in workload.records]
    assert times_ms == sorted(times_ms)
    assert len({key for _, key, _, _ in workload.records}) <= users == workload.users
    assert workload.records == Workload.simulated(events, users).records


def test_no_event_is_from_the_future() -> None:
    workload = Workload.simulated(3_000, 1)
    assert len(workload) == 3_000
    assert workload.users > 1
    assert workload.records[-1][3] < time.time() * 1000


def test_a_stream_gives_each_user_events_of_its_own() -> None:
    stream = Stream(4, templates=64)
    names = [user_id(number) for number in range(50)] * 4
    taken = stream.take(names) + stream.take(names)
    assert [item.event.user_id for item in taken] == names * 2
    assert len({item.event.event_id for item in taken}) == len(taken)
    offsets = [item.offset for item in taken]
    assert offsets == sorted(set(offsets))
    assert len({item.kind for item in taken}) == 4
    by_user = {item.key: item.partition for item in taken}
    assert all(by_user[item.key] == item.partition for item in taken)
    assert set(by_user.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("values", "median"), [([3.0], 3.0), ([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5)])
def test_spread(values: list[float], median: float) -> None:
    assert spread(values) == {"median": median, "min": min(values), "max": max(values)}


def test_a_lap_of_no_length_is_no_division_by_zero() -> None:
    lap = Lap(records=10, span_s=0.0, complete=True, cpu_s_per_million=None, rss_mib=1.0)
    assert lap.events_per_second == 10_000


def test_rate_of_moments() -> None:
    moments = [Moment(1.0, 0, 100, 1.0), Moment(2.0, 0, 150, 1.0), Moment(3.0, 0, 300, 1.0)]
    assert rate(moments) == 100.0
    assert rate(moments[:1]) == 0.0


def test_another_python_runs_a_module_of_this_tree() -> None:
    command = launch("python", "bench.contenders.limit", "task")
    assert (command[0], command[1], command[3]) == ("python", "-c", "task")
    compile(command[2], "launch", "exec")


def test_overload_is_judged_from_the_first_event_offered_to_the_last() -> None:
    # Two seconds of preparing, four of 100 events/s of which 60 are scored, four of catching up.
    offered = [0, 0, 0, 100, 200, 300, 400, 400, 400, 400, 400]
    scored = [0, 0, 0, 60, 120, 180, 240, 280, 320, 360, 400]
    moments = [Moment(float(at), *both, 100.0 + at) for at, both in enumerate(zip(offered, scored, strict=True))]
    figures = figures_of(moments, Flood(400, 2.0, 6.0), alone=80.0, beside=60.0)
    assert figures["offered_events_per_second"] == 100.0
    assert figures["overloaded_events_per_second"] == 60.0
    assert figures["throughput_kept"] == 0.75
    assert figures["throughput_kept_beside_publisher"] == 1.0
    assert figures["catching_up_events_per_second"] == 40.0
    assert figures["greatest_lag_events"] == 160
    assert figures["caught_up_after_s"] == 4.0
    assert figures["samples"][2][:3] == [0.0, 0, 0]
    assert figures_of(moments, Flood(400, 2.0, 6.0), alone=80.0, beside=0.0)["throughput_kept_beside_publisher"] is None


def test_overload_takes_the_median_of_the_rounds() -> None:
    rounds = [{"kept": 0.5, "beside": None, "samples": [1]}, {"kept": 0.9, "beside": 0.7, "samples": [2]}]
    assert medians_of([*rounds, {"kept": 0.8, "beside": None, "samples": [3]}]) == {
        "kept": 0.8,
        "beside": 0.7,
        "samples": [3],
    }
