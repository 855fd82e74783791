"""Events that arrive as they do in life, while workers are killed and frozen, against an oracle.

Producers send one by one, some late, some twice, one of them in transactions of which it aborts a part; topics lag
behind each other. The oracle scores what was accepted, in the order in which the committed scores say it was taken:
every score, alert and state must be the one it comes to, and no event may be missing or stand twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from events.types import KINDS, KeyedEvent, keyed
from model.bundle import Bundle
from model.datasets.simulator.arrivals import delivered
from model.datasets.sources import open_dataset
from stream.embedded.server import ServerProcess
from stream.kafka.publisher import partition_of
from stream.outputs import DeadLetter, Score
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

Deploy = Callable[..., Any]
SESSION_S = 3.0


def arrivals(seed: int, users: int, most: int) -> list[KeyedEvent]:
    dataset = open_dataset("simulator", users=users, months=8, seed=seed)
    return list(delivered(keyed(dataset.events()), seed, late_share=0.05, twice_share=0.02))[:most]


async def feed(deployment: Any, events: list[KeyedEvent], per_s: float, seed: int, done: threading.Event) -> None:
    """Send events at a rate, each topic with a delay of its own, by three producers, the last one transactional."""
    chance = random.Random(seed)
    plain = [AIOKafkaProducer(bootstrap_servers=str(deployment.kafka), linger_ms=0) for _ in range(2)]
    careful = AIOKafkaProducer(
        bootstrap_servers=str(deployment.kafka), transactional_id=f"lender-{deployment.settings.application_id}"
    )
    try:
        await asyncio.gather(*(producer.start() for producer in (*plain, careful)))
        delay_s = {kind: chance.uniform(0, 1.5) for kind in KINDS}
        queue = sorted(
            (number / per_s + delay_s[event[0]] + chance.expovariate(8), number) for number, event in enumerate(events)
        )
        begun_s = time.monotonic()
        in_doubt: list[KeyedEvent] = []
        for at_s, number in queue:
            await asyncio.sleep(max(at_s - (time.monotonic() - begun_s), 0))
            kind, key, value, _ = events[number]
            if number % 10:
                await _send(deployment, plain[number % 2], kind, key, value)
                continue
            in_doubt.append(events[number])
            if len(in_doubt) == 5:
                for commits in (False, True):
                    await careful.begin_transaction()
                    for kind, key, value, _ in in_doubt:
                        await _send(deployment, careful, kind, key, value)
                    await (careful.commit_transaction() if commits else careful.abort_transaction())
                in_doubt.clear()
        await careful.begin_transaction()
        for kind, key, value, _ in in_doubt:
            await _send(deployment, careful, kind, key, value)
        await careful.commit_transaction()
    finally:
        await asyncio.gather(*(producer.stop() for producer in (*plain, careful)))
        done.set()


async def _send(deployment: Any, producer: AIOKafkaProducer, kind: Any, key: bytes, value: bytes) -> None:
    partition = partition_of(key, deployment.settings.partitions)
    await producer.send(deployment.topics.of_kind(kind), value, key=key, partition=partition)


@contextmanager
def feeding(deployment: Any, events: list[KeyedEvent], per_s: float, seed: int) -> Iterator[threading.Event]:
    done = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(feed(deployment, events, per_s, seed, done)))
    thread.start()
    try:
        yield done
    finally:
        thread.join()


def check_against_the_oracle(deployment: Any, sent: list[KeyedEvent]) -> None:
    """Scores, alerts and rows are what the events come to in the order in which they were taken."""
    topics = deployment.topics
    inputs = {
        (record.topic, record.partition, record.offset): record
        for topic in topics.inputs
        for record in deployment.records(topic)
    }
    letters = [msgspec.json.decode(r.value, type=DeadLetter) for r in deployment.records(topics.dead_letters)]
    refused = Counter((letter.topic, letter.partition, letter.offset) for letter in letters)
    scores = deployment.records(topics.scores)
    sources = [_source_of(msgspec.json.decode(record.value, type=Score)) for record in scores]
    accounted = Counter(sources) + refused
    assert len(inputs) == len(sent), "aborted events are not read"
    assert {at for at, count in accounted.items() if count > 1} == set(), "twice"
    assert inputs.keys() - accounted.keys() == set(), "lost"
    assert accounted.keys() - inputs.keys() == set(), "from nowhere"

    bundle = Bundle.load(PRETRAINED_BUNDLE)
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, deployment.settings.alert_policy(bundle.thresholds), slab, topics)
    intakes = {topic: Intake(kind) for topic, kind in zip(topics.inputs, KINDS, strict=True)}

    def taken(at: tuple[str, int, int]) -> Taken:
        outcome = intakes[at[0]].take(inputs[at], time.time_ns() // 1_000_000)
        assert isinstance(outcome, Taken)
        return outcome

    scored = scorer.score([taken(at) for at in sources])
    for topic, expected in ((topics.scores, scored.scores), (topics.alerts, scored.alerts)):
        assert _by_user(deployment.records(topic)) == {
            (partition, key): [value for other, value in pairs if other == key]
            for partition, pairs in expected.items()
            for key, _ in pairs
        }, topic
    for at in refused:
        item = taken(at)
        row = slab.locate(item.partition, [item.key])
        held = slab.rows["consumed_offset"]
        held[row, item.kind_no] = np.maximum(held[row, item.kind_no], item.offset)
    changelog = deployment.records(topics.changelog(deployment.settings.application_id))
    rows = {(record.partition, record.key): record.value for record in changelog}
    assert rows == {(partition, key): row for partition, key, row in slab.items()}


def _by_user(records: Iterable[Any]) -> dict[tuple[int, bytes], list[bytes]]:
    """Values in order by partition and key: between users the order of alerts is that of batches."""
    found: dict[tuple[int, bytes], list[bytes]] = {}
    for record in records:
        found.setdefault((record.partition, record.key), []).append(record.value)
    return found


def _source_of(score: Score) -> tuple[str, int, int]:
    return score.source_topic, score.source_partition, score.source_offset


class Conductor:
    """Keeps two workers at work and disturbs them, as a seed has it."""

    def __init__(self, deployment: Any, folder: Path, running: ExitStack, seed: int, on_disk: bool) -> None:
        self._deployment = deployment
        self._folder = folder
        self._running = running
        self._chance = random.Random(seed)
        self._on_disk = on_disk
        self._started = 0
        self._workers: list[ServerProcess] = []
        self.kills = self.freezes = 0

    def start(self, number: int) -> None:
        self._started += 1
        disk = {"state_dir": self._folder / f"state-{number}", "resident_users": 20} if self._on_disk else {}
        process = self._running.enter_context(self._deployment.running("worker", f"worker-{self._started}", **disk))
        if number < len(self._workers):
            self._workers[number] = process
        else:
            self._workers.append(process)

    def revive(self) -> None:
        for number, worker in enumerate(self._workers):
            if not worker.alive:
                self.start(number)

    def disturb(self, done: threading.Event) -> None:
        self.start(0)
        self.start(1)
        while not done.wait(self._chance.uniform(0.3, 2.5)):
            self.revive()
            worker = self._chance.choice(self._workers)
            if self._chance.random() < 0.75:
                self._deployment.kill(worker)
                self.kills += 1
            else:
                self._freeze(worker)

    def _freeze(self, worker: ServerProcess) -> None:
        """Silent for longer than its session, then back, as if nothing had been."""
        self.freezes += 1
        pid = worker.identity.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(SESSION_S + self._chance.uniform(1, 3))
        os.kill(pid, signal.SIGCONT)

    def settle(self) -> None:
        """Until all that the inputs hold is committed."""
        group, inputs = self._deployment.settings.application_id, self._deployment.topics.inputs
        deadline_s = time.monotonic() + 120
        while self._deployment.committed(group, inputs) != self._deployment.size(*inputs):
            assert time.monotonic() < deadline_s, [worker.log_tail(20) for worker in self._workers]
            self.revive()
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "on_disk", "standbys"), [(11, False, 0), (12, True, 0), (13, False, 1)])
def test_live_arrival_under_kills_and_freezes(
    deploy: Deploy, tmp_path: Path, seed: int, on_disk: bool, standbys: int
) -> None:
    deployment = deploy(
        watchdog=False,
        session_timeout_s=SESSION_S,
        heartbeat_interval_s=0.5,
        standby_replicas=standbys,
        commit_interval_s=random.Random(seed).choice([0.3, 1.0]),
    )
    events = arrivals(seed, users=150, most=5_000)
    with ExitStack() as running:
        conductor = Conductor(deployment, tmp_path, running, seed, on_disk)
        with feeding(deployment, events, per_s=250, seed=seed) as done:
            conductor.disturb(done)
        conductor.settle()
    assert conductor.kills + conductor.freezes >= 4
    check_against_the_oracle(deployment, events)


FAULTS = {
    "before rows are sent": """
async def dies(self, rows, original=IntervalCut.publish_rows):
    times.append(1)
    if len(times) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    await original(self, rows)
IntervalCut.publish_rows = dies
""",
    "before offsets are sent": """
async def dies(self, offsets, group, original=Transaction.commit):
    times.append(1)
    if len(times) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    await original(self, offsets, group)
Transaction.commit = dies
""",
    "between offsets and commit": """
async def dies(self, original=AIOKafkaProducer.commit_transaction):
    times.append(1)
    if len(times) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    await original(self)
AIOKafkaProducer.commit_transaction = dies
""",
    "after a commit": """
async def dies(self, offsets, group, original=Transaction.commit):
    await original(self, offsets, group)
    times.append(1)
    if len(times) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
Transaction.commit = dies
""",
}
IMPORTS = """
import os, signal
from aiokafka import AIOKafkaProducer
from stream.kafka.transactions import Transaction
from stream.worker.cut import IntervalCut
times = []
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_killed_at_a_step_of_the_commit(deploy: Deploy, fault: str) -> None:
    deployment = deploy(watchdog=False, session_timeout_s=SESSION_S, heartbeat_interval_s=0.5)
    events = arrivals(seed=21, users=60, most=1_500)
    with feeding(deployment, events, per_s=120, seed=21):
        with deployment.running("worker", "dies", fault=IMPORTS + FAULTS[fault]) as worker:
            deployment.wait(lambda: not worker.alive, "the fault")
        with deployment.running("worker", "successor") as worker:
            deployment.wait(lambda: not worker.alive or True, "start", worker)
            time.sleep(3)
            deployment.wait_until_scored(worker)
    with deployment.running("worker", "last") as worker:
        deployment.wait_until_scored(worker)
    check_against_the_oracle(deployment, events)
