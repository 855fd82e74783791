"""Names of topics, consumer groups and transactional ids: the one place that knows them.

Creating and checking topics on a broker is `stream.kafka.provisioning`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from events.types import KINDS, Kind

DEAD_LETTER_MAX_BYTES = 8 * 1024 * 1024
"""Largest batch that the topic of dead letters is made for: a dead letter carries its original, which may have
megabytes."""


CHANGELOG_TOMBSTONE_DAYS = 30
"""How long compaction leaves a deletion in the changelog. A copy of the changelog that was not kept up for longer may
have missed one, and must not be gone on from."""


LONGEST_NAME = 249
"""Letters that Kafka takes for the name of a topic."""

LONGEST_PART = 100
"""Letters of what goes into names of topics beside other parts: a prefix, the name of a replay or a shadow."""

_NAME = re.compile(r"[A-Za-z0-9._-]*")

_ORDER = "-order"


def is_part_of_names(text: str) -> bool:
    """Whether a text may be in the name of a topic: letters, digits, dots, dashes and underscores."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class OutputTopics:
    """Where a worker's outputs go; None where there are to be none of a kind."""

    scores: str | None = None
    alerts: str | None = None
    dead_letters: str | None = None
    latest_scores: str | None = None
    contracts: str | None = None
    order: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(
            name
            for name in (
                self.scores, self.alerts, self.dead_letters, self.latest_scores, self.contracts, self.order,
            )
            if name is not None
        )  # fmt: skip


@dataclass(frozen=True)
class Topics:
    """Names under an optional prefix, e.g. `Topics("risk.").scores == "risk.scores"`."""

    prefix: str = ""

    def of_kind(self, kind: Kind) -> str:
        """Input topic of an event kind."""
        return f"{self.prefix}{kind}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The four input topics, in the order of `KINDS`."""
        return tuple(self.of_kind(kind) for kind in KINDS)

    @property
    def scores(self) -> str:
        return f"{self.prefix}scores"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}alerts"

    @property
    def alert_actions(self) -> str:
        """What is done about alerts, from the database's outbox."""
        return f"{self.prefix}alert-actions"

    @property
    def latest_scores(self) -> str:
        """Each borrower's latest score, the same bytes as in `scores`; compacted."""
        return f"{self.scores}.latest"

    @property
    def contracts(self) -> str:
        """Each borrower's contracts as they stand; compacted."""
        return f"{self.prefix}contracts"

    @property
    def compacted_by_user(self) -> tuple[str, ...]:
        """Outputs that hold one record per borrower: what is to be erased of a borrower, is erased by a tombstone."""
        return (self.latest_scores, self.contracts)

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}dead-letters"

    @property
    def sent_back(self) -> str:
        """Which dead letters were sent back: the book of `foreshock dead-letters replay`, which makes the topic.
        Also the transactional id of the command, so that one of it runs at a time."""
        return f"{self.dead_letters}.sent-back"

    @property
    def stored(self) -> tuple[str, ...]:
        """Outputs that the sink writes into the database."""
        return (self.scores, self.alerts, self.contracts, self.dead_letters)

    def read_by_sink(self, event_history: bool = True) -> tuple[str, ...]:
        """What the sink reads: the outputs that it stores, and of the inputs `profiles` for the products of contracts,
        with `event_history` all."""
        return (*self.stored, *(self.inputs if event_history else (self.of_kind("profiles"),)))

    @property
    def told_to_webhooks(self) -> tuple[str, ...]:
        """What those who deliver webhooks read."""
        return (self.alerts, self.alert_actions)

    def order(self, application_id: str) -> str:
        """The order journal of an application's workers, see `stream.scoring.order_journal`."""
        return f"{application_id}{_ORDER}"

    def live_outputs(self, application_id: str) -> OutputTopics:
        """What workers publish."""
        return OutputTopics(
            self.scores, self.alerts, self.dead_letters, self.latest_scores, self.contracts, self.order(application_id)
        )

    def replay_outputs(self, name: str) -> OutputTopics:
        """What a replay publishes."""
        return OutputTopics(self.replay_scores(name), self.replay_alerts(name))

    def shadow_outputs(self, name: str) -> OutputTopics:
        """What a shadow publishes."""
        return OutputTopics(self.shadow_scores(name), self.shadow_alerts(name))

    def replay_scores(self, name: str) -> str:
        return f"{self.scores}.replay.{name}"

    def replay_alerts(self, name: str) -> str:
        return f"{self.alerts}.replay.{name}"

    def shadow_scores(self, name: str) -> str:
        return f"{self.scores}.shadow.{name}"

    def shadow_alerts(self, name: str) -> str:
        return f"{self.alerts}.shadow.{name}"

    def changelog(self, application_id: str) -> str:
        """Changelog of the workers' state table; Faust's own naming."""
        return f"{application_id}-user_state-changelog"

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic that is created up front, without changelogs and replays."""
        return (
            *self.inputs, self.scores, self.alerts, self.alert_actions, self.dead_letters, *self.compacted_by_user,
        )  # fmt: skip


def is_order(topic: str) -> bool:
    """Whether a topic is the order journal of some application."""
    return topic.endswith(_ORDER)


def sink_group(application_id: str) -> str:
    """The sink's consumer group, of `Settings.readers`; that of the workers is the `application_id` itself."""
    return f"{application_id}-sink"


def webhook_group(application_id: str) -> str:
    """The consumer group of those who deliver webhooks, of `Settings.readers`."""
    return f"{application_id}-webhooks"


def replay_application(application_id: str, replay: str) -> str:
    """The application, and so the consumer group, of a replay's workers."""
    return f"{application_id}-replay-{replay}"


def shadow_application(application_id: str, shadow: str) -> str:
    """The application, and so the consumer group, of a shadow's workers."""
    return f"{application_id}-shadow-{shadow}"


def transactional_id(application_id: str, partition: int, number: int) -> str:
    """Of one of the producers of a partition, counted from 0."""
    return f"{application_id}-{partition}-{number}"
