"""Commands of the running parts: `worker`, `sink`, `simulate`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from aiokafka.errors import KafkaError

from foreshock.options import (
    LateOption,
    TwiceOption,
    console,
    database_of,
    event_progress,
    fail,
    kafka_of,
    takes_settings,
)
from model.bundle import Bundle, BundleError
from model.datasets.dataset import DatasetError
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import open_publisher
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.state.archive import Archives
    from stream.worker.app import WorkerApp


@takes_settings(
    "bootstrap_servers",
    "topic_prefix",
    "application_id",
    "partitions",
    "bundle",
    "state_dir",
    "resident_users",
    "stack_dir",
)
def worker(*, settings: Settings) -> None:
    """Score events until stopped: start as many of these as there is work for, up to one per partition."""
    from stream.alerts.policy import PolicyError
    from stream.kafka.service import serve, set_up_logging
    from stream.worker.app import WorkerApp

    set_up_logging(settings.log_level)
    kafka = kafka_of(settings)
    try:
        bundle = Bundle.load(settings.bundle)
        with _archives(settings, kafka, bundle) as archives:
            started = WorkerApp(settings, kafka, bundle, archives)
            _publish_metrics(settings, started)
            code = serve(started.app, lambda: started.failure.error, "worker")
    except (BundleError, PolicyError) as error:
        fail(str(error))
    raise typer.Exit(code)


def _publish_metrics(settings: Settings, started: WorkerApp) -> None:
    from stream.worker.metrics import serve_metrics

    if settings.metrics_port is None:
        return
    try:
        port = serve_metrics(started.engine, started.lag, settings.metrics_host, settings.metrics_port)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        fail(f"metrics_port: {address} cannot be used ({error.strerror}); choose another, or 0 for a free one")
    console.print(f"metrics: http://{settings.metrics_host}:{port}/metrics", highlight=False)


@contextmanager
def _archives(settings: Settings, kafka: KafkaConnection, bundle: Bundle) -> Iterator[Archives | None]:
    """Where the worker keeps users' rows on disk, if it is to."""
    if settings.state_dir is None:
        yield None
        return
    from stream.kafka.provisioning import ProvisioningError, topic_id
    from stream.state.archive import ArchiveError, Archives, Origin
    from stream.state.row import row_dtype

    changelog = settings.topics.changelog(settings.application_id)
    try:
        origin = Origin(topic_id(kafka, changelog), bundle.fingerprint, row_dtype(bundle.state_width).itemsize)
        archives = Archives(settings.state_dir / changelog, origin, settings.state_memory_mib << 20)
    except (ArchiveError, ProvisioningError) as error:
        fail(str(error))
    try:
        yield archives
    finally:
        archives.close_all()


@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir")
def sink(*, settings: Settings) -> None:
    """Write scores, alerts and dead letters into PostgreSQL until stopped."""
    from stream.kafka.service import serve, set_up_logging
    from stream.sink import SinkApp

    set_up_logging(settings.log_level)
    started = SinkApp(settings, kafka_of(settings), database_of(settings))
    raise typer.Exit(serve(started.app, lambda: started.failure.error, "sink"))


@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir")
def simulate(
    *,
    settings: Settings,
    users: Annotated[int, typer.Option(min=1, help="Borrowers in the portfolio.")] = 2_000,
    months: Annotated[int, typer.Option(min=1, help="Months of their lives.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write JSON lines to this file instead of publishing.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")] = None,
    late: LateOption = 0.0,
    twice: TwiceOption = 0.0,
) -> None:
    """Publish the events of a simulated portfolio to the input topics, in the order of event time.

    Real feeds deliver some events late and some twice: --late 0.02 --twice 0.005 is an ordinary one.
    """
    try:
        dataset = open_dataset("simulator", None, users=users, months=months, seed=seed)
    except DatasetError as error:
        fail(str(error))
    events = itertools.islice(arrivals_of(dataset, late, twice, seed), limit)
    if out is not None:
        with out.open("wb") as file, event_progress() as progress:
            task = progress.add_task("writing", total=limit)
            for number, (kind, _, value, _) in enumerate(events, start=1):
                file.write(b'{"topic":"%s","event":%s}\n' % (settings.topics.of_kind(kind).encode(), value))
                if number % 1_000 == 0:
                    progress.update(task, completed=number)
        console.print(f"wrote {out}")
        return
    kafka = kafka_of(settings)

    async def publish() -> int:
        with event_progress() as progress:
            task = progress.add_task("publishing", total=limit)
            async with open_publisher(kafka, settings.topics) as publisher:
                return await publisher.publish(events, lambda sent, _: progress.update(task, completed=sent))

    try:
        published = asyncio.run(publish())
    except KafkaError as error:
        fail(f"{kafka}: {error!r}; is the broker up, and do the topics exist? `foreshock doctor` tells")
    console.print(f"published {published:,} events")
