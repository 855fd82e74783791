"""What a replay is expected to take: a rate from events that are scored, bytes from what topics hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pytest

from bench.workload import Workload
from events.types import KINDS
from model.bundle import Bundle
from stream.kafka.record import RawRecord
from stream.kafka.topic_sizes import TopicSize
from stream.replay.estimate import REST_TO_INTAKE, calibrate, outputs_bytes
from stream.settings import PRETRAINED_BUNDLE, load_settings


class Records:
    """Simulated events of one partition, a hundred of each topic at a time; counts those that were asked for."""

    def __init__(self, events: int) -> None:
        self.given = 0
        self._by_topic: dict[str, list[RawRecord]] = {kind: [] for kind in KINDS}
        for kind, key, value, _ in Workload.simulated(events, 20).records if events else ():
            records = self._by_topic[kind]
            records.append(RawRecord(kind, 0, len(records), 0, key, value))

    def records(self, topics: Sequence[str], partition: int) -> Iterator[tuple[Mapping[str, list[Any]], set[str]]]:
        longest = max(map(len, self._by_topic.values())) if partition == 0 else 0
        for start in range(0, longest, 100):
            found: dict[str, list[Any]] = {topic: self._by_topic[topic][start : start + 100] for topic in topics}
            self.given += sum(map(len, found.values()))
            yield found, set(topics)


def test_a_rate_is_measured_on_the_first_events() -> None:
    """With a clock that goes on by a second at each look: three looks for each batch, one of them after intake."""
    reader, settings = Records(600), load_settings()
    clock = count()

    def ticks() -> float:
        return float(next(clock))

    found = calibrate(reader, settings, Bundle.load(PRETRAINED_BUNDLE), 2, 50, ticks)
    assert found is not None
    assert 0 < found.events < reader.given, "the first batch does not count"
    assert found.seconds == pytest.approx(2 * found.intake_s)
    assert found.events_per_s == pytest.approx(found.events / (found.intake_s * (2 + REST_TO_INTAKE)))
    assert f"{2 / (2 + REST_TO_INTAKE):.0%} of what a worker does" in str(found)


def test_nothing_is_told_where_there_is_nothing_to_measure() -> None:
    assert calibrate(Records(0), load_settings(), Bundle.load(PRETRAINED_BUNDLE), 3) is None


def test_outputs_are_expected_as_those_that_there_are() -> None:
    """Also where retention has taken half of what was published."""
    held = TopicSize("scores", 500, 500, 50_000, 50_000, None, None, None)
    assert outputs_bytes(held, 1_000, 1_000) == 100_000
    assert outputs_bytes(held, 2_000, 200) == 10_000
    for unknown in (None, TopicSize("scores", 5, 0, None, None, None, None, None)):
        assert outputs_bytes(unknown, 1_000, 10) is None
    assert outputs_bytes(held, 0, 0) is None
