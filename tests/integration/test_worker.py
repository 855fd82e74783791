"""The worker on a real broker: exact scores, one per event, whatever happens to the process."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from events.types import Event
from model.datasets.sources import open_dataset
from stream.kafka.clients import open_producer
from stream.outputs import Score
from stream.settings import PRETRAINED_BUNDLE

Deploy = Callable[..., Any]
# `no_cover` marks long tests of which another covers all the code: the coverage tool makes a worker half as fast.
PARITY = 1e-6


def simulated(users: int, months: int, seed: int = 5) -> list[Event]:
    return list(open_dataset("simulator", users=users, months=months, seed=seed).events())


@pytest.mark.no_cover
def test_scores_equal_one_forward_pass_over_the_whole_history(deploy: Deploy) -> None:
    """400 users: what the worker published against PyTorch over each user's events in one pass."""
    torch_scores = pytest.importorskip("model.training.forward_pass").score_histories
    deployment = deploy()
    events = simulated(400, 4)
    deployment.publish(events)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)

    records = deployment.records(deployment.topics.scores)
    scores = [msgspec.json.decode(record.value, type=Score) for record in records]
    assert len({score.score_id for score in scores}) == len(scores) == deployment.size(*deployment.topics.inputs)
    assert {score.user_id for score in scores} == {event.user_id for event in events}

    published: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        published[score.user_id].append(score)
    by_source = {
        (taken.kind, taken.partition, taken.offset): taken.event
        for partition in deployment.in_event_time_order()
        for taken in partition
    }
    prefix = len(deployment.topics.prefix)
    histories = {
        user_id: [by_source[s.source_topic[prefix:], s.source_partition, s.source_offset] for s in own]
        for user_id, own in published.items()
    }
    assert all([s.sequence for s in own] == list(range(1, len(own) + 1)) for own in published.values())
    expected = torch_scores(PRETRAINED_BUNDLE, list(histories.values()))
    worst = 0.0
    for own, rows in zip(published.values(), expected, strict=True):
        found = np.array([list(score.horizons.values()) for score in own])
        worst = max(worst, float(np.abs(found - rows).max()))
    assert worst <= PARITY


@pytest.mark.no_cover
def test_sigkill_loses_nothing_and_changes_nothing(deploy: Deploy) -> None:
    """Killed twice in the middle: final states bit for bit those of a run in one piece, every score there."""
    deployment = deploy(watchdog=False, batch_max_records=250)
    published = deployment.publish(simulated(100, 8))
    for share in (0.2, 0.6):
        with deployment.running("worker") as worker:
            deployment.wait(
                lambda share=share: deployment.size(deployment.topics.scores) > share * published,
                "first scores",
                worker,
            )
            deployment.kill(worker)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)

    assert deployment.differences() == ""


def test_sigkill_with_users_on_disk_reads_only_the_tail(deploy: Deploy, tmp_path: Path) -> None:
    """Twenty users in memory, hundreds on disk: every score once and the same bytes, and a restart reads the tail.

    The least memory for the disk makes RocksDB write files early, so that there are some when the worker is killed.
    """
    deployment = deploy(
        watchdog=False, batch_max_records=200, state_dir=tmp_path / "state", resident_users=20, state_memory_mib=8
    )
    published = deployment.publish(simulated(300, 4))
    with deployment.running("worker", "killed") as worker:
        deployment.wait(lambda: deployment.size(deployment.topics.scores) > published // 2, "first scores", worker)
        deployment.kill(worker)
    changelog = deployment.topics.changelog(deployment.settings.application_id)
    before = deployment.size(changelog)
    with deployment.running("worker", "restarted") as worker:
        deployment.wait_until_scored(worker)
        log = worker.log_tail(1_000)
    on_disk = sum(int(found) for found in re.findall(r"partition \d+: (\d+) changelog records are on disk", log))
    read = [int(found) for found in re.findall(r"(\d+) rows were read from the changelog", log)]
    assert 0 < on_disk <= before
    # Of a batch of the changelog the archive knows the first record's offset, and that one is read again.
    assert read[-1] <= before - on_disk + deployment.settings.partitions
    assert read[-1] < before

    outcome = deployment.outcome()
    assert len(outcome.scores) == published
    assert outcome.differences(deployment.undisturbed()) == ""


READER_FAILS = """
from stream.kafka.changelog import ChangelogReader, Unreadable
read, blocks = ChangelogReader.read, []
async def fail_after_two(self, positions):
    blocks.append(await read(self, positions))
    if len(blocks) > 2:
        raise Unreadable("as told")
    return blocks[-1]
ChangelogReader.read = fail_after_two
"""


@pytest.mark.parametrize("fault", [pytest.param("", marks=pytest.mark.no_cover), READER_FAILS])
def test_a_worker_has_its_users_back(deploy: Deploy, fault: str) -> None:
    """Whether or not the changelog can be read in whole blocks to its end: no row is lost, none is old."""
    deployment = deploy(watchdog=False)
    events = simulated(120, 4)
    deployment.publish(events[: len(events) // 2])
    with deployment.running("worker", "first") as worker:
        deployment.wait_until_scored(worker)
    deployment.publish(events[len(events) // 2 :])
    with deployment.running("worker", "second", fault=fault) as worker:
        deployment.wait_until_scored(worker)
        assert ("record by record: Unreadable: as told" in worker.log_text()) == bool(fault)

    assert "rows: " not in deployment.differences()


SLOW_TO_BEGIN = """
import asyncio
from stream.worker.engine import Engine
from stream.kafka.transport import Consumer
seek, take = Consumer.perform_seek, Engine.take
async def seek_slowly(self):
    await seek(self)
    await asyncio.sleep(1)
async def take_slowly(self, poll):
    await asyncio.sleep(0.05)
    return await take(self, poll)
Consumer.perform_seek, Engine.take = seek_slowly, take_slowly
"""


@pytest.mark.no_cover
def test_nothing_is_read_before_it_can_be_taken(deploy: Deploy) -> None:
    """Between the end of recovery and the return of the flow, however long that takes: Faust then empties the queue of
    the agent, and what lay there would never be scored."""
    deployment = deploy(watchdog=False, batch_max_records=100)
    published = deployment.publish(simulated(100, 4))
    with deployment.running("worker", "first", fault=SLOW_TO_BEGIN) as first:
        deployment.wait(lambda: deployment.size(deployment.topics.scores) > 0, "first scores", first)
        with deployment.running("worker", "second", fault=SLOW_TO_BEGIN):
            deployment.wait_until_scored(first)
    assert len(deployment.outcome().scores) == published


@pytest.mark.parametrize(
    ("standby_replicas", "on_disk"), [(0, False), pytest.param(1, False, marks=pytest.mark.no_cover), (1, True)]
)
def test_two_workers_share_the_partitions(deploy: Deploy, standby_replicas: int, on_disk: bool, tmp_path: Path) -> None:
    """A second worker joins in the middle and the first leaves: every event is scored, each user's in order."""
    disks = [{"state_dir": tmp_path / name, "resident_users": 30} if on_disk else {} for name in ("one", "two")]
    deployment = deploy(watchdog=False, batch_max_records=250, standby_replicas=standby_replicas)
    events = simulated(80, 8)
    half = len(events) // 2
    deployment.publish(events[:half])
    with deployment.running("worker", "first", **disks[0]) as first:
        deployment.wait(lambda: deployment.size(deployment.topics.scores) > half // 4, "first scores", first)
        with deployment.running("worker", "second", **disks[1]) as second:
            deployment.publish(events[half:])
            deployment.wait(lambda: deployment.size(deployment.topics.scores) > half, "more scores", second)
            first.stop()
            deployment.wait_until_scored(second)
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    assert len({score.score_id for score in scores}) == len(events)
    sequences: dict[str, set[int]] = defaultdict(set)
    for score in scores:
        sequences[score.user_id].add(score.sequence)
    counts = Counter(event.user_id for event in events)
    assert {user: len(found) for user, found in sequences.items()} == counts
    assert all(max(found) == counts[user] for user, found in sequences.items())


def test_state_of_another_model_stops_the_worker(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    events = simulated(20, 3)
    deployment.publish(events)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    changelog = deployment.topics.changelog(deployment.settings.application_id)
    record = deployment.records(changelog)[0]
    foreign = bytearray(record.value)
    foreign[0] ^= 0xFF

    producer = open_producer(deployment.kafka)
    producer.send(changelog, key=record.key, value=bytes(foreign), partition=record.partition)
    producer.flush()
    producer.close()
    with deployment.running("worker", "again") as again:
        deployment.wait(lambda: not again.alive, "the worker's end", seconds=60)
        assert "Another model takes the place of live workers as a shadow that is promoted" in again.log_tail(200)


def test_an_unpaid_instalment_becomes_a_missed_event(deploy: Deploy) -> None:
    """The watchdog publishes it once, to the user's partition, and it is scored."""
    import datetime as dt

    from events.types import Repayment, Transaction

    deployment = deploy()
    start = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
    due = Repayment(
        event_id="due", user_id="silent", occurred_at=start, kind="due", amount_due=80.0, instalment_no=7,
        due_date=dt.date(2024, 3, 5),
    )  # fmt: skip
    others = [
        Transaction(event_id=f"t{n}", user_id="silent", occurred_at=start + dt.timedelta(hours=6 * n), amount=-1.0)
        for n in range(80)
    ]
    deployment.publish([due, *others])
    topic = deployment.topics.of_kind("repayments")
    with deployment.running("worker") as worker:
        deployment.wait(lambda: deployment.size(topic) == 2, "the missed event", worker)
        deployment.wait_until_scored(worker)
    with deployment.running("worker", "again") as again:
        deployment.wait(lambda: "users=" in again.log_tail(20), "the second worker's report", again)
    found = [(record.partition, record.value) for record in deployment.records(topic)]
    assert len(found) == 2
    assert found[0][0] == found[1][0]
    missed = msgspec.json.decode(found[1][1], type=Repayment)
    assert (missed.kind, missed.instalment_no, missed.due_date) == ("missed", 7, dt.date(2024, 3, 5))
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    assert [score.event_id for score in scores].count(missed.event_id) == 1
