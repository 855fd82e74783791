"""Another model takes the live outputs over, and gives them back, while events flow and processes are killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.challenger import challenger_of
from bench.chaos.succession import judge_succession
from events.types import KeyedEvent, keyed
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.kafka.clients import open_admin
from stream.kafka.publisher import open_publisher
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, Score
from stream.settings import PRETRAINED_BUNDLE
from stream.topics import shadow_application
from tests import forked

Deploy = Callable[..., Any]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network under other thresholds: another model, which opens more alerts."""
    return challenger_of(PRETRAINED_BUNDLE, tmp_path_factory.mktemp("bundles") / "challenger")


class Feed:
    """Publishes events at a steady rate, beside the test."""

    def __init__(self, deployment: Any, events: list[KeyedEvent], per_s: int) -> None:
        self._deployment = deployment
        self._events = events
        self._per_s = per_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.published = 0

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._publish())

    async def _publish(self) -> None:
        begun_s = time.monotonic()
        async with open_publisher(self._deployment.kafka, self._deployment.topics) as publisher:
            while self.published < len(self._events) and not self._stopped.is_set():
                due = min(int((time.monotonic() - begun_s) * self._per_s), len(self._events))
                if due > self.published:
                    await publisher.publish(self._events[self.published : due])
                    self.published = due
                await asyncio.sleep(0.2)


class Supervisor:
    """Starts processes again when they end, unless they say that another application has taken over."""

    def __init__(self, deployment: Any, command: str, name: str, **options: Any) -> None:
        self._deployment = deployment
        self._command = command
        self._name = name
        self._options = options
        self._opened = ExitStack()
        self._starts = 0
        self.running: dict[int, Any] = {}
        self.ended: list[str] = []

    def start(self, number: int) -> None:
        self._starts += 1
        name = f"{self._name}-{number}-{self._starts}"
        self.running[number] = self._opened.enter_context(
            self._deployment.running(self._command, name, **self._options)
        )

    def look(self) -> None:
        for number, process in list(self.running.items()):
            if not process.alive:
                if "was handed over to" in process.log_text():
                    self.ended.append(process.log_text())
                    del self.running[number]
                else:
                    self.start(number)

    def kill(self, number: int) -> None:
        self._deployment.kill(self.running[number])

    def close(self) -> None:
        self._opened.close()


@contextmanager
def supervised(*supervisors: Supervisor) -> Iterator[None]:
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(0.3):
            for supervisor in supervisors:
                supervisor.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for supervisor in supervisors:
            supervisor.close()


def foreshock(
    deployment: Any, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [
        *arguments,
        "--bootstrap-servers", str(deployment.kafka),
        "--topic-prefix", deployment.topics.prefix,
        "--application-id", deployment.settings.application_id,
    ]  # fmt: skip
    return forked.run(command, timeout_s=180, environment=environment)


def caught_up(deployment: Any, group: str) -> bool:
    inputs = deployment.topics.inputs
    return bool(deployment.committed(group, inputs) == deployment.size(*inputs))


HALF_WAY = """
import asyncio, os
from stream.hand_over.fence import Fence
hand_over = Fence.hand_over
first = asyncio.Event()
async def in_turn(self, *arguments):
    if self._partition:
        await first.wait()
        os._exit(9)
    await hand_over(self, *arguments)
    first.set()
Fence.hand_over = in_turn
"""
"""Ends the command when one of two partitions is handed over."""


def test_a_model_takes_over_and_gives_back_while_events_flow_and_workers_are_killed(
    deploy: Deploy, challenger: Path
) -> None:
    live = deploy(partitions=2, batch_max_records=500, session_timeout_s=2.0, heartbeat_interval_s=0.5)
    giver = live.settings.application_id
    taker = shadow_application(giver, "may")
    events = list(keyed(open_dataset("simulator", users=300, months=12, seed=11).events()))
    champion = Supervisor(live, "worker", "champion")
    # Long enough to count as there when it is killed just before the command asks who is.
    shadow = Supervisor(live, "shadow run may", "shadow", bundle=challenger, session_timeout_s=6.0)
    former = Supervisor(live, f"worker --follow {taker}", "former")
    live.publish_records(events[:2000])
    with supervised(champion, shadow, former), Feed(live, events[2000:], per_s=120) as feed:
        for number in range(2):
            champion.start(number)
        live.wait(lambda: live.committed(giver, live.topics.inputs) > 1500, "the live workers")
        shadow.start(0)
        live.wait(lambda: live.committed(taker, live.topics.inputs) > 1750, "the shadow")
        before = reigning(live, 0)

        with live.running("replay promote may", "half-way", fault=HALF_WAY) as half_way:
            live.wait(lambda: not half_way.alive, "the command to end half-way")
        live.wait(lambda: reigning(live, 0) != before, "the new model in the partition that was handed over")
        await_scores(live, 1, "the model before in the other one")
        assert champion.running
        assert len(reigns(live)[1]) == 1
        shadow.kill(0)
        champion.kill(max(champion.running))
        promoted = foreshock(live, "replay", "promote", "may", "--json")
        assert promoted.returncode == 0, promoted.stdout + promoted.stderr
        told = json.loads(promoted.stdout)
        assert (told["partitions"], told["handed_over_now"]) == (2, [1])
        again = foreshock(live, "replay", "promote", "may")
        assert "there was nothing to do" in again.stdout, again.stdout + again.stderr
        shadow.kill(0)
        live.wait(lambda: not champion.running, "the workers before to end")
        assert f"handed over to {taker}" in champion.ended[0]
        assert "Traceback" not in champion.ended[0], "an orderly end"
        await_scores(live, 1, "scores of the new model")

        former.start(0)
        inputs = live.topics.inputs
        live.wait(
            lambda: live.committed(giver, inputs) + 1000 > live.committed(taker, inputs), "the model before to follow"
        )
        back = foreshock(live, "replay", "rollback", "may", "--json")
        assert back.returncode == 0, back.stdout + back.stderr
        former.kill(0)
        await_scores(live, 1, "scores of the model before")
        feed.stop()
        for group in (giver, taker):
            live.wait(lambda group=group: caught_up(live, group), f"{group} to have taken everything")
            live.wait(lambda group=group: caught_up(live, group), f"{group} to have taken everything")
    own = live.settings.model_copy(update={"application_id": taker, "bundle": challenger})
    verdict = judge_succession(live.kafka, [live.settings, own])
    assert verdict.is_right, verdict
    assert len(verdict.by_model) == 2
    assert [len(found) for found in reigns(live)] == [3, 3]


def test_a_policy_is_planned_replayed_compared_handed_over_and_taken_back(
    deploy: Deploy, database: DatabaseConnection
) -> None:
    """The same model with other days of cure and another backstop, by settings alone."""
    migration.upgrade(database)
    live = deploy(partitions=1, batch_max_records=500)
    giver = live.settings.application_id
    taker = shadow_application(giver, "strict")
    strict = {"alert_cure_days": 5.0, "alert_dpd_backstop": 3.0, "alert_cooldown_days": 1.0}
    environment = os.environ | {f"FORESHOCK_{name.upper()}": str(value) for name, value in strict.items()}
    events = list(keyed(open_dataset("simulator", users=40, months=10, seed=12).events()))
    parts = [events[start : start + len(events) // 4 + 1] for start in range(0, len(events), len(events) // 4 + 1)]
    whole = ("--from", "2000-01-01", "--to", "2100-01-01")

    def asked(*arguments: str, code: int = 0) -> str:
        """What a command says that runs under the new policy."""
        of_database = () if arguments[1] == "plan" else ("--database-url", database.url)
        done = foreshock(live, *arguments, *of_database, environment=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def handed_over(direction: str) -> None:
        done = foreshock(live, "replay", direction, "strict", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["handed_over_now"] == [0]

    def policies() -> list[str]:
        """One after the other, of all alerts in the topic."""
        found: list[str] = []
        for record in live.records(live.topics.alerts):
            policy = msgspec.json.decode(record.value, type=Alert).policy
            if found[-1:] != [policy]:
                found.append(policy)
        return found

    champion = Supervisor(live, "worker", "champion")
    shadow = Supervisor(live, "shadow run strict", "shadow", **strict)
    former = Supervisor(live, f"worker --follow {taker}", "former")

    def takes(part: list[KeyedEvent], *groups: str) -> None:
        live.publish_records(part)
        for group in groups * 2:
            live.wait(lambda group=group: caught_up(live, group), f"{group} to have taken everything")

    with supervised(champion, shadow, former):
        champion.start(0)
        takes(parts[0], giver)
        assert json.loads(asked("replay", "plan", "strict", *whole, "--json"))["offsets"] >= len(parts[0])
        asked("replay", "run", "strict", *whole)
        figures = json.loads(asked("replay", "diff", "strict", "--json", code=3))
        assert figures["moved"] == 0, "a policy changes no score"
        assert figures["alerts_gained"] or figures["alerts_earlier"]
        shadow.start(0)
        takes(parts[1], giver, taker)
        handed_over("promote")
        takes(parts[2], taker)
        former.start(0)
        takes([], giver, taker)
        handed_over("rollback")
        takes(parts[3], giver, taker)
    assert len(policies()) == 3
    assert policies()[0] == policies()[2]
    own = live.settings.model_copy(update={"application_id": taker, **strict})
    verdict = judge_succession(live.kafka, [live.settings, own])
    assert verdict.is_right, verdict


def test_what_stands_against_a_hand_over_is_told(deploy: Deploy, challenger: Path) -> None:
    """Also to workers that were relieved of all so long ago that the broker has forgotten their offsets."""
    live = deploy(partitions=1)
    giver = live.settings.application_id
    taker = shadow_application(giver, "may")
    live.publish(list(open_dataset("simulator", users=10, months=4, seed=2).events()))
    none = foreshock(live, "replay", "promote", "may")
    assert none.returncode == 1
    assert f"the workers of {giver} have committed nothing of partition 0" in none.stderr
    with live.running("worker", "first") as worker:
        live.wait_until_scored(worker)
        absent = foreshock(live, "replay", "promote", "may")
        assert f"no worker of {taker} has followed {giver} in partition 0" in absent.stderr
        with live.running("shadow run may", bundle=challenger) as shadow:
            live.wait(lambda: caught_up(live, taker), "the shadow", shadow)
        stopped = foreshock(live, "replay", "promote", "may")
        assert f"no worker of {taker} runs" in stopped.stderr
        plain = live.running("worker", "too-early", bundle=challenger, application_id=taker)
        with plain as process:
            live.wait(lambda: not process.alive, "the worker to end")
        assert f"application_id {taker} follows {giver}" in process.log_text()
        with live.running("shadow run may", "again", bundle=challenger) as shadow:
            live.wait(lambda: "read from the changelog" in shadow.log_text(), "the shadow to run", shadow)
            promoted = foreshock(live, "replay", "promote", "may")
            assert promoted.returncode == 0, promoted.stdout + promoted.stderr
            live.publish(list(open_dataset("simulator", users=10, months=1, seed=4).events()))
            live.wait(lambda: not worker.alive, "the worker before to end, at its next commit")
    refused = foreshock(live, "shadow", "remove", "may")
    assert "shadow may was promoted" in refused.stderr
    with live.running("worker", "live", bundle=challenger, application_id=taker) as process:
        size = live.size(live.topics.scores)
        live.publish(list(open_dataset("simulator", users=10, months=1, seed=3).events()))
        live.wait(lambda: caught_up(live, taker), "the new live worker", process)
        assert live.size(live.topics.scores) > size
    admin = open_admin(live.kafka)
    try:
        assert dict(admin.delete_groups([giver]))[giver] == "OK"
    finally:
        admin.close()
    with live.running("worker", "forgotten") as process:
        live.wait(lambda: not process.alive, "the worker to end")
    assert f"handed over to {taker}" in process.log_text()
    assert "the broker has forgotten its offsets" in process.log_text()
    ended = [line for line in process.log_text().splitlines() if "handed over to" in line]
    assert len(ended) == 1, process.log_text()
    assert "Traceback" not in process.log_text()


def await_scores(deployment: Any, partition: int, what: str) -> None:
    """Until a hundred more scores and one stand in a partition than there are now."""
    topic = deployment.topics.scores
    with TopicReader(deployment.kafka) as reader:
        _, since = reader.span(topic, partition)
        deployment.wait(lambda: sum(1 for _ in reader.each(topic, partition, since)) > 100, what)


def reigning(deployment: Any, partition: int) -> str:
    """The model of the last score in a partition."""
    with TopicReader(deployment.kafka) as reader:
        return msgspec.json.decode(reader.last(deployment.topics.scores, partition).value, type=Score).model


def reigns(deployment: Any) -> list[list[str]]:
    """By partition, the models whose scores stand in the topic, one after the other."""
    found: list[list[str]] = [[] for _ in range(deployment.settings.partitions)]
    for record in deployment.records(deployment.topics.scores):
        model = msgspec.json.decode(record.value, type=Score).model
        if found[record.partition][-1:] != [model]:
            found[record.partition].append(model)
    return found
