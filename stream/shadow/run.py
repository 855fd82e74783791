"""A shadow's workers: their settings, the topics that they need, and how all of it goes again.

A shadow is a worker that follows: it takes the events of the live workers, in the order of their journal, with states,
a changelog, a consumer group and transactions under an application of its own. What live workers do is never changed.
"""

from __future__ import annotations

import datetime as dt
import logging

from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Standing, committed_by
from stream.kafka.provisioning import answering_admin, create_topics, shadow_specifications
from stream.kafka.removal import delete_group, delete_topics
from stream.kafka.topic_reader import TopicReader
from stream.replay.plan import plan_replay
from stream.replay.range import ReplayRange
from stream.settings import Settings
from stream.topics import shadow_application
from stream.worker.following import Following

logger = logging.getLogger("foreshock.shadow")


class ShadowError(RuntimeError):
    """A shadow cannot be removed; the message says why and what to do."""


def shadow_settings(settings: Settings, name: str) -> Settings:
    """The settings of a shadow's workers, made of those of the live ones."""
    return settings.model_copy(update={"application_id": shadow_application(settings.application_id, name)})


def followed(kafka: KafkaConnection, settings: Settings, taker: str, *, takes_over: bool) -> Following:
    """How workers of the application `taker` follow the live workers of `settings`: in the order of their journal, from
    its beginning on; with `takes_over` until it hands over to them.

    By event time where there is no journal. What stands before a request to forget its user is not scored. Raises
    `TopicUnreadable`, `UnreadableOrder`.
    """
    order_topic = settings.topics.order(settings.application_id)
    with TopicReader(kafka) as reader:
        exists = reader.exists(order_topic)
    if not exists:
        logger.warning(
            "there is no order journal %s: events are taken by event time, in another order than live where topics "
            "came late (`foreshock topics create` makes the journal, and live workers write it)",
            order_topic,
        )
    always = ReplayRange("", dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))
    plan = plan_replay(kafka, settings, always)
    if exists and plan.order_topic is None:
        logger.warning("the order journal %s is empty: nothing is scored before live workers write to it", order_topic)
    for topic in plan.lost:
        logger.warning(
            "retention has taken the beginning of %s: the shadow's states lack it, and its scores differ from the live "
            "ones for that reason, too",
            topic,
        )
    return Following(
        order_topic if exists else None,
        forgotten=plan.forgotten,
        leader=settings.application_id,
        taker=taker if takes_over else None,
        takes_over=takes_over and exists,
    )


def as_partitioned(kafka: KafkaConnection, settings: Settings) -> Settings:
    """The settings with as many partitions as the inputs have. Raises `TopicUnreadable` when there are none."""
    with TopicReader(kafka) as reader:
        return settings.model_copy(update={"partitions": reader.partitions(settings.topics.inputs[0])})


def prepare_topics(kafka: KafkaConnection, settings: Settings, name: str) -> list[str]:
    """Create what is missing of a shadow's topics; returns their names. `settings` are those of the live workers.
    Raises `ProvisioningError`."""
    return create_topics(kafka, settings, shadow_specifications(settings, name))


def remove_shadow(kafka: KafkaConnection, settings: Settings, name: str) -> list[str]:
    """Delete a shadow's consumer group and topics; returns the names of what was there.

    `settings` are those of the live workers. Raises `ShadowError` while its workers run, `ProvisioningError`.
    """
    group = shadow_application(settings.application_id, name)
    wanted = [topic.name for topic in shadow_specifications(settings, name)]
    with answering_admin(kafka) as admin:
        inputs = settings.topics.inputs
        standings = [Standing.of(kept.lineage) for tp, kept in committed_by(kafka, group).items() if tp.topic in inputs]
        if not all(found.follows or found.handed_to for found in standings):
            raise ShadowError(f"shadow {name} was promoted: {group} is what is live now, and is not removed")
        # The group first: what it has read means nothing without the states, and whoever has it may still write.
        outcome = delete_group(admin, group)
        if outcome == "in use":
            raise ShadowError(f"workers of shadow {name} run (consumer group {group}); stop them first")
        topics = delete_topics(kafka, admin, wanted)
    return [*([f"group {group}"] if outcome == "deleted" else []), *topics]
