"""The processes of `replay run`: workers that follow the journal, and the wait until they have taken everything."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from foreshock.terminal import fail
from stream.embedded.server import ServerProcess
from stream.event_archive.manifest import ArchiveError
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from stream.replay.range import ReplayError
from stream.replay.run import Assignment, replay_settings
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.replay.plan import ReplayPlan

LOOK_EVERY_S = 0.5

Offsets = Mapping[tuple[str, int], int]


def follow_in_processes(
    kafka: KafkaConnection,
    settings: Settings,
    plan: ReplayPlan,
    workers: int,
    events_per_s: float | None,
    on_progress: Callable[[int, int], None],
    metrics_port: int | None = None,
) -> Counter[str]:
    """Run workers of a replay until the group has taken everything; returns what these have counted. They have
    endpoints at ports from `metrics_port` on, free ones where it is 0.

    Other machines may run workers of the same replay beside them. Raises `ReplayError` when one ends by itself.
    """
    group = replay_settings(settings, plan.replayed.name, plan.partitions).application_id
    with tempfile.TemporaryDirectory(prefix="foreshock-replay-") as folder, ExitStack() as opened:
        counts = Path(folder) / "counts"
        counts.mkdir()
        share = None if events_per_s is None else events_per_s / workers
        assignment = Path(folder) / "assignment.json"
        assignment.write_bytes(msgspec.json.encode(Assignment.of(plan, share, settings.application_id)))
        admin = opened.enter_context(_closing(open_admin(kafka)))
        with _environment(kafka, settings):
            command = [sys.executable, "-m", "foreshock", "replay", "work", str(assignment), str(counts)]
            running = []
            for number in range(1, workers + 1):
                port = [] if metrics_port is None else ["--port", str(metrics_port and metrics_port + number - 1)]
                log = Path(folder) / f"worker-{number}.log"
                process = ServerProcess(f"worker-{number}", [*command, *port], log)
                process.start()
                opened.callback(process.stop)
                running.append(process)
        while not plan.is_done(committed := _committed(admin, group)):
            on_progress(plan.done(committed), plan.offsets)
            for process in running:
                if not process.alive:
                    raise ReplayError(f"{process.name} of the replay has ended:\n{process.log_tail()}")
            time.sleep(LOOK_EVERY_S)
        on_progress(plan.offsets, plan.offsets)
        for process in running:
            process.stop()
        total: Counter[str] = Counter()
        for path in counts.iterdir():
            total.update(msgspec.json.decode(path.read_bytes()))
        return total


def work(
    settings: Settings, kafka: KafkaConnection, assignment: Path, counts: Path, metrics_port: int | None = None
) -> int:
    """Be one of these workers, until stopped. Returns the exit code."""
    from foreshock.services import serve_worker
    from model.bundle import Bundle, BundleError
    from stream.alerts.policy import PolicyError
    from stream.worker.app import WorkerApp

    told = msgspec.json.decode(assignment.read_bytes(), type=Assignment)
    own = replay_settings(settings, told.name, told.partitions).model_copy(update={"metrics_port": metrics_port})
    try:
        bundle = Bundle.load(own.bundle, own.bundle_public_key)
        app = WorkerApp(
            own, kafka, bundle, following=told.following(), outputs=own.topics.replay_outputs(told.name),
            earlier_records=told.feed(),
        )  # fmt: skip
        code = serve_worker(app, "replay")
    except (ArchiveError, BundleError, PolicyError) as error:
        fail(str(error))
    (counts / str(os.getpid())).write_bytes(msgspec.json.encode(app.engine.counts))
    return code


@contextmanager
def _closing(admin: Any) -> Iterator[Any]:
    try:
        yield admin
    finally:
        admin.close()


@contextmanager
def _environment(kafka: KafkaConnection, settings: Settings) -> Iterator[None]:
    """What options of this command have set, for the processes that it starts."""
    given = {
        "FORESHOCK_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FORESHOCK_TOPIC_PREFIX": settings.topic_prefix,
        "FORESHOCK_APPLICATION_ID": settings.application_id,
        "FORESHOCK_BUNDLE": str(settings.bundle.resolve()),
        "FORESHOCK_LOG_FORMAT": settings.log_format,
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _committed(admin: Any, group: str) -> Offsets:
    try:
        found = admin.list_group_offsets({group: None}).get(group, {})
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
        return {}
    return {(tp.topic, tp.partition): offset.offset for tp, offset in found.items()}
