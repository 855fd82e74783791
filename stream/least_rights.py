"""The rights on Kafka that each part needs, as SECURITY.md lists them; a test compares the two.

Says what is needed. `stream.kafka.rights` asks the broker.
"""

from __future__ import annotations

from collections.abc import Iterable

from stream.kafka.rights import CLUSTER, Operation, Right
from stream.settings import Settings
from stream.topics import (
    OutputTopics,
    replay_application,
    shadow_application,
    sink_group,
    transactional_id,
    webhook_group,
)


def worker_rights(settings: Settings) -> tuple[Right, ...]:
    """Of a worker. Of its transactional ids the first stands for all: rights on them are given by prefix."""
    topics, application_id = settings.topics, settings.application_id
    changelog = (topics.changelog(application_id),)
    missed = (topics.of_kind("repayments"),) if settings.watchdog else ()
    return (
        *_on(topics.inputs, "Read"),
        *_on(missed, "Write"),
        *_on(topics.live_outputs(application_id).all, "Write"),
        *_on((*changelog, topics.order(application_id)), "Read"),
        *_on(changelog, "Write"),
        Right("group", application_id, "Read"),
        Right("transactional id", transactional_id(application_id, 0, 0), "Write"),
    )


def follower_rights(settings: Settings, followed: str) -> tuple[Right, ...]:
    """Of a worker that follows another application, and is to take over from it."""
    order = (settings.topics.order(followed),)
    return (*worker_rights(settings), *_on(order, "Read"), Right("group", followed, "Describe"))


def hand_over_rights(settings: Settings, giver: str, taker: str) -> tuple[Right, ...]:
    """Of who hands over from one application to another one: in the name of the one that gives, so its own workers'
    transactional ids, journal and group."""
    order = (settings.topics.order(giver),)
    return (
        *_on((*settings.topics.inputs, settings.topics.changelog(giver), *order), "Read"),
        *_on(order, "Write"),
        Right("group", giver, "Read"),
        Right("group", taker, "Describe"),
        Right("transactional id", transactional_id(giver, 0, 0), "Write"),
    )


def sink_rights(settings: Settings) -> tuple[Right, ...]:
    """Of a sink. It writes to no topic, but Faust starts a producer in it, which asks for an id."""
    topics = settings.topics
    return (
        *_on(topics.read_by_sink(settings.event_history), "Read"),
        Right("group", sink_group(settings.readers), "Read"),
        Right("cluster", CLUSTER, "IdempotentWrite"),
    )


def desk_rights(settings: Settings) -> tuple[Right, ...]:
    """Of the desk, which publishes what is done about alerts and reads nothing."""
    return (*_on((settings.topics.alert_actions,), "Write"), Right("cluster", CLUSTER, "IdempotentWrite"))


def webhook_rights(settings: Settings) -> tuple[Right, ...]:
    """Of who delivers webhooks. Who adds one needs the first."""
    return (*_on(settings.topics.told_to_webhooks, "Read"), Right("group", webhook_group(settings.readers), "Read"))


def publisher_rights(settings: Settings) -> tuple[Right, ...]:
    """Of what publishes events of every kind, such as `simulate`."""
    return tuple(_on(settings.topics.inputs, "Write"))


def replay_rights(settings: Settings, replay: str) -> tuple[Right, ...]:
    """Of a replay by its name, and of its comparison with what was published live."""
    application_id = replay_application(settings.application_id, replay)
    return _following_rights(settings, application_id, settings.topics.replay_outputs(replay))


def shadow_rights(settings: Settings, shadow: str) -> tuple[Right, ...]:
    """Of a shadow by its name, of its comparison with what was published live, and of its removal."""
    application_id = shadow_application(settings.application_id, shadow)
    return _following_rights(settings, application_id, settings.topics.shadow_outputs(shadow))


def _following_rights(settings: Settings, application_id: str, outputs: OutputTopics) -> tuple[Right, ...]:
    """Of workers that follow the live ones under an application of their own."""
    topics = settings.topics
    own = (*outputs.all, topics.changelog(application_id))
    order = topics.order(settings.application_id)
    return (
        *_on((*topics.inputs, order, topics.scores, topics.alerts), "Read"),
        *_on(own, "Create"),
        *_on(own, "Read"),
        *_on(own, "Write"),
        *_on(own, "Delete"),
        Right("group", application_id, "Read"),
        Right("group", application_id, "Delete"),
        Right("transactional id", transactional_id(application_id, 0, 0), "Write"),
    )


def send_back_rights(settings: Settings) -> tuple[Right, ...]:
    """Of who sends dead letters back. `list` and `show` need only to read the first two topics."""
    topics = settings.topics
    return (
        *_on((topics.dead_letters, topics.sent_back), "Read"),
        *_on((topics.sent_back,), "Create"),
        *_on((topics.sent_back, *topics.inputs), "Write"),
        Right("transactional id", topics.sent_back, "Write"),
    )


def promotable_shadow_rights(settings: Settings) -> tuple[Right, ...]:
    """Of a shadow that is to be promoted, beside `shadow_rights`: to publish what is live."""
    topics, application_id = settings.topics, settings.application_id
    live = dict.fromkeys((topics.of_kind("repayments"), *topics.live_outputs(application_id).all))
    own = topics.order(application_id)
    return (*_on((name for name in live if name != own), "Write"), Right("group", application_id, "Describe"))


def retention_rights(settings: Settings) -> tuple[Right, ...]:
    """Of `retention plan` and, with `AlterConfigs`, `apply`."""
    topics, application_id = settings.topics, settings.application_id
    kept = (
        *topics.inputs,
        *topics.live_outputs(application_id).all,
        topics.alert_actions,
        topics.changelog(application_id),
        topics.sent_back,
    )
    operations: tuple[Operation, ...] = ("Describe", "DescribeConfigs", "AlterConfigs")
    return (
        *(Right("topic", topic, operation) for topic in dict.fromkeys(kept) for operation in operations),
        Right("group", application_id, "Describe"),
        Right("group", sink_group(settings.readers), "Describe"),
        Right("group", webhook_group(settings.readers), "Describe"),
    )


def status_rights(settings: Settings) -> tuple[Right, ...]:
    """Of who looks with `foreshock status`. With `Read` on all that groups read, lag counts no ends of transactions."""
    topics, application_id = settings.topics, settings.application_id
    return (
        *_on((*topics.inputs, topics.contracts, topics.alert_actions), "Describe"),
        *_on((topics.scores, topics.alerts, topics.dead_letters), "Read"),
        Right("group", application_id, "Describe"),
        Right("group", sink_group(settings.readers), "Describe"),
        Right("group", webhook_group(settings.readers), "Describe"),
    )


def _on(topics: Iterable[str], operation: Operation) -> Iterable[Right]:
    return (Right("topic", topic, operation) for topic in topics)
