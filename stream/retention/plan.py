"""The plan of `foreshock retention`: each topic as it is, when its first records go, and what its settings should be.

Looks at the brokers and changes nothing: `stream.kafka.provisioning.change_configs` does, with the plan's changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import (
    DAY_MS,
    UNLIMITED,
    ConfigChange,
    Finding,
    TopicSpecification,
    config_changes,
    sent_back_specification,
    specifications,
    topic_states,
)
from stream.kafka.topic_sizes import GroupLag, TopicSize, group_lags, holdings, offsets_retention_ms, records_before
from stream.people.places import is_beside
from stream.retention.rules import Facts, Kept, days_until_first_goes, days_until_full, judge_retention, kept
from stream.settings import Settings
from stream.topics import sink_group, webhook_group


@dataclass(frozen=True)
class PlannedChange:
    """A change of one setting. `deletes` is how many offsets go by it at once; `withheld` says why it is not made,
    empty where it is."""

    change: ConfigChange
    deletes: int = 0
    withheld: str = ""


@dataclass(frozen=True)
class PlannedTopic:
    """A topic of the deployment: how long it keeps records, what it holds, and in how many days its first records go,
    None for never. `kept` is None where this client may not see settings."""

    name: str
    kept: Kept | None
    size: TopicSize
    first_goes_days: float | None
    changes: tuple[PlannedChange, ...] = ()


@dataclass(frozen=True)
class RetentionPlan:
    """Topics in the order of `specifications`, those of replays and shadows last; what is wrong; how long the brokers
    keep offsets of groups without members, what is free on their disks and in how many days they are full, None where
    not known."""

    topics: tuple[PlannedTopic, ...]
    findings: tuple[Finding, ...]
    offsets_retention_ms: int | None
    free_bytes: int | None
    full_days: float | None
    advice: tuple[str, ...] = ()
    """What could be kept for shorter, in words."""

    @property
    def changes(self) -> list[ConfigChange]:
        """What `apply` does."""
        return [planned.change for topic in self.topics for planned in topic.changes if not planned.withheld]


def find_facts(connection: KafkaConnection, settings: Settings, now_ms: int) -> Facts:
    """What the rules go by. Raises `ProvisioningError`, `NotAllowed`, `KafkaError`."""
    topics, application_id = settings.topics, settings.application_id
    own = {*(topic.name for topic in specifications(settings)), topics.sent_back}
    states = topic_states(connection, lambda name: name in own or is_beside(name, settings))
    webhooks = webhook_group(settings.readers)
    readers = {
        application_id: topics.inputs,
        sink_group(settings.readers): topics.read_by_sink(settings.event_history),
        webhooks: topics.told_to_webhooks,
    }
    held = holdings(connection, states.keys(), now_ms)
    return Facts(
        now_ms,
        states,
        held.topics,
        group_lags(connection, readers, optional={webhooks}),
        offsets_retention_ms(connection),
        held.free_bytes,
    )


def plan(connection: KafkaConnection, settings: Settings, now_ms: int) -> RetentionPlan:
    """The plan of a deployment. Raises as `find_facts`."""
    facts = find_facts(connection, settings, now_ms)
    wanted = {topic.name: topic for topic in specifications(settings)}
    if (book := facts.states.get(settings.topics.sent_back)) is not None:
        wanted[book.name] = sent_back_specification(settings, book.partitions)
    changes = changes_of(wanted, facts)
    cutoffs = {
        change.topic: now_ms - int(change.wanted)
        for change in changes
        if change.key == "retention.ms" and change.wanted != UNLIMITED
    }
    return make_plan(settings, facts, changes, records_before(connection, cutoffs) if cutoffs else {})


def changes_of(wanted: Mapping[str, TopicSpecification], facts: Facts) -> list[ConfigChange]:
    """Every setting that differs. Does no I/O."""
    return [
        change
        for name, topic in wanted.items()
        if name in facts.states
        for change in config_changes(topic, facts.states[name])
    ]


def make_plan(
    settings: Settings, facts: Facts, changes: Sequence[ConfigChange], old: Mapping[str, int]
) -> RetentionPlan:
    """The plan of facts and changes; `old` are the offsets by topic that a wanted retention no longer covers.

    Does no I/O.
    """
    planned: dict[str, list[PlannedChange]] = {}
    for change in changes:
        deletes = old.get(change.topic, 0) if change.key == "retention.ms" else 0
        planned.setdefault(change.topic, []).append(PlannedChange(change, deletes, _withheld(change, facts)))
    order = [topic.name for topic in specifications(settings)]
    names = sorted(facts.sizes, key=lambda name: (order.index(name) if name in order else len(order), name))
    topics = tuple(
        PlannedTopic(
            name,
            kept(facts.states[name]),
            facts.sizes[name],
            days_until_first_goes(facts.states[name], facts.sizes[name], facts.now_ms),
            tuple(planned.get(name, ())),
        )
        for name in names
    )
    return RetentionPlan(
        topics,
        tuple(judge_retention(settings, facts)),
        facts.offsets_retention_ms,
        facts.free_bytes,
        days_until_full(facts),
        tuple(_advice(settings, facts)),
    )


def _advice(settings: Settings, facts: Facts) -> Iterator[str]:
    """Outputs are for their readers alone, where the order journal is there for replays."""
    topics = settings.topics
    journal = topics.order(settings.application_id) in facts.states
    outputs = [topics.scores, topics.alerts, topics.alert_actions]
    endless = [name for name in outputs if name in facts.states and kept(facts.states[name]) == Kept(None)]
    if journal and endless:
        held = sum(facts.sizes[name].size_bytes or 0 for name in endless)
        named = " and ".join([*([", ".join(endless[:-1])] if endless[:-1] else []), endless[-1]])
        yield (
            f"{named} ({held / 1e6:,.1f} MB) are kept without limit, and no replay reads them: set "
            "output_retention_days to what their readers need"
        )


def _withheld(change: ConfigChange, facts: Facts) -> str:
    """Why a change must wait: it would delete what a group has still to read."""
    if change.key != "retention.ms" or change.wanted == UNLIMITED:
        return ""
    behind = [
        lag
        for lag in facts.lags
        if lag.topic == change.topic
        and lag.records
        and lag.oldest_ms is not None
        and facts.now_ms - lag.oldest_ms >= int(change.wanted)
    ]
    return "; ".join(_has_to_read(behind, facts.now_ms))


def _has_to_read(behind: Iterable[GroupLag], now_ms: int) -> Iterable[str]:
    for lag in behind:
        days = (now_ms - (lag.oldest_ms or now_ms)) / DAY_MS
        yield f"group {lag.group} has yet to read records of {days:.1f} days ago"
