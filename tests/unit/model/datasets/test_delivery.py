"""Events as a producer sends them: the same from every source, in order unless late and repeated ones are asked for."""

from __future__ import annotations

from collections import Counter

from events.types import keyed
from model.datasets.delivery import arrivals_of, keyed_events_of
from model.datasets.simulator import Simulator
from model.datasets.sources import open_dataset


def test_the_simulator_s_fast_way_gives_the_same_records() -> None:
    dataset = open_dataset("simulator", users=15, months=3, seed=4)
    assert list(keyed_events_of(dataset)) == list(keyed(dataset.events()))


def test_arrivals_are_the_simulator_s_own_and_in_order_unless_asked_for() -> None:
    dataset = Simulator(users=30, months=3, seed=4)
    assert list(arrivals_of(dataset, 0.02, 0.005, 4)) == list(dataset.arrivals())
    assert list(arrivals_of(dataset, 0.0, 0.0, 4)) == list(keyed_events_of(dataset))


def test_any_source_may_arrive_late_and_twice() -> None:
    class Plain:
        """The same events from what is no simulator."""

        def __init__(self) -> None:
            self.events = Simulator(users=30, months=3, seed=4).events

    in_order, arrived = list(keyed(Plain().events())), list(arrivals_of(Plain(), 0.1, 0.1, 1))  # type: ignore[arg-type]
    count = Counter(arrived)
    assert count.keys() == set(in_order)
    assert set(count.values()) == {1, 2}
    assert arrived != sorted(arrived, key=lambda event: event[3])
