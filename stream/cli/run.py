"""Commands of the running parts: `worker`, `sink`, `simulate`."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from model.bundle import Bundle, BundleError
from model.datasets import DatasetError, open_dataset
from stream.cli.options import (
    ApplicationId,
    BootstrapServers,
    BundlePath,
    Config,
    DatabaseUrl,
    Partitions,
    StackDir,
    TopicPrefix,
    console,
    fail,
    settings_of,
    with_addresses,
)
from stream.publisher import keyed_events_of, open_publisher


def worker(
    config: Config = None,
    bootstrap_servers: BootstrapServers = None,
    topic_prefix: TopicPrefix = None,
    application_id: ApplicationId = None,
    partitions: Partitions = None,
    bundle: BundlePath = None,
    stack_dir: StackDir = None,
) -> None:
    """Score events until stopped: start as many of these as there is work for, up to one per partition."""
    from stream.app import WorkerApp
    from stream.policy import PolicyError
    from stream.service import serve, set_up_logging

    settings = settings_of(
        config,
        bootstrap_servers=bootstrap_servers,
        topic_prefix=topic_prefix,
        application_id=application_id,
        partitions=partitions,
        bundle=bundle,
        stack_dir=stack_dir,
    )
    set_up_logging(settings.log_level)
    servers, _ = with_addresses(settings, database=False)
    try:
        started = WorkerApp(settings, servers, Bundle.load(settings.bundle))
    except (BundleError, PolicyError) as error:
        fail(str(error))
    raise typer.Exit(serve(started.app, lambda: started.engine.failure, "worker"))


def sink(
    config: Config = None,
    bootstrap_servers: BootstrapServers = None,
    database_url: DatabaseUrl = None,
    topic_prefix: TopicPrefix = None,
    application_id: ApplicationId = None,
    stack_dir: StackDir = None,
) -> None:
    """Write scores, alerts and dead letters into PostgreSQL until stopped."""
    from stream.service import serve, set_up_logging
    from stream.sink import SinkApp

    settings = settings_of(
        config,
        bootstrap_servers=bootstrap_servers,
        database_url=database_url,
        topic_prefix=topic_prefix,
        application_id=application_id,
        stack_dir=stack_dir,
    )
    set_up_logging(settings.log_level)
    servers, url = with_addresses(settings)
    started = SinkApp(settings, servers, url)
    raise typer.Exit(serve(started.app, lambda: started.failure, "sink"))


def simulate(
    users: Annotated[int, typer.Option(min=1, help="Borrowers in the portfolio.")] = 2_000,
    months: Annotated[int, typer.Option(min=1, help="Months of their lives.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write JSON lines to this file instead of publishing.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")] = None,
    config: Config = None,
    bootstrap_servers: BootstrapServers = None,
    topic_prefix: TopicPrefix = None,
    stack_dir: StackDir = None,
) -> None:
    """Publish the events of a simulated portfolio to the input topics, in the order of event time."""
    settings = settings_of(config, bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, stack_dir=stack_dir)
    try:
        dataset = open_dataset("simulator", None, users=users, months=months, seed=seed)
    except DatasetError as error:
        fail(str(error))
    events = itertools.islice(keyed_events_of(dataset), limit)
    if out is not None:
        with out.open("wb") as file, event_progress("writing") as progress:
            task = progress.add_task("writing", total=limit)
            for number, (kind, _, value, _) in enumerate(events, start=1):
                file.write(b'{"topic":"%s","event":%s}\n' % (settings.topics.of_kind(kind).encode(), value))
                if number % 1_000 == 0:
                    progress.update(task, completed=number)
        console.print(f"wrote {out}")
        return
    servers, _ = with_addresses(settings, database=False)

    async def publish() -> int:
        with event_progress("publishing") as progress:
            task = progress.add_task("publishing", total=limit)
            async with open_publisher(servers, settings.topics) as publisher:
                return await publisher.publish(events, lambda sent, _: progress.update(task, completed=sent))

    try:
        published = asyncio.run(publish())
    except KafkaError as error:
        fail(f"{servers}: {error!r}; is the broker up, and do the topics exist? `foreshock doctor` tells")
    console.print(f"published {published:,} events")


def event_progress(_what: str) -> Progress:
    """A progress bar that counts events."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
