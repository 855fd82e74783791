"""Commands of the running parts: `worker`, `sink`, `simulate`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer
from kafka.errors import KafkaError

from foreshock.options import database_of, kafka_of, takes_settings
from foreshock.terminal import console, fail
from model.bundle import Bundle, BundleError
from stream.kafka.connection import KafkaConnection
from stream.kafka.refusal import BrokerRefuses
from stream.logs import told
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.database.connection import DatabaseConnection
    from stream.kafka.rights import Right
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
    "log_format",
)
def worker(*, settings: Settings) -> None:
    """Score events until stopped.

    Needs Kafka with its topics, and a model bundle. Start several to share the work, up to one for each partition.

        foreshock worker --bootstrap-servers kafka:9092
    """
    from stream.alerts.policy import PolicyError
    from stream.kafka.service import serve
    from stream.least_rights import worker_rights
    from stream.worker.app import WorkerApp

    kafka = _admitting(settings, worker_rights(settings), settings.application_id)
    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        with _archives(settings, kafka, bundle) as archives:
            started = WorkerApp(settings, kafka, bundle, archives)
            _publish_metrics(settings, started)
            code = serve(started.app, lambda: started.failure.error, "worker", stall_timeout_s=settings.stall_timeout_s)
    except (BundleError, PolicyError) as error:
        fail(str(error))
    raise typer.Exit(code)


def _admitting(settings: Settings, rights: Sequence[Right], group: str) -> KafkaConnection:
    """How to reach brokers that let this client in, give it these rights, and have a coordinator of its group.

    Ends the command where TLS or SASL fails or a right is missing: Faust would try again for ever, and only its log
    would say that something is wrong.
    """
    from stream.kafka.clients import require_access
    from stream.kafka.coordinator import await_coordinator
    from stream.kafka.rights import require_rights

    kafka = kafka_of(settings)
    try:
        require_access(kafka)
        await_coordinator(kafka, group)
        require_rights(kafka, rights)
    except (OSError, KafkaError) as error:
        if isinstance(error, BrokerRefuses):
            raise
        # Brokers that go away meanwhile are waited for as those that are not there yet.
        logging.getLogger("foreshock").warning("the rights at %s could not be looked at: %s", kafka, told(error))
    return kafka


def _holding_text(database: DatabaseConnection) -> DatabaseConnection:
    """The database; ends the command where its encoding lacks characters, which would only be found at some record.

    For one that is away the sink waits.
    """
    from stream.database.errors import DatabaseEncodingError, DatabaseUnavailable

    with suppress(DatabaseUnavailable):
        try:
            database.connect("foreshock-sink").close()
        except DatabaseEncodingError as error:
            fail(str(error))
    return database


def _publish_metrics(settings: Settings, started: WorkerApp) -> None:
    if settings.metrics_port is None:
        return
    from stream.worker.metrics import serve_metrics

    try:
        port = serve_metrics(started.engine, started.lag, settings.metrics_host, settings.metrics_port)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        fail(f"metrics_port: {address} cannot be used ({error.strerror}); choose another, or 0 for a free one")
    console.print(f"metrics: http://{settings.metrics_host}:{port}/metrics")


@contextmanager
def _archives(settings: Settings, kafka: KafkaConnection, bundle: Bundle) -> Iterator[Archives | None]:
    """Where the worker keeps users' rows on disk, if it is to."""
    if settings.state_dir is None:
        yield None
        return
    from stream.kafka.provisioning import ProvisioningError, topic_id
    from stream.state.archive import ArchiveError, Archives, Origin
    from stream.state.row import row_dtype
    from stream.topics import CHANGELOG_TOMBSTONE_DAYS

    changelog = settings.topics.changelog(settings.application_id)
    try:
        origin = Origin(topic_id(kafka, changelog), bundle.fingerprint, row_dtype(bundle.state_width).itemsize)
        # A day less: the deletions must still be there when the changelog is read to its end.
        archives = Archives(
            settings.state_dir / changelog,
            origin,
            settings.state_memory_mib << 20,
            most_days_away=CHANGELOG_TOMBSTONE_DAYS - 1,
        )
    except (ArchiveError, ProvisioningError) as error:
        fail(str(error))
    try:
        yield archives
    finally:
        archives.close_all()


@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir", "log_format")
def sink(*, settings: Settings) -> None:
    """Write scores, alerts and dead letters into PostgreSQL.

    Runs until stopped. Needs Kafka with its topics, and a database with the current schema (`foreshock db upgrade`).

        foreshock sink --config production.toml
    """
    from stream.kafka.service import serve
    from stream.least_rights import sink_rights
    from stream.sink import SinkApp
    from stream.topics import sink_group

    kafka = _admitting(settings, sink_rights(settings), sink_group(settings.application_id))
    started = SinkApp(settings, kafka, _holding_text(database_of(settings)))
    code = serve(started.app, lambda: started.failure.error, "sink", stall_timeout_s=settings.stall_timeout_s)
    raise typer.Exit(code)
