"""Keys go where Java's clients put them."""

from __future__ import annotations

from collections import Counter

import pytest
from kafka.partitioner.default import murmur2

from events.types import keyed
from model.datasets.delivery import arrivals_of, keyed_events_of
from model.datasets.simulator import Simulator
from model.datasets.sources import open_dataset
from stream.kafka.publisher import partition_of


@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_partitions_are_those_of_another_client(partitions: int) -> None:
    for number in range(200):
        key = b"u%07d" % number
        assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


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
    assert arrived != sorted(arrived, key=lambda record: record[3])
