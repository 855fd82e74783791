"""A deployment of one's own per test: topics, consumer group, worker and sink processes on the real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    UnknownTopicOrPartitionError,
)

from bench import quick_java
from bench.chaos.oracle import contract_values, contracts_in
from events.types import KINDS, Event, KeyedEvent, keyed
from model.bundle import Bundle
from stream.embedded.server import ServerProcess
from stream.kafka.clients import open_admin, open_producer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import create_topics
from stream.kafka.publisher import open_publisher
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, ContractStanding, Score
from stream.scoring.intake import Intake, Taken
from stream.scoring.merge import PartitionMerge
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, Settings, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics
from tests import shared
from tests.forked import REPLAYS, ForkedProcess, may_fork
from tests.untraced import untraced

SHOWN_IDS = 5
PATIENCE_MS = 120_000
"""For a broker that all tests share: a test has not failed because its broker has much to do when it ends."""


class Outcome(NamedTuple):
    """What workers made of events: scores and alerts as JSON by their ids; by partition and key rows, latest scores and
    contracts."""

    scores: dict[str, bytes]
    alerts: dict[str, bytes]
    rows: dict[tuple[int, bytes], bytes]
    latest: dict[tuple[int, bytes], bytes]
    contracts: dict[tuple[int, bytes], list[ContractStanding]]

    def differences(self, other: Outcome) -> str:
        """What differs from `other`: of each part how many, and the first ids. Empty where nothing does.

        Not `==` in a test: to show two unequal outcomes takes pytest half an hour.
        """
        found = []
        for part, mine, others in zip(self._fields, self, other, strict=True):
            for what, ids in (
                ("missing", others.keys() - mine.keys()),
                ("too many", mine.keys() - others.keys()),
                ("different", {each for each in mine.keys() & others.keys() if mine[each] != others[each]}),
            ):
                if ids:
                    first = ", ".join(map(str, sorted(ids)[:SHOWN_IDS]))
                    found.append(f"{part}: {len(ids)} of {len(others)} {what}: {first}")
        return "; ".join(found)

    def __repr__(self) -> str:
        return f"Outcome({', '.join(f'{len(part)} {name}' for name, part in zip(self._fields, self, strict=True))})"


class Deployment:
    """Topics under a prefix and the processes that work on them.

    The coverage tool does not look on while it is waited for or compared: that is not what a test is of.
    """

    def __init__(self, kafka: KafkaConnection, prefix: str, folder: Path, **settings: Any) -> None:
        self.kafka = kafka
        self.folder = folder
        self.options: dict[str, Any] = {
            "topic_prefix": prefix,
            "application_id": prefix.rstrip("."),
            "commit_interval_s": 0.3,
            "session_timeout_s": 6.0,
            # As few as two workers can share: each of a dozen topics has so many, and each partition its transactions.
            "partitions": 2,
            # Else a busy machine may end a wait for a topic, and events are taken in another order than `undisturbed`.
            "merge_idle_ms": 30_000,
            **settings,
        }
        self.settings: Settings = load_settings(bootstrap_servers=kafka.bootstrap_servers, **self.options)
        self._clients: tuple[Any, TopicReader] | None = None
        self._kept = ExitStack()
        self._waits = False
        self.create_topics()

    def create_topics(self) -> None:
        """Those that are not there."""
        create_topics(self.kafka, self.settings)

    def owns(self, name: str) -> bool:
        """Whether a topic or a consumer group of this name is of this deployment: tests beside it have theirs."""
        application_id = self.settings.application_id
        return name == application_id or name.startswith((self.topics.prefix, f"{application_id}-"))

    def delete_topics(self) -> None:
        """Or every client that asks for all topics would read of those of all tests before."""
        admin = open_admin(self.kafka, request_timeout_ms=PATIENCE_MS, bootstrap_timeout_ms=PATIENCE_MS)
        try:
            names = [name for name in admin.list_topics() if self.owns(name)]
            # The broker still lists what another deployment of this application has just deleted.
            with suppress(UnknownTopicOrPartitionError):
                admin.delete_topics(names, timeout_ms=PATIENCE_MS)
        finally:
            admin.close()

    def _ask(self, question: Callable[[Any, TopicReader], int]) -> int:
        """Answer of an admin client or a reader, which are kept while a test waits: it asks several times a second."""
        try:
            if self._clients is None:
                reader = self._kept.enter_context(TopicReader(self.kafka))
                self._clients = open_admin(self.kafka), reader
                self._kept.callback(self._clients[0].close)
            return question(*self._clients)
        finally:
            if not self._waits:
                self._forget_clients()

    def _forget_clients(self) -> None:
        self._clients = None
        self._kept.close()

    @property
    def topics(self) -> Topics:
        return self.settings.topics

    def publish(self, events: Iterable[Event]) -> int:
        return self.publish_records(keyed(events))

    def publish_records(self, records: Iterable[KeyedEvent]) -> int:
        async def send() -> int:
            async with open_publisher(self.kafka, self.topics) as publisher:
                return await publisher.publish(records)

        return asyncio.run(send())

    def send_raw(
        self,
        topic: str,
        records: Iterable[tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, Any]],
        partition: int = 0,
        **options: Any,
    ) -> None:
        """Send bytes to a topic, given by its name without the prefix: key, value, and headers if there are any.
        `options` are the producer's."""
        producer = open_producer(self.kafka, **({"max_request_size": 8 * 1024 * 1024} | options))
        for key, value, *headers in records:
            producer.send(
                f"{self.topics.prefix}{topic}", key=key, value=value, partition=partition, headers=list(*headers)
            )
        producer.flush()
        producer.close()

    def configure(self, topic: str, configs: dict[str, str]) -> None:
        """Set settings of a topic on the broker."""
        admin = open_admin(self.kafka)
        try:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        finally:
            admin.close()

    @contextmanager
    def running(
        self, command: str, name: str | None = None, *, fault: str = "", **options: Any
    ) -> Iterator[ServerProcess]:
        """A `foreshock worker`, `sink` or the like with the deployment's settings; `fault` is Python run first."""
        first = REPLAYS if command.startswith("replay run") and may_fork() else ""
        start = f"{first}{fault}\nfrom foreshock import main\nmain()"
        process = ForkedProcess(
            name or command, [sys.executable, "-c", start, *command.split()], self.folder / f"{name or command}.log"
        )
        environment = {f"FORESHOCK_{key.upper()}": str(value) for key, value in {**self.options, **options}.items()}
        environment.setdefault("FORESHOCK_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers)
        saved = {key: os.environ.get(key) for key in environment}
        os.environ.update(environment)
        try:
            process.start()
        finally:
            for key, value in saved.items():
                if value is None:
                    os.environ.pop(key)
                else:
                    os.environ[key] = value
        try:
            yield process
        finally:
            process.stop()

    def kill(self, process: ServerProcess) -> None:
        os.kill(process.identity.pid, signal.SIGKILL)

    def size(self, *topics: str) -> int:
        """Offsets in the topics: of outputs, the ends of transactions take some beside the records."""
        return self._ask(lambda _, reader: reader.size(topics))

    def exists(self, topic: str) -> bool:
        with TopicReader(self.kafka) as reader:
            return reader.exists(topic)

    def delete_records(self, topic: str, before: int) -> None:
        """Take what stands before this offset away from each partition, as retention does."""
        admin = open_admin(self.kafka)
        try:
            admin.delete_records({TopicPartition(topic, number): before for number in range(self.settings.partitions)})
        finally:
            admin.close()

    def committed(self, group: str, topics: Iterable[str]) -> int:
        """The sum of the offsets that a group has committed in the topics."""

        def look(admin: Any, _: TopicReader) -> int:
            try:
                offsets = admin.list_group_offsets({group: None}).get(group, {})
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                # A new broker has no groups yet.
                return 0
            return sum(max(found.offset, 0) for tp, found in offsets.items() if tp.topic in set(topics))

        return self._ask(look)

    @untraced
    def wait(
        self, done: Callable[[], bool], what: str, process: ServerProcess | None = None, seconds: float = 180
    ) -> None:
        deadline_s = time.monotonic() + seconds
        self._waits = True
        try:
            while not done():
                assert process is None or process.alive, f"{what}: the process ended:\n{process.log_tail(40)}"
                tail = "" if process is None else process.log_tail(40)
                assert time.monotonic() < deadline_s, f"{what}: not after {seconds} s\n{tail}"
                time.sleep(0.2)
        finally:
            self._waits = False
            # Not kept any longer: of a broker that goes away they would leave sockets behind.
            self._forget_clients()

    def wait_until_scored(self, process: ServerProcess, seconds: float = 240) -> None:
        """Until the workers have committed all that the input topics hold."""
        group, inputs = self.settings.application_id, self.topics.inputs
        self.wait(lambda: self.committed(group, inputs) == self.size(*inputs), "scoring", process, seconds)

    @untraced
    def records(self, topic: str) -> list[Any]:
        """All records of a topic, partition by partition."""
        found: list[Any] = []
        with TopicReader(self.kafka) as reader:
            for partition in range(reader.partitions(topic)):
                for batches, _ in reader.records([topic], partition):
                    found += batches.get(topic, [])
        return found

    def in_event_time_order(self) -> Iterator[list[Taken]]:
        """Valid events of each partition in the order in which a backlog is scored."""
        intakes = [Intake(kind) for kind in KINDS]
        now_ms = time.time_ns() // 1_000_000
        with TopicReader(self.kafka) as reader:
            for partition in range(self.settings.partitions):
                merge = PartitionMerge()
                for batches, _ in reader.records(self.topics.inputs, partition):
                    for kind_no, topic in enumerate(self.topics.inputs):
                        outcomes = [intakes[kind_no].take(record, now_ms) for record in batches.get(topic, [])]
                        merge.push(kind_no, [outcome for outcome in outcomes if isinstance(outcome, Taken)])
                yield merge.release()

    @untraced
    def outcome(self) -> Outcome:
        """What the topics hold. A score or an alert that stands there more than once must have the same bytes."""
        by_id: list[dict[str, bytes]] = []
        for topic, of_type in ((self.topics.scores, Score), (self.topics.alerts, Alert)):
            values = {record.value for record in self.records(topic)}
            by_id.append({_id_of(msgspec.json.decode(value, type=of_type)): value for value in values})
            assert len(by_id[-1]) == len(values)
        compacted = (self.topics.changelog(self.settings.application_id), *self.topics.compacted_by_user)
        rows, latest, contracts = (
            {(record.partition, record.key): record.value for record in self.records(topic)} for topic in compacted
        )
        scores, alerts = by_id
        return Outcome(scores, alerts, rows, latest, contracts_in(contracts))

    @untraced
    def undisturbed(self) -> Outcome:
        """What a worker makes of all events in one piece, bit by bit."""
        bundle = Bundle.load(PRETRAINED_BUNDLE)
        slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
        scorer = Scorer(bundle, self.settings.alert_policy(bundle.thresholds), slab, self.topics)
        scores: dict[str, bytes] = {}
        alerts: dict[str, bytes] = {}
        latest: dict[tuple[int, bytes], bytes] = {}
        for taken in self.in_event_time_order():
            scored = scorer.score(taken)
            for partition, pairs in scored.scores.items():
                latest |= {(partition, key): value for key, value in pairs}
                scores |= {_id_of(msgspec.json.decode(value, type=Score)): value for _, value in pairs}
            for pairs in scored.alerts.values():
                alerts |= {_id_of(msgspec.json.decode(value, type=Alert)): value for _, value in pairs}
        rows = {(partition, key): row for partition, key, row in slab.items()}
        contracts = contracts_in(contract_values(rows, slab.dtype, self.settings.portfolio_rules()))
        return Outcome(scores, alerts, rows, latest, contracts)

    def differences(self) -> str:
        """What the topics hold that a worker would not make of all events in one piece, see `Outcome.differences`."""
        return self.outcome().differences(self.undisturbed())


def _id_of(output: Score | Alert) -> str:
    return output.score_id if isinstance(output, Score) else output.transition_id


@pytest.fixture(scope="session", autouse=True)
def _quick_java(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ExitStack() as used:
        with shared.one_at_a_time(shared.session_folder(tmp_path_factory), "classes"):
            used.enter_context(quick_java.used(server_folder / "recorded"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _forked_replays() -> Iterator[None]:
    """Workers of replays that a test runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foreshock.replay_run.ServerProcess", ForkedProcess)
        yield


@pytest.fixture
def delete_topic(kafka: KafkaConnection) -> Callable[[str], None]:
    """Deletes a topic and returns when the broker knows it no more, a moment after it has agreed."""

    def delete(topic: str) -> None:
        admin = open_admin(kafka)
        try:
            admin.delete_topics([topic])
            deadline_s = time.monotonic() + 30
            while topic in admin.list_topics():
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
        finally:
            admin.close()

    return delete


@contextmanager
def _deploying() -> Iterator[Callable[..., Deployment]]:
    """Makes deployments, whose topics are deleted together."""
    made: list[Deployment] = []

    def make(*arguments: Any, **settings: Any) -> Deployment:
        made.append(Deployment(*arguments, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for deployment in made:
            deployment.delete_topics()


@pytest.fixture
def deploy(kafka: KafkaConnection, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes a deployment with the settings given."""
    with _deploying() as make:
        yield lambda **settings: make(kafka, topic_prefix, tmp_path, **settings)


@pytest.fixture(scope="module")
def deploy_shared(
    kafka: KafkaConnection, new_topic_prefix: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Deployment]]:
    """As `deploy`, for a deployment that several tests of a module only read."""
    with _deploying() as make:
        yield lambda **settings: make(kafka, new_topic_prefix(), tmp_path_factory.mktemp("shared"), **settings)


@pytest.fixture
def deploy_on(topic_prefix: str, tmp_path: Path) -> Callable[..., Deployment]:
    """Makes a deployment on a broker of the test's own, given by its address."""
    return lambda kafka, **settings: Deployment(kafka, topic_prefix, tmp_path, **settings)
