"""Topics on a broker: creates missing ones and reports what is wrong with existing ones.

Works on any broker; changes no topic that exists. Names come from `stream.topics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from stream.kafka.clients import NoBrokerReachable, first_reachable, open_admin
from stream.kafka.connection import KafkaConnection
from stream.kafka.refusal import BrokerRefuses
from stream.kafka.rights import TOPIC_DENIED, NotAllowed, Right, denial, not_allowed
from stream.settings import Settings
from stream.topics import CHANGELOG_TOMBSTONE_DAYS, DEAD_LETTER_MAX_BYTES, shadow_application

DAY_MS = 86_400_000
LONGEST_MS = 36_500 * DAY_MS
"""What stands for no limit where Kafka has no word for it."""

COMPACTION_LAG_MS = 7 * DAY_MS
"""At the latest after so long, what was replaced or deleted leaves a compacted topic."""

COMPACTED_SEGMENT_BYTES = 64 * 1024 * 1024
"""Kafka compacts closed segments only, so small segments keep what is written with each checkpoint short: the
changelog, and with it recovery; each borrower's latest score and contracts, and with them the start of who reads
these."""

UNLIMITED = "-1"
BROKER_TIMEOUT_MS = 10_000

FindingLevel: TypeAlias = Literal["ok", "warning", "error"]


class ProvisioningError(RuntimeError):
    """The broker cannot be reached or refuses; the message says which, and what to do."""


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was found and, if something is wrong, what to do about it."""

    level: FindingLevel
    subject: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class TopicSpecification:
    """A topic as `create_topics` makes it. `configs` are the broker's topic settings."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicState:
    """A topic as it is on the broker."""

    name: str
    partitions: int
    replicas: int
    configs: Mapping[str, str]


def specifications(settings: Settings) -> tuple[TopicSpecification, ...]:
    """Every topic that a deployment needs: inputs, outputs, order journal and changelog, all with the same partition
    count.

    Events are kept without limit unless a setting says otherwise, because replays read them, and their order with
    them. Profiles, state rows,
    latest scores and contracts are compacted to one per user; that a user was forgotten stays in `profiles` for as long
    as events do.
    """
    topics = settings.topics
    configs: dict[str, dict[str, str]] = dict.fromkeys(topics.inputs, _kept(settings.input_retention_days))
    events_ms = configs[topics.of_kind("repayments")]["retention.ms"]
    tombstones_ms = str(LONGEST_MS) if events_ms == UNLIMITED else events_ms
    configs[topics.of_kind("profiles")] = _COMPACT | {"delete.retention.ms": tombstones_ms}
    configs |= dict.fromkeys(
        (topics.scores, topics.alerts, topics.alert_actions), _kept(settings.output_retention_days)
    )
    configs[topics.order(settings.application_id)] = _kept(settings.input_retention_days)
    configs[topics.dead_letters] = _kept(settings.dead_letter_retention_days) | {
        "max.message.bytes": str(DEAD_LETTER_MAX_BYTES),
    }
    configs |= dict.fromkeys((*topics.compacted_by_user, topics.changelog(settings.application_id)), _COMPACTED)
    return tuple(
        TopicSpecification(name, settings.partitions, settings.replication_factor, config)
        for name, config in configs.items()
    )


_COMPACT = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(COMPACTION_LAG_MS)}
_COMPACTED = _COMPACT | {
    "delete.retention.ms": str(CHANGELOG_TOMBSTONE_DAYS * DAY_MS),
    "segment.bytes": str(COMPACTED_SEGMENT_BYTES),
    "min.cleanable.dirty.ratio": "0.3",
}


def changelog_specification(settings: Settings) -> TopicSpecification:
    """The changelog of an application's workers."""
    name = settings.topics.changelog(settings.application_id)
    return TopicSpecification(name, settings.partitions, settings.replication_factor, _COMPACTED)


def _kept(days: float | None) -> dict[str, str]:
    """Settings of a topic whose records are kept for so many days, None for without limit."""
    retention_ms = UNLIMITED if days is None else str(round(days * DAY_MS))
    return {"cleanup.policy": "delete", "retention.ms": retention_ms, "retention.bytes": UNLIMITED}


def replay_specifications(settings: Settings, replay: str) -> tuple[TopicSpecification, ...]:
    """The two output topics of a replay, with the settings of the live ones."""
    topics, kept = settings.topics, _kept(settings.output_retention_days)
    return tuple(
        TopicSpecification(name, settings.partitions, settings.replication_factor, kept)
        for name in (topics.replay_scores(replay), topics.replay_alerts(replay))
    )


def shadow_specifications(settings: Settings, shadow: str) -> tuple[TopicSpecification, ...]:
    """The output topics of a shadow and the changelog of its workers, with the settings of the live ones."""
    topics, kept = settings.topics, _kept(settings.output_retention_days)
    application_id = shadow_application(settings.application_id, shadow)
    outputs = tuple(
        TopicSpecification(name, settings.partitions, settings.replication_factor, kept)
        for name in topics.shadow_outputs(shadow).all
    )
    order = TopicSpecification(
        topics.order(application_id),
        settings.partitions,
        settings.replication_factor,
        _kept(settings.input_retention_days),
    )
    return (*outputs, order, changelog_specification(settings.model_copy(update={"application_id": application_id})))


def sent_back_specification(settings: Settings, partitions: int) -> TopicSpecification:
    """The topic that says which dead letters were sent back, one record for each: nothing of it is ever deleted.

    `partitions` is how many the topic of dead letters has."""
    return TopicSpecification(
        settings.topics.sent_back, partitions, settings.replication_factor, {"cleanup.policy": "compact"}
    )


def create_topics(
    connection: KafkaConnection, settings: Settings, wanted: Iterable[TopicSpecification] | None = None
) -> list[str]:
    """Create what is missing of `wanted` (default: `specifications(settings)`); returns the names created, in order.

    Existing topics stay as they are: `check_topics` judges them. Returns once every partition has a leader. Raises
    `ProvisioningError`.
    """
    asked = tuple(specifications(settings) if wanted is None else wanted)
    with answering_admin(connection) as admin:
        present = set(admin.list_topics())
        created = []
        for topic in asked:
            if topic.name in present:
                continue
            options = {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication_factor,
                "configs": dict(topic.configs),
            }
            try:
                admin.create_topics({topic.name: options})
            except TopicAlreadyExistsError:
                # Another process created it after the topics were listed.
                continue
            except KafkaError as error:
                refused = denial(error, connection, Right("topic", topic.name, "Create"))
                raise (ProvisioningError(_refusal(topic, error)) if refused is None else refused) from error
            created.append(topic.name)
        admin.wait_for_topics([topic.name for topic in asked])
    return created


def check_topics(connection: KafkaConnection, settings: Settings) -> list[Finding]:
    """Findings on every topic that a deployment needs, in the order of `specifications`. Raises `ProvisioningError`."""
    wanted = specifications(settings)
    with answering_admin(connection) as admin:
        states = _states(admin, [topic.name for topic in wanted])
        absent = [topic.name for topic in wanted if topic.name not in states]
        # Of all topics, a broker lists those that this client may see.
        described = admin.describe_topics(absent) if absent else []
        hidden = {topic["name"] for topic in described if topic["error_code"] == TOPIC_DENIED}
    if hidden:
        return [_hidden_finding(not_allowed(connection, [Right("topic", name, "Describe") for name in sorted(hidden)]))]
    return judge_topics(settings, wanted, states)


def topic_id(connection: KafkaConnection, topic: str) -> str:
    """The broker's id of a topic. A topic that is deleted and created again gets another id.

    Raises `ProvisioningError`, also if the topic does not exist.
    """
    with answering_admin(connection) as admin:
        for described in admin.describe_topics():
            if described["name"] == topic:
                return str(described["topic_id"])
    raise ProvisioningError(f"topic {topic} does not exist; create it: `foreshock topics create`")


def topic_states(connection: KafkaConnection, wanted: Callable[[str], bool]) -> dict[str, TopicState]:
    """The topics whose names are `wanted`, by name, as they are on the broker. Raises `ProvisioningError`."""
    with answering_admin(connection) as admin:
        return _states(admin, [name for name in admin.list_topics() if wanted(name)])


def largest_record_bytes(connection: KafkaConnection, topic: str) -> int | None:
    """Most bytes that a topic takes in one batch (`max.message.bytes`).

    None where the topic does not exist or this client may not see its settings. Raises `ProvisioningError`.
    """
    with answering_admin(connection) as admin:
        state = _states(admin, [topic]).get(topic)
    found = None if state is None else state.configs.get("max.message.bytes")
    return None if found is None else int(found)


def judge_topics(
    settings: Settings, wanted: Sequence[TopicSpecification], states: Mapping[str, TopicState]
) -> list[Finding]:
    """The findings of `check_topics` on topics as the broker described them. Does no I/O."""
    findings = _partition_findings(settings, wanted, states)
    for topic in wanted:
        state = states.get(topic.name)
        if state is None:
            findings.append(
                Finding("error", f"topic {topic.name}", "does not exist", "create it: `foreshock topics create`")
            )
            continue
        problems = list(_config_findings(topic, state))
        findings += problems or [
            Finding("ok", f"topic {topic.name}", f"{state.partitions} partitions, {state.replicas} replicas")
        ]
    return findings


def _partition_findings(
    settings: Settings, wanted: Sequence[TopicSpecification], states: Mapping[str, TopicState]
) -> list[Finding]:
    """All topics need the same number of partitions: a user's events, state and outputs share a partition number."""
    counts = {topic.name: states[topic.name].partitions for topic in wanted if topic.name in states}
    if not counts:
        return []
    # The input topics determine the partition of a user, so the other topics must have as many partitions.
    inputs = [counts[name] for name in settings.topics.inputs if name in counts] or list(counts.values())
    (expected, _), *_ = Counter(inputs).most_common(1)
    differing = {name: count for name, count in counts.items() if count != expected}
    if differing:
        named = ", ".join(f"{name} has {count}" for name, count in differing.items())
        return [
            Finding(
                "error",
                "partition counts",
                f"the input topics have {expected} partitions, but {named}",
                f"make the topic anew with {expected} partitions while no worker runs; partitions that are added to a "
                "topic with data move users away from their state",
            )
        ]
    if expected != settings.partitions:
        return [
            Finding(
                "error",
                "partition counts",
                f"all topics have {expected} partitions, but the setting `partitions` is {settings.partitions}",
                f"set partitions = {expected} in foreshock.toml, or FORESHOCK_PARTITIONS={expected}",
            )
        ]
    return [Finding("ok", "partition counts", f"{expected} in each of {len(counts)} topics")]


@dataclass(frozen=True)
class ConfigChange:
    """A setting of a topic that is not as the deployment needs it."""

    topic: str
    key: str
    found: str
    wanted: str

    @property
    def command(self) -> str:
        """What sets it, with Kafka's own tool."""
        return f"kafka-configs --alter --topic {self.topic} --add-config {self.key}={self.wanted}"


def config_changes(topic: TopicSpecification, state: TopicState) -> Iterator[ConfigChange]:
    """Settings of a topic that differ from its specification, of those that matter. Does no I/O.

    Larger limits than needed stay, retention must be as the settings say.
    """
    found, wanted = state.configs, topic.configs
    deletes = "delete" in wanted.get("cleanup.policy", "delete")
    for key, differs in (
        ("cleanup.policy", lambda now, then: set(now.split(",")) != set(then.split(","))),
        ("retention.ms", lambda now, then: deletes and now != then),
        ("retention.bytes", lambda now, then: deletes and now != then),
        ("delete.retention.ms", lambda now, then: int(now) < int(then)),
        ("max.compaction.lag.ms", lambda now, then: int(now) > int(then)),
        ("max.message.bytes", lambda now, then: int(now) < int(then)),
    ):
        if key in found and key in wanted and differs(found[key], wanted[key]):
            yield ConfigChange(topic.name, key, found[key], wanted[key])


def _config_findings(topic: TopicSpecification, state: TopicState) -> Iterator[Finding]:
    subject = f"topic {topic.name}"
    for change in config_changes(topic, state):
        level: FindingLevel = "error" if change.key == "cleanup.policy" else "warning"
        if change.key.startswith("retention.") and "delete" not in state.configs.get("cleanup.policy", "delete"):
            continue  # it says nothing there
        yield Finding(level, subject, _consequence(change), f"{change.command}, or `foreshock retention apply`")
    if state.replicas < topic.replication_factor:
        yield Finding(
            "warning",
            subject,
            f"{state.replicas} replicas, and the setting `replication_factor` is {topic.replication_factor}",
            "add replicas with kafka-reassign-partitions, or lower the setting",
        )


def _consequence(change: ConfigChange) -> str:
    """What is found, and what comes of it."""
    key, found, wanted = change.key, change.found, change.wanted
    if key == "cleanup.policy":
        lost = "quiet users' records are deleted" if wanted == "compact" else "only each user's latest record stays"
        return f"cleanup.policy is {found} and should be {wanted}: {lost}"
    if key == "retention.ms":
        return _retention_consequence(found, wanted)
    if key == "retention.bytes":
        return f"a partition's oldest records are deleted when it has {int(found):,} bytes, whatever their age"
    if key == "max.message.bytes":
        return f"max.message.bytes is {found}: a large input that is refused does not fit into its dead letter"
    bound, consequence = {
        "delete.retention.ms": ("at least", "a copy of the topic may miss that a user was forgotten"),
        "max.compaction.lag.ms": ("at most", "what was replaced or deleted may stay in the topic for longer"),
    }[key]
    return f"{key} is {found} and should be {bound} {wanted}: {consequence}"


def _retention_consequence(found: str, wanted: str) -> str:
    if found == UNLIMITED or (wanted != UNLIMITED and int(found) > int(wanted)):
        kept = "without limit" if found == UNLIMITED else f"for {int(found) / DAY_MS:.1f} days"
        return f"records are kept {kept}, the settings say {int(wanted) / DAY_MS:.1f} days"
    if wanted != UNLIMITED:
        return (
            f"records are deleted {int(found) / DAY_MS:.1f} days after their time, the settings say after "
            f"{int(wanted) / DAY_MS:.1f}"
        )
    return (
        f"records are deleted {int(found) / DAY_MS:.1f} days after their time: older ranges cannot be replayed, "
        "and events that are loaded late with their own time are deleted at once"
    )


def change_configs(
    connection: KafkaConnection, changes: Sequence[ConfigChange], on_changed: Callable[[ConfigChange], None]
) -> None:
    """Make these changes, topic by topic, and call `on_changed` for each that is made.

    Raises `ProvisioningError` for the first that the broker refuses, `NotAllowed` where a right is missing; those
    before it stay.
    """
    with answering_admin(connection) as admin:
        for topic in dict.fromkeys(change.topic for change in changes):
            wanted = [change for change in changes if change.topic == topic]
            configs = {change.key: change.wanted for change in wanted}
            answer = admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
            (said,) = answer["topic"].values()
            if said.startswith(f"[Error {TOPIC_DENIED}]"):
                raise not_allowed(connection, [Right("topic", topic, "AlterConfigs")])
            if said != "OK":
                named = ", ".join(f"{key}={value}" for key, value in configs.items())
                raise ProvisioningError(
                    f"{connection} refuses {named} for topic {topic}: {said}; see what the broker allows, and run the "
                    "command again"
                )
            for change in wanted:
                on_changed(change)


def _states(admin: Any, names: Sequence[str]) -> dict[str, TopicState]:
    # Asks for all topics: a request that names a missing topic may create it, on brokers that are configured so.
    described = {topic["name"]: topic for topic in admin.describe_topics() if topic["name"] in set(names)}
    present = [name for name in names if name in described]
    configs: dict[str, dict[str, str]] = {}
    if present:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in present]
        try:
            answer = admin.describe_configs(resources, config_filter=ConfigFilterType.ALL)["topic"]
            configs = {
                name: {key: entry["value"] for key, entry in entries.items()} for name, entries in answer.items()
            }
        except KafkaError:
            # The client may be allowed to describe topics and not their settings: check what can be read.
            configs = {}
    return {
        name: TopicState(
            name=name,
            partitions=len(described[name]["partitions"]),
            replicas=min((len(part["replica_nodes"]) for part in described[name]["partitions"]), default=0),
            configs=configs.get(name, {}),
        )
        for name in present
    }


@contextmanager
def answering_admin(connection: KafkaConnection) -> Iterator[Any]:
    """An admin client of a cluster that answers.

    Raises `ProvisioningError`, also for what the broker refuses, and `NotAllowed` where a right is missing.
    """
    answering = reachable(connection)
    try:
        admin = open_admin(answering, bootstrap_timeout_ms=BROKER_TIMEOUT_MS)
    except (KafkaError, OSError, ValueError) as error:
        raise ProvisioningError(_no_answer(f"{connection}: {type(error).__name__}: {error}")) from error
    try:
        yield admin
    except KafkaError as error:
        refused = denial(error, connection)
        if refused is not None:
            raise refused from error
        raise ProvisioningError(
            f"the Kafka broker at {connection} refused: {type(error).__name__}: {error}; "
            "check that it is healthy and that this client may describe and create topics"
        ) from error
    finally:
        admin.close()


def reachable(connection: KafkaConnection) -> KafkaConnection:
    """The connection with one address that takes connections. Raises `ProvisioningError` when there is none, or when
    TLS or SASL fails."""
    try:
        return first_reachable(connection, BROKER_TIMEOUT_MS / 1000)
    except NoBrokerReachable as error:
        raise ProvisioningError(_no_answer(str(error))) from error
    except BrokerRefuses as error:
        raise ProvisioningError(f"the Kafka broker at {error}") from error


def _hidden_finding(error: NotAllowed) -> Finding:
    what, _, remedy = str(error).partition("; grant it: ")
    return Finding("error", "topics", f"some cannot be seen, so that none is judged: {what}", f"grant it: {remedy}")


def _no_answer(reasons: str) -> str:
    return (
        f"no Kafka broker answers ({reasons}); "
        "check --bootstrap-servers, security_protocol, and that the broker is up, or start the embedded one with "
        "`foreshock up`"
    )


def _refusal(topic: TopicSpecification, error: KafkaError) -> str:
    return (
        f"topic {topic.name} with {topic.partitions} partitions and {topic.replication_factor} replicas could not be "
        f"created: {type(error).__name__}: {error}; check the settings `partitions` and `replication_factor` against "
        "the number of brokers, and that this client may create topics"
    )
