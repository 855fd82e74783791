"""What a replay is expected to take: time, by scoring its first events here, and disk, by what live topics hold.

Reads topics; changes nothing.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from kafka import TopicPartition

from events.types import KINDS
from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.kafka.recent_records import RecentRecords
from stream.kafka.topic_sizes import TopicSize, holdings
from stream.replay.plan import PROFILES, ReplayPlan, Span
from stream.replay.range import occurred_at
from stream.scoring.forgetting import pieces_between
from stream.scoring.intake import Intake
from stream.scoring.merge import PartitionMerge
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

CALIBRATION_EVENTS = 12_000
REST_TO_INTAKE = 5.0
"""What a replay's worker does beside intake and scoring (reading, publishing, states, commits) takes so many times as
long as intake: like that it is the same for all models, and slower on a slower machine. `foreshock bench replay`
measures it: 4.9 to 6.0. At 4.9 an event took 66 µs, of them 5.4 µs of intake and 34 µs of scoring."""

SAMPLED_PARTITIONS = 4
HALVINGS = 7
"""The share of events in the range is found to one in so many powers of two of a topic."""


@dataclass(frozen=True)
class Calibration:
    """So many of the first events were taken in, in `intake_s` seconds, and scored, in all in `seconds`, on this
    machine and with the bundle at hand."""

    events: int
    seconds: float
    intake_s: float

    @property
    def expected_s(self) -> float:
        """How long a replay's worker is expected to take for these events."""
        return self.seconds + REST_TO_INTAKE * self.intake_s

    @property
    def events_per_s(self) -> float:
        """What a worker is expected to take."""
        return self.events / self.expected_s

    def __str__(self) -> str:
        return (
            f"measured here: the first {self.events:,} events were taken in and scored in {self.seconds:.2f} s, "
            f"{self.seconds / self.expected_s:.0%} of what a worker does"
        )


@dataclass(frozen=True)
class ExpectedBytes:
    """Bytes that a replay's topics will take on the brokers, of one copy. None where the brokers do not tell.

    `published` is the share of all events that are in the range; of outputs the bytes are of those alone. `free` is
    what all brokers' disks have left. `states` are deleted when the replay is done.
    """

    published: float | None
    scores: int | None
    alerts: int | None
    states: int | None
    free: int | None

    @property
    def total(self) -> int | None:
        parts = (self.scores, self.alerts, self.states)
        return None if any(part is None for part in parts) else sum(part or 0 for part in parts)


class _Source(Protocol):
    def records(self, topics: Sequence[str], partition: int) -> Iterator[tuple[Mapping[str, list[Any]], set[str]]]: ...


def calibrate(
    reader: _Source,
    settings: Settings,
    bundle: Bundle,
    partitions: int,
    most_events: int = CALIBRATION_EVENTS,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Calibration | None:
    """Score the first events of the topics, and forget them. None where there are too few to tell anything.

    The first batch does not count: the network warms up by it. Raises as the reader.
    """
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    policy = settings.alert_policy(bundle.thresholds)
    scorer = Scorer(bundle, policy, slab, settings.topics, rules=settings.portfolio_rules())
    now_ms, size = int(dt.datetime.now(dt.UTC).timestamp() * 1000), settings.batch_max_records
    spent_s, intake_s, counted, is_warm = 0.0, 0.0, 0, False
    for partition in range(partitions):
        for found in _batches(reader, settings.topics.inputs, partition, size):
            begun_s = clock_s()
            merge = PartitionMerge()
            for kind_no, (kind, topic) in enumerate(zip(KINDS, settings.topics.inputs, strict=True)):
                good, _ = Intake(kind).take_all(found.get(topic, []), now_ms)
                merge.push(kind_no, good)
            ready = merge.release()
            taken_s = clock_s()
            for piece in pieces_between(ready):
                scorer.score(piece)
            if is_warm:
                spent_s, intake_s = spent_s + clock_s() - begun_s, intake_s + taken_s - begun_s
                counted += len(ready)
            is_warm = is_warm or bool(ready)
            if counted >= most_events:
                return Calibration(counted, spent_s, intake_s)
    return Calibration(counted, spent_s, intake_s) if counted else None


def _batches(reader: _Source, topics: Sequence[str], partition: int, size: int) -> Iterator[dict[str, list[Any]]]:
    """Records of a partition, up to `size` of each topic at a time."""
    for found, _ in reader.records(topics, partition):
        longest = max((len(records) for records in found.values()), default=0)
        for start in range(0, longest, size):
            yield {topic: records[start : start + size] for topic, records in found.items()}


def expected_bytes(kafka: KafkaConnection, settings: Settings, plan: ReplayPlan) -> ExpectedBytes:
    """By what the live topics hold now. Raises `ProvisioningError`, `NotAllowed`."""
    topics = settings.topics
    changelog = topics.changelog(settings.application_id)
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    held = holdings(kafka, (*topics.inputs, topics.scores, topics.alerts, changelog), now_ms)
    published = None if plan.archives else share_in_range(kafka, plan)
    inputs = sum(held.topics[topic].records + held.topics[topic].removed for topic in topics.inputs)
    events = plan.offsets * (1.0 if published is None else published)
    scores, alerts = (outputs_bytes(held.topics.get(topic), inputs, events) for topic in (topics.scores, topics.alerts))
    states = held.topics.get(changelog)
    return ExpectedBytes(published, scores, alerts, None if states is None else states.size_bytes, held.free_bytes)


def outputs_bytes(held: TopicSize | None, inputs: int, events: float) -> int | None:
    """Bytes that `events` will leave in a topic that has got what it holds, and held, of so many `inputs`."""
    if held is None or held.size_bytes is None or not held.records or not inputs:
        return None
    per_input = (held.records + held.removed) / inputs
    return round(events * per_input * held.size_bytes / held.records)


def share_in_range(kafka: KafkaConnection, plan: ReplayPlan) -> float | None:
    """About which share of the events is in the replay's range, by looking at some of them; None where there is none.

    Takes topics to be about in the order of event time. Looks at up to `SAMPLED_PARTITIONS` partitions.
    """
    spans = {
        TopicPartition(topic, partition): span
        for number, (topic, found) in enumerate(plan.inputs.items())
        if number != PROFILES
        for partition, span in enumerate(found[:SAMPLED_PARTITIONS])
        if span.offsets
    }
    total = sum(span.offsets for span in spans.values())
    if not total:
        return None
    with RecentRecords(kafka) as records:
        begins, ends = (_offsets_at(records, spans, at) for at in (plan.replayed.from_at, plan.replayed.to_at))
    return sum(ends[tp] - begins[tp] for tp in spans) / total


def _offsets_at(
    records: RecentRecords, spans: Mapping[TopicPartition, Span], at: dt.datetime
) -> dict[TopicPartition, int]:
    """By partition, about the offset from which on events are of this time or later."""
    low, high = ({tp: getattr(span, name) for tp, span in spans.items()} for name in ("begin", "end"))
    for _ in range(HALVINGS):
        middle = {tp: (low[tp] + high[tp]) // 2 for tp in spans if low[tp] < high[tp]}
        found = records.first(middle) if middle else {}
        for tp, offset in middle.items():
            record = found.get(tp)
            if record is None or not _is_before(record.value, at):
                high[tp] = offset
            else:
                low[tp] = min(int(record.offset) + 1, high[tp])
    return {tp: (low[tp] + high[tp]) // 2 for tp in spans}


def _is_before(value: bytes | None, at: dt.datetime) -> bool:
    """Of what is no event, that it is."""
    try:
        return occurred_at(value or b"") < at
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return True
