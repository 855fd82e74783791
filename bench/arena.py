"""One round of a measurement on a broker: its own topics, the same events in each, and processes timed by their output.

Records of output topics carry the broker's time (`LogAppendTime`). So every contender is timed by the same clock, from
its first record to its last, and the time that it takes to start does not count.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from kafka import TopicPartition

from bench.workload import Workload
from stream.database.connection import DatabaseConnection
from stream.embedded.server import ServerProcess
from stream.kafka.clients import open_admin, open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import TopicSpecification, create_topics, specifications
from stream.kafka.publisher import open_publisher
from stream.settings import Settings
from stream.topics import Topics

BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
SAMPLE_S = 0.2
START_LIMIT_S = 90.0
SHORTEST_SPAN_S = 0.001


class BenchError(RuntimeError):
    """A measurement cannot be taken; the message says why and what to do."""


LAST_OFFSETS = 64
"""So many offsets at the end of a partition hold a record for sure: transactions end one after another there."""


class TopicWatch:
    """Asks the broker for the sizes of topics and the times of their records."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._consumer = open_consumer(kafka, enable_auto_commit=False, max_poll_records=1)
        self._tps: dict[str, list[TopicPartition]] = {}

    def close(self) -> None:
        self._consumer.close()

    def size(self, *topics: str) -> int:
        """Number of offsets in the topics together: the ends of transactions take some, beside the records."""
        for topic in topics:
            if topic not in self._tps:
                numbers = self._consumer.partitions_for_topic(topic) or ()
                self._tps[topic] = [TopicPartition(topic, number) for number in sorted(numbers)]
        return int(sum(self._consumer.end_offsets([tp for topic in topics for tp in self._tps[topic]]).values()))

    def span_s(self, topic: str) -> float:
        """Seconds from the first record of a topic to its last."""
        self.size(topic)
        ends = self._consumer.end_offsets(self._tps[topic])
        filled = [tp for tp, end in ends.items() if end > 0]
        if not filled:
            return 0.0
        first = min(self._timestamp(tp, 0) for tp in filled)
        return (max(self._last_timestamp(tp, ends[tp]) for tp in filled) - first) / 1000

    def first_ms(self, topic: str) -> int:
        """Time of a topic's first record, milliseconds since 1970-01-01."""
        self.size(topic)
        filled = [tp for tp, end in self._consumer.end_offsets(self._tps[topic]).items() if end > 0]
        return min(self._timestamp(tp, 0) for tp in filled)

    def _last_timestamp(self, tp: TopicPartition, end: int) -> int:
        """Time of the last record before `end`, which the ends of transactions may separate from it."""
        self._consumer.assign([tp])
        self._consumer.seek(tp, max(end - LAST_OFFSETS, 0))
        last_ms = -1
        while self._consumer.position(tp) < end:
            for batch in self._consumer.poll(timeout_ms=1_000).values():
                last_ms = batch[-1].timestamp
        return last_ms

    def _timestamp(self, tp: TopicPartition, offset: int) -> int:
        self._consumer.assign([tp])
        self._consumer.seek(tp, offset)
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            for records in self._consumer.poll(timeout_ms=500).values():
                return int(records[0].timestamp)
        raise BenchError(f"{tp.topic} of partition {tp.partition} cannot be read at offset {offset}; is the broker up?")


@dataclass(frozen=True)
class Lap:
    """What one process did with the events of one round."""

    records: int
    span_s: float
    complete: bool
    cpu_s_per_million: float | None
    rss_mib: float

    @property
    def events_per_second(self) -> float:
        return self.records / max(self.span_s, SHORTEST_SPAN_S)


class Arena:
    """Topics under a prefix of their own and the processes that run on them. Leaving the context deletes the topics."""

    def __init__(self, kafka: KafkaConnection, settings: Settings, name: str, folder: Path) -> None:
        self.kafka = kafka
        self.name = name
        self.folder = folder / name
        self.settings = settings.model_copy(update={"topic_prefix": f"{name}.", "application_id": name})
        self.watch = TopicWatch(kafka)

    @property
    def topics(self) -> Topics:
        return self.settings.topics

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        wanted = [
            replace(topic, configs={**topic.configs, **BROKER_TIME}) if topic.name == self.topics.scores else topic
            for topic in specifications(self.settings)
        ]
        create_topics(self.kafka, self.settings, wanted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.close()
        admin = open_admin(self.kafka)
        try:
            # Changelogs that frameworks made carry the name of the group somewhere in theirs.
            admin.delete_topics([topic for topic in admin.list_topics() if self.name in topic])
        finally:
            admin.close()

    def output(self, contender: str) -> str:
        """Creates the output topic of a contender and returns its name."""
        topic = f"{self.name}.peer.{contender}"
        specification = TopicSpecification(topic, self.settings.partitions, 1, BROKER_TIME)
        create_topics(self.kafka, self.settings, [specification])
        return topic

    def changelog(self, topic: str) -> None:
        """Creates a changelog that stock Faust would create itself: on a busy machine it may not see its own, and waits
        for ever then."""
        specification = TopicSpecification(topic, self.settings.partitions, 1, {"cleanup.policy": "compact"})
        create_topics(self.kafka, self.settings, [specification])

    def publish(self, workload: Workload) -> int:
        """Publish all events of a workload to the input topics."""

        async def send() -> int:
            async with open_publisher(self.kafka, self.topics) as publisher:
                return await publisher.publish(workload.records)

        return asyncio.run(send())

    def worker(self, name: str = "worker", **more: str) -> ServerProcess:
        """The worker as users start it, not yet started; `more` are further options of its command."""
        options = {
            "--bootstrap-servers": self.kafka.bootstrap_servers,
            "--topic-prefix": self.settings.topic_prefix,
            "--application-id": self.settings.application_id,
            "--partitions": str(self.settings.partitions),
            "--bundle": str(self.settings.bundle.resolve()),
            **{f"--{name.replace('_', '-')}": value for name, value in more.items()},
        }
        arguments = [word for option in options.items() for word in option]
        command = [sys.executable, "-m", "foreshock", "worker", *arguments]
        return ServerProcess(name, command, self.folder / f"{name}.log")

    def sink(self, database: DatabaseConnection) -> ServerProcess:
        """The sink on these topics, as users start it, not yet started."""
        options = {
            "--bootstrap-servers": self.kafka.bootstrap_servers,
            "--database-url": database.url,
            "--topic-prefix": self.settings.topic_prefix,
            "--application-id": self.settings.application_id,
        }
        arguments = [word for option in options.items() for word in option]
        return ServerProcess("sink", [sys.executable, "-m", "foreshock", "sink", *arguments], self.folder / "sink.log")

    def race(self, process: ServerProcess, topic: str, expected: int, limit_s: float) -> Lap:
        """Start `process`, wait until it has published `expected` records or for `limit_s` after its first; stop it.

        Raises `BenchError` when it ends by itself or publishes nothing.
        """
        process.start()
        try:
            samples = self._samples(process, topic, expected, limit_s)
        finally:
            process.stop()
        records = self.watch.size(topic)
        moving = [sample for sample in samples if sample.records]
        events = moving[-1].records - moving[0].records
        return Lap(
            records=records,
            span_s=self.watch.span_s(topic),
            complete=records >= expected,
            cpu_s_per_million=(moving[-1].cpu_s - moving[0].cpu_s) / events * 1e6 if events else None,
            rss_mib=max(sample.rss_mib for sample in samples),
        )

    def _samples(self, process: ServerProcess, topic: str, expected: int, limit_s: float) -> list[Sample]:
        samples: list[Sample] = []
        started_s = time.monotonic()
        first_s: float | None = None
        while True:
            sample = Sample.of(process, self.watch.size(topic))
            samples.append(sample)
            now_s = time.monotonic()
            if sample.records and first_s is None:
                first_s = now_s
            if sample.records >= expected or (first_s is not None and now_s - first_s > limit_s):
                return samples
            if first_s is None and now_s - started_s > START_LIMIT_S:
                raise BenchError(f"{process.name} published nothing in {START_LIMIT_S:.0f} s; {_log_end(process)}")
            time.sleep(SAMPLE_S)

    def wait_for(self, process: ServerProcess, topic: str, records: int, limit_s: float) -> float:
        """Wait until `topic` holds `records`; returns the seconds. Raises `BenchError` when that does not happen."""
        started_s = time.monotonic()
        while (found := self.watch.size(topic)) < records:
            if not process.alive:
                raise BenchError(f"{process.name} ended; {_log_end(process)}")
            if time.monotonic() - started_s > limit_s:
                raise BenchError(f"{topic} holds {found:,} of {records:,} after {limit_s:.0f} s; {_log_end(process)}")
            time.sleep(0.05)
        return time.monotonic() - started_s

    def wait_until_scored(self, process: ServerProcess, limit_s: float) -> int:
        """Wait until there are exactly as many scores as records in the input topics; returns how many.

        Counts records, by reading them, since the ends of transactions take offsets of `scores`. Raises `BenchError`,
        also where there are more.
        """
        deadline_s, found = time.monotonic() + limit_s, 0
        consumer = open_consumer(self.kafka, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            numbers = consumer.partitions_for_topic(self.topics.scores) or ()
            consumer.assign([TopicPartition(self.topics.scores, number) for number in numbers])
            while found != (expected := self.watch.size(*self.topics.inputs)):
                found += sum(map(len, consumer.poll(timeout_ms=200).values()))
                if not process.alive:
                    raise BenchError(f"{process.name} ended; {_log_end(process)}")
                if time.monotonic() > deadline_s:
                    raise BenchError(f"{found:,} of {expected:,} are scored after {limit_s:.0f} s; {_log_end(process)}")
        finally:
            consumer.close()
        return found


@dataclass(frozen=True)
class Sample:
    """A process at one moment: records published, processor time used, resident memory."""

    records: int
    cpu_s: float
    rss_mib: float

    @classmethod
    def of(cls, process: ServerProcess, records: int) -> Sample:
        try:
            found = psutil.Process(process.identity.pid)
            times = found.cpu_times()
            return cls(records, times.user + times.system, found.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            raise BenchError(f"{process.name} ended; {_log_end(process)}") from None


def _log_end(process: ServerProcess) -> str:
    return f"its log ends with:\n{process.log_tail(25)}"


def launch(python: str, module: str, *arguments: str) -> list[str]:
    """Command that runs a module of this source tree under another Python.

    The tree comes last on the import path. It may lie among installed packages, and then those of the other Python must
    be found first.
    """
    root = str(Path(__file__).resolve().parent.parent)
    program = (
        f"import runpy, sys; sys.path.append({json.dumps(root)}); "
        f"runpy.run_module({json.dumps(module)}, run_name='__main__', alter_sys=True)"
    )
    return [python, "-c", program, *arguments]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum over the rounds."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": median, "min": ordered[0], "max": ordered[-1]}
