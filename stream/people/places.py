"""Topics that hold records about single users, and for how long they keep them. Reads no record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import DAY_MS, LONGEST_MS, UNLIMITED, TopicState, topic_states
from stream.settings import Settings
from stream.topics import is_order, replay_application, shadow_application


@dataclass(frozen=True)
class Place:
    """A topic, and in words for how long what it holds about a user stays there after the user was forgotten."""

    topic: str
    until: str


def places(connection: KafkaConnection, settings: Settings) -> list[Place]:
    """Every topic of a deployment that is there, and those of its replays and shadows. Raises `ProvisioningError`."""
    topics = settings.topics
    known = (*topics.all, topics.changelog(settings.application_id))
    states = topic_states(connection, lambda name: name in known or is_beside(name, settings))
    beside = sorted(states.keys() - set(known))
    return [Place(name, kept(states[name])) for name in (*known, *beside) if name in states]


def is_beside(name: str, settings: Settings) -> bool:
    """Whether a topic belongs to a replay or a shadow of the deployment."""
    topics = settings.topics
    outputs = (topics.replay_scores(""), topics.replay_alerts(""), topics.shadow_scores(""), topics.shadow_alerts(""))
    applications = replay_application(settings.application_id, ""), shadow_application(settings.application_id, "")
    return name.startswith(outputs) or (
        name.startswith(applications) and (name.endswith(topics.changelog("")) or is_order(name))
    )


def kept(state: TopicState) -> str:
    """How long a topic keeps a record of a user who was forgotten, as its settings say."""
    policy = state.configs.get("cleanup.policy", "")
    if not policy:
        return "its settings could not be read: ask who runs the broker"
    until = []
    if "compact" in policy:
        until.append(f"until compaction, {_after(state.configs, 'max.compaction.lag.ms')}")
    if "delete" in policy:
        until.append(_after(state.configs, "retention.ms", of="the record's time"))
    return ", or ".join(until)


def _after(configs: Mapping[str, str], name: str, of: str = "the tombstone") -> str:
    found = configs.get(name, UNLIMITED)
    if found == UNLIMITED or int(found) >= LONGEST_MS:
        return f"without limit ({name})"
    return f"at most about {int(found) / DAY_MS:.1f} days after {of} ({name})"
