"""Checks what a deployment needs (broker, topics, keys, database, bundle) and says what is wrong and what to do.

Reads only: creates nothing, commits no offset, joins no consumer group.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from faust.types import TP
from kafka import TopicPartition
from kafka.errors import KafkaError

from model.bundle import Bundle, BundleError, read_manifest
from stream.database import migration, registry
from stream.database.connection import UNCHECKED_ENCODING, DatabaseConnection
from stream.database.errors import DatabaseEncodingError, DatabaseError
from stream.database.summary import without_amounts
from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Committed, committed_by
from stream.kafka.provisioning import BROKER_TIMEOUT_MS, Finding, ProvisioningError, check_topics, reachable
from stream.kafka.recent_records import RecentRecords
from stream.kafka.rights import NotAllowed, Right, denial, missing_rights, not_allowed
from stream.kafka.topic_sizes import GroupLag, group_lags
from stream.least_rights import sink_rights, worker_rights
from stream.logs import told
from stream.retention.plan import find_facts
from stream.retention.rules import judge_retention
from stream.scoring.order_journal import OrderRecord, UnreadableOrder
from stream.settings import Settings
from stream.state.row import row_dtype
from stream.status import standings
from stream.topics import webhook_group
from stream.webhooks.deliveries import DeliveryTable
from stream.webhooks.judgement import judge_webhooks

SAMPLE_RECORDS = 20_000
"""How many of the latest input records are looked at for users on two partitions: about a second's reading."""

SAMPLE_TIMEOUT_S = 20.0
_NAMED_USERS = 3

Places = Mapping[str, frozenset[tuple[str, int]]]
"""User id to the topics and partitions that hold events of theirs."""


def examine(
    settings: Settings,
    kafka: KafkaConnection | None,
    database: DatabaseConnection | None,
    *,
    sample_records: int = SAMPLE_RECORDS,
) -> Iterator[Finding]:
    """Yields findings as they are made, the most basic first. A connection that is None is reported as a finding."""
    yield from _broker_findings(settings, kafka, sample_records)
    yield from _database_findings(settings, database, kafka)
    finding, bundle = _bundle_finding(settings)
    yield finding
    if kafka is not None and bundle is not None:
        yield from _state_findings(settings, kafka, bundle)


def _broker_findings(settings: Settings, kafka: KafkaConnection | None, sample_records: int) -> Iterator[Finding]:
    if kafka is None:
        yield Finding(
            "error",
            "broker",
            f"no address was given and no embedded stack runs in {settings.stack_dir}",
            "give --bootstrap-servers, or start the embedded stack: `foreshock up`",
        )
        return
    try:
        topics = check_topics(kafka, settings)
    except (ProvisioningError, NotAllowed) as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Finding("error", "broker", what, remedy)
        return
    yield Finding("ok", "broker", f"{kafka} answers")
    yield from topics
    yield from _retention_findings(settings, kafka)
    try:
        yield judge_rights(kafka, missing_rights(kafka, (*worker_rights(settings), *sink_rights(settings))))
    except (KafkaError, OSError) as error:
        yield Finding("warning", "rights", f"could not be looked at: {error}", "try again when the brokers answer")
    try:
        yield judge_places(places_of_users(kafka, settings, sample_records))
    except (KafkaError, ProvisioningError) as error:
        yield Finding(
            "warning",
            "users' partitions",
            f"the input topics could not be read: {told(denial(error, kafka) or error)}",
            "check that this client may read them",
        )


def _retention_findings(settings: Settings, kafka: KafkaConnection) -> Iterator[Finding]:
    """By the rules of `foreshock retention plan`."""
    try:
        yield from judge_retention(settings, find_facts(kafka, settings, time.time_ns() // 1_000_000))
    except (KafkaError, ProvisioningError, NotAllowed) as error:
        yield Finding(
            "warning",
            "retention",
            f"could not be looked at: {told(denial(error, kafka) or error)}",
            "check that this client may describe groups and read the topics",
        )


def judge_rights(kafka: KafkaConnection, missing: Sequence[Right]) -> Finding:
    """Whether this client has what a worker and a sink need. Each may well have its own user. Does no I/O."""
    if not missing:
        return Finding("ok", "rights", "this client has all that a worker and a sink need")
    what, _, remedy = str(not_allowed(kafka, missing)).partition("; grant it: ")
    return Finding("warning", "rights", f"for a worker or a sink, {what}", f"grant it: {remedy}")


def places_of_users(kafka: KafkaConnection, settings: Settings, sample_records: int = SAMPLE_RECORDS) -> Places:
    """Topics and partitions that hold each user's events, from the latest records of every input partition.

    Reads about `sample_records` records in all, for at most `SAMPLE_TIMEOUT_S`. Records without a usable key are
    skipped: workers report those themselves. Raises `KafkaError`, `ProvisioningError`.
    """
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    consumer = open_consumer(
        reachable(kafka), bootstrap_timeout_ms=BROKER_TIMEOUT_MS, group_id=None, enable_auto_commit=False
    )
    try:
        present = consumer.topics()
        partitions = [
            TopicPartition(topic, partition)
            for topic in settings.topics.inputs
            if topic in present
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        if not partitions:
            return {}
        consumer.assign(partitions)
        first, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        quota = max(1, sample_records // len(partitions))
        for partition in partitions:
            consumer.seek(partition, max(first[partition], ends[partition] - quota))
        deadline = time.monotonic() + SAMPLE_TIMEOUT_S
        # Positions and not records are counted: compaction leaves holes.
        while time.monotonic() < deadline and any(consumer.position(part) < ends[part] for part in partitions):
            for partition, records in consumer.poll(timeout_ms=200).items():
                for record in records:
                    user_id = _user_id(record.key)
                    if user_id is not None:
                        places[user_id].add((partition.topic, partition.partition))
    finally:
        consumer.close()
    return {user_id: frozenset(seen) for user_id, seen in places.items()}


def judge_places(places: Places) -> Finding:
    """Whether each user's events of all kinds have one partition number. Does no I/O."""
    subject = "users' partitions"
    if not places:
        return Finding("ok", subject, "the input topics are empty")
    split = {user: seen for user, seen in sorted(places.items()) if len({partition for _, partition in seen}) > 1}
    if not split:
        return Finding("ok", subject, f"each of {len(places):,} users in the latest records is on one partition")
    examples = "; ".join(
        f"{user} in {', '.join(f'{topic}/{partition}' for topic, partition in sorted(seen))}"
        for user, seen in list(split.items())[:_NAMED_USERS]
    )
    return Finding(
        "error",
        subject,
        f"{len(split):,} of {len(places):,} users in the latest records are on several partitions, e.g. {examples}",
        "use one partitioner in all producers (librdkafka: partitioner=murmur2_random, as Java has it), then load the "
        "events into new topics: a worker sees only a part of what such a user does",
    )


def _user_id(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _database_findings(
    settings: Settings, database: DatabaseConnection | None, kafka: KafkaConnection | None
) -> Iterator[Finding]:
    if database is None:
        yield Finding(
            "error",
            "database",
            "no address was given and no embedded stack runs",
            "give --database-url, or start the embedded stack: `foreshock up`",
        )
        return
    try:
        revision, encoding = migration.current(database), _encoding(database)
    except DatabaseEncodingError as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Finding("error", "database", what, remedy)
        return
    except DatabaseError as error:
        yield Finding("error", "database", str(error), "check --database-url and that the server is up")
        return
    yield _revision_finding(database.address, revision)
    if encoding == UNCHECKED_ENCODING:
        yield Finding(
            "warning",
            "database encoding",
            f"{database.address} has the encoding {encoding}: ids are kept as UTF-8, but other clients may read other "
            "characters",
            "make a database with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
        )
    if revision == migration.head():
        yield _currency_finding(settings, database)
        yield from _champion_findings(settings, database)
        yield from _webhook_findings(settings, database, kafka)


def _currency_finding(settings: Settings, database: DatabaseConnection) -> Finding:
    """Whether amounts of borrowers are null because their contracts are in currencies that cannot be added."""
    subject = "currencies"
    try:
        found = without_amounts(database, settings.currency_rates)
    except DatabaseError as error:
        return Finding(
            "warning", subject, f"the table of contracts could not be read: {error}", "check the role's rights"
        )
    if not found.borrowers:
        return Finding("ok", subject, "every borrower's amounts can be added up")
    names = ", ".join(found.currencies)
    why = "without a rate" if settings.currency_rates else "in several currencies, and `currency_rates` is empty"
    rates = ", ".join(f"{name} = …" for name in (*settings.currency_rates, *found.currencies))
    return Finding(
        "warning",
        subject,
        f"exposure, amount_overdue and expected_loss of {found.borrowers:,} borrowers are null, e.g. of "
        f"{', '.join(found.examples)}: their contracts are {why} ({names})",
        f"set currency_rates = {{ {rates} }} in foreshock.toml (one unit of each in the currency of reports) and "
        "restart the workers: amounts follow with each borrower's next event",
    )


def _champion_findings(settings: Settings, database: DatabaseConnection) -> Iterator[Finding]:
    """Whether the bundle is the champion of the registry; nothing where there is none, or no bundle."""
    subject = "champion"
    try:
        champion = next((model for model in registry.registered(database) if model.alias == "champion"), None)
        if champion is None:
            return
        _, fingerprint = read_manifest(settings.bundle, settings.bundle_public_key)
    except DatabaseError as error:
        yield Finding("warning", subject, f"the registry could not be read: {error}", "check the role's rights")
        return
    except BundleError:  # told of by itself
        return
    found = f"{fingerprint:016x}"
    if found == champion.fingerprint:
        yield Finding("ok", subject, f"{found} is the bundle's model")
    else:
        yield Finding(
            "warning",
            subject,
            f"the registry names {champion.fingerprint} ({champion.bundle}), and the bundle is {found}",
            f"set `bundle` as the workers have it, or name what they use: `foreshock models alias {found} champion`",
        )


def _webhook_findings(
    settings: Settings, database: DatabaseConnection, kafka: KafkaConnection | None
) -> Iterator[Finding]:
    """Whether webhooks are told what they want; nothing where there is none."""
    group = webhook_group(settings.readers)
    table = DeliveryTable(database)
    try:
        webhooks, waiting = table.webhooks(), table.standings()
    except DatabaseError as error:
        yield Finding("warning", "webhooks", f"they could not be read: {error}", "check the role's rights")
        return
    finally:
        table.close()
    lags: list[GroupLag] | None = None
    if webhooks and kafka is not None:
        # What cannot be looked at is told with the retention of the topics.
        with contextlib.suppress(KafkaError, ProvisioningError, NotAllowed):
            lags = group_lags(kafka, {group: settings.topics.told_to_webhooks}, optional={group})
    yield from judge_webhooks(webhooks, waiting, group, lags)


def _encoding(database: DatabaseConnection) -> str | None:
    connection = database.connect("foreshock-doctor")
    try:
        return connection.info.parameter_status("server_encoding")
    finally:
        connection.close()


def _revision_finding(address: str, revision: str | None) -> Finding:
    head = migration.head()
    if revision == head:
        return Finding("ok", "database", f"{address} is at revision {head}")
    if revision is None:
        return Finding("error", "database", f"{address} has no Foreshock tables yet", "run `foreshock db upgrade`")
    if not _is_known(revision):
        return Finding(
            "error",
            "database",
            f"{address} is at revision {revision}, which this release (head {head}) does not know",
            "run the release that upgraded it, or a newer one",
        )
    return Finding(
        "error",
        "database",
        f"{address} is at revision {revision}, and this release needs {head}",
        "run `foreshock db upgrade`",
    )


def _is_known(revision: str) -> bool:
    try:
        return ScriptDirectory(str(migration.SCRIPTS)).get_revision(revision) is not None
    except CommandError:
        return False


def _bundle_finding(settings: Settings) -> tuple[Finding, Bundle | None]:
    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
    except BundleError as error:
        remedy = "name a folder that `foreshock train --out` wrote with --bundle, or reinstall for the pretrained one"
        return Finding("error", "bundle", str(error), remedy), None
    if warning := bundle.other_days(settings.portfolio_rules().calendar):
        what, _, remedy = warning.rpartition("; ")
        return Finding("warning", "bundle", what, remedy), bundle
    horizons = "/".join(str(days) for days in bundle.horizons_days)
    return Finding("ok", "bundle", f"{bundle.manifest.name} {bundle.fingerprint_hex}, horizons {horizons} days"), bundle


def _state_findings(settings: Settings, kafka: KafkaConnection, bundle: Bundle) -> Iterator[Finding]:
    """Whether workers with this release and bundle could go on from what workers have left in Kafka."""
    application_id = settings.application_id
    changelog, journal = settings.topics.changelog(application_id), settings.topics.order(application_id)
    try:
        with RecentRecords(kafka) as records:
            rows = [record.value for record in records.last(changelog, 1) if record.value is not None]
            orders = [record.value for record in records.last(journal, 1)]
    except (KafkaError, OSError, ProvisioningError) as error:
        what = f"{changelog} and {journal} could not be read: {told(denial(error, kafka) or error)}"
        yield Finding("warning", "states", what, "check that this client may read them")
        return
    yield judge_states(rows, row_dtype(bundle.state_width), bundle.fingerprint)
    yield judge_order(orders, are_states=bool(rows))
    with contextlib.suppress(KafkaError, OSError, ProvisioningError):  # what cannot be looked at, `rights` has told
        yield from judge_standing(settings, committed_by(kafka, application_id))


def judge_standing(settings: Settings, committed: Mapping[TP, Committed]) -> Iterator[Finding]:
    """What the workers' offsets say of hand-overs: nothing where they lead everywhere. Does no I/O."""
    found, own = standings(committed), settings.application_id
    for other, partitions in found["handed_to"].items():
        yield Finding(
            "warning",
            "hand-over",
            f"{own} has handed partitions {', '.join(map(str, partitions))} over to {other}, whose workers score there",
            f"stop the workers of {own}, and set application_id to {other!r} and readers_id to {settings.readers!r} "
            "everywhere else, the sink included; or go back: docs/guides/change-a-model.md",
        )
    for other, partitions in found["follows"].items():
        yield Finding(
            "warning",
            "hand-over",
            f"{own} follows {other} in partitions {', '.join(map(str, partitions))} and publishes nothing there",
            f"nothing, while {other} is what is live: then that is the application_id to look at",
        )


def judge_order(values: Sequence[bytes | None], *, are_states: bool) -> Finding:
    """Whether the latest records of the order journal can be read, and whether there are any where there are states.

    Does no I/O.
    """
    subject = "order journal"
    if not values and are_states:
        return Finding(
            "warning",
            subject,
            "it is empty, and there are states: they are of workers that keep none. What these have scored, a replay "
            "takes by event time",
            "go on with workers of this release; they begin it with their first commit",
        )
    for value in values:
        try:
            OrderRecord.decode(value)
        except UnreadableOrder as error:
            return Finding(
                "error",
                subject,
                f"its latest records cannot be read: {error}",
                "run the release that wrote them, or a newer one, and let nobody else write there",
            )
    return Finding("ok", subject, "its latest records can be read" if values else "it is empty, as the changelog is")


def judge_states(rows: Sequence[bytes], dtype: np.dtype[np.void], fingerprint: int) -> Finding:
    """Whether rows of users are those of this layout and model. Does no I/O."""
    subject = "states"
    if not rows:
        return Finding("ok", subject, "there are none yet")
    sizes = sorted({len(row) for row in rows} - {dtype.itemsize})
    if sizes:
        return Finding(
            "error",
            subject,
            f"the workers' states have rows of {', '.join(map(str, sizes))} bytes, those of this release and bundle "
            f"have {dtype.itemsize}: they are of another release or model, and workers would stop (StateMismatch)",
            "score again under a new application_id and hand over, or run the release and bundle of these states; see "
            "docs/upgrade.md",
        )
    models = {int(np.frombuffer(row, dtype=dtype)[0]["model"]) for row in rows} - {fingerprint}
    if models:
        named = ", ".join(f"{model:016x}" for model in sorted(models))
        return Finding(
            "error",
            subject,
            f"the workers' states are of model {named}, the bundle is {fingerprint:016x}: workers would stop "
            "(StateMismatch)",
            "set `bundle` to that of the states, or score again under a new application_id and hand over",
        )
    return Finding("ok", subject, "the workers' states are of this release's layout and of this bundle")
