"""Commands of the running parts: `worker`, `sink`, `simulate`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Never

import typer
from kafka.errors import KafkaError

from foreshock.options import database_of, kafka_failure, kafka_of, takes_settings
from foreshock.terminal import console, fail
from model.bundle import Bundle, BundleError
from stream.kafka.connection import KafkaConnection
from stream.kafka.refusal import BrokerRefuses
from stream.logs import told
from stream.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from stream.database.connection import DatabaseConnection
    from stream.kafka.rights import Right
    from stream.state.archive import Archives
    from stream.telemetry.health import Health, Probed, Standing
    from stream.telemetry.server import TelemetryServer
    from stream.topics import OutputTopics
    from stream.worker.app import WorkerApp
    from stream.worker.following import Following


@takes_settings(
    "bootstrap_servers",
    "topic_prefix",
    "application_id",
    "partitions",
    "bundle",
    "state_dir",
    "resident_users",
    "stack_dir",
    "metrics_port",
    "log_format",
)
def worker(
    *,
    settings: Settings,
    follow: Annotated[
        str | None,
        typer.Option(
            "--follow",
            metavar="APPLICATION",
            help="Take events in the order of this application_id, unseen, until it hands over.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Score events until stopped.

    Needs Kafka with its topics, and a model bundle. Start several to share the work, up to one for each partition.
    With `--follow`, workers publish nothing before the application that they follow hands over to them (`foreshock
    replay promote`, `rollback`); once it has, the option may stay or go.

        foreshock worker --bootstrap-servers kafka:9092
    """
    from stream.kafka.topic_reader import TopicUnreadable
    from stream.least_rights import follower_rights, worker_rights
    from stream.scoring.order_journal import UnreadableOrder
    from stream.shadow.run import followed
    from stream.topics import is_part_of_names

    if follow is None:
        run_worker(settings, admitting(settings, worker_rights(settings), settings.application_id))
    if not follow or not is_part_of_names(follow):
        raise typer.BadParameter("use letters, digits, dots, dashes and underscores", param_hint="--follow")
    if follow == settings.application_id:
        raise typer.BadParameter("name another application than this one (application_id)", param_hint="--follow")
    kafka = admitting(settings, follower_rights(settings, follow), settings.application_id)
    try:
        leading = settings.model_copy(update={"application_id": follow})
        following = followed(kafka, leading, settings.application_id, takes_over=True)
    except (TopicUnreadable, UnreadableOrder) as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
    run_worker(settings, kafka, following=following)


def may_lead(kafka: KafkaConnection, settings: Settings, followed: str) -> bool:
    """Whether workers have the rights to publish what is live, should the application that is `followed` hand over to
    them; the log says what is missing."""
    from stream.kafka.rights import missing_rights, not_allowed
    from stream.least_rights import follower_rights

    missing = missing_rights(kafka, follower_rights(settings, followed))
    if missing:
        logging.getLogger("foreshock").info(
            "nothing can be handed over to this worker: %s", not_allowed(kafka, missing)
        )
    return not missing


def run_worker(
    settings: Settings,
    kafka: KafkaConnection,
    *,
    following: Following | None = None,
    outputs: OutputTopics | None = None,
) -> Never:
    """Run a worker until it is stopped, then end the command; see `WorkerApp` for what it may follow and publish."""
    from stream.alerts.policy import PolicyError
    from stream.worker.app import WorkerApp

    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        with _archives(settings, kafka, bundle) as archives:
            started = WorkerApp(settings, kafka, bundle, archives, following=following, outputs=outputs)
            code = serve_worker(started, "worker")
    except (BundleError, PolicyError) as error:
        fail(str(error))
    raise typer.Exit(code)


def serve_worker(started: WorkerApp, name: str) -> int:
    """Run a worker until it is stopped, with its endpoints where its settings have a `metrics_port`; its exit code."""
    from stream.kafka.service import serve
    from stream.worker.health import standing_of

    settings = started.settings
    health = health_of(settings, lambda: standing_of(started))
    tell(settings, health, lambda: _collector(started, health))
    code = serve(
        started.app,
        lambda: started.failure.error,
        name,
        stall_timeout_s=settings.stall_timeout_s,
        on_look=health.look,
    )
    started.keep_drift()
    return code


def admitting(settings: Settings, rights: Sequence[Right], group: str) -> KafkaConnection:
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


def _collector(worker: WorkerApp, health: Health) -> Collector:
    from stream.worker.metrics import WorkerCollector

    return WorkerCollector(worker, health)


def health_of(settings: Settings, standing: Callable[[], Standing]) -> Health:
    from stream.kafka.stall import CHECK_S
    from stream.telemetry.health import Health

    return Health(
        standing,
        liveness_timeout_s=settings.liveness_timeout_s,
        commit_interval_s=settings.commit_interval_s,
        stall_timeout_s=settings.stall_timeout_s,
        look_s=CHECK_S,
    )


def tell(settings: Settings, health: Probed, collector: Callable[[], Collector]) -> None:
    """Serve health and metrics, if that is asked for."""
    server = telling(settings, health, collector)
    if server is not None:
        server.start()


def telling(settings: Settings, health: Probed, collector: Callable[[], Collector]) -> TelemetryServer | None:
    """A server of health and metrics that listens and is to be started; None where none is asked for."""
    if settings.metrics_port is None:
        return None
    from stream.telemetry.server import TelemetryServer

    try:
        server = TelemetryServer(settings.metrics_host, settings.metrics_port, [collector()], health)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        fail(f"metrics_port: {address} cannot be used ({error.strerror}); choose another, or 0 for a free one")
    console.print(f"metrics: http://{settings.metrics_host}:{server.server_port}/metrics")
    return server


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


@takes_settings(
    "bootstrap_servers",
    "database_url",
    "topic_prefix",
    "application_id",
    "stack_dir",
    "metrics_port",
    "log_format",
)
def sink(*, settings: Settings) -> None:
    """Write scores, alerts and dead letters into PostgreSQL.

    Runs until stopped. Needs Kafka with its topics, and a database with the current schema (`foreshock db upgrade`).

        foreshock sink --config production.toml
    """
    from stream.database.probe import DatabaseProbe
    from stream.kafka.service import serve
    from stream.least_rights import sink_rights
    from stream.sink import SinkApp
    from stream.sink_metrics import SinkCollector, standing_of
    from stream.topics import sink_group

    kafka = admitting(settings, sink_rights(settings), sink_group(settings.readers))
    database = _holding_text(database_of(settings))
    started, probe = SinkApp(settings, kafka, database), DatabaseProbe(database)
    health = health_of(settings, lambda: standing_of(started, probe))
    if settings.metrics_port is not None:
        probe.start()
    tell(settings, health, lambda: SinkCollector(started, health, probe))
    code = serve(
        started.app,
        lambda: started.failure.error,
        "sink",
        stall_timeout_s=settings.stall_timeout_s,
        on_look=health.look,
    )
    raise typer.Exit(code)
