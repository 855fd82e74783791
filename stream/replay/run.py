"""Replay: scores a range of the past again, under the same or another bundle, by workers that follow the order journal.

A replay's workers read the input topics from their beginning, so that every state is the same as it was live, and
publish only the range, to `scores.replay.<name>` and `alerts.replay.<name>`. They have a consumer group, states and a
changelog of their own: they share the partitions among them, on one machine or several, and go on after a kill where
they were. Live topics, states and offsets are untouched.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import msgspec

from stream.event_archive.feed import ArchiveFeed
from stream.event_archive.reader import ArchiveReader
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import changelog_specification, create_topics, replay_specifications
from stream.kafka.removal import delete_group, delete_topics
from stream.replay.plan import ReplayPlan
from stream.replay.range import ReplayError, ReplayRange
from stream.settings import Settings
from stream.topics import replay_application
from stream.worker.following import Following

NOTICED_S = 5.0
"""After a session has timed out, so long at most until the group is without the worker."""
ASK_S = 0.5


def replay_settings(settings: Settings, name: str, partitions: int) -> Settings:
    """Settings of a replay's workers: those of the live ones under another application."""
    return settings.model_copy(
        update={
            "application_id": replay_application(settings.application_id, name),
            "partitions": partitions,
            "watchdog": False,
            "state_dir": None,
            "metrics_port": None,
        }
    )


class Assignment(msgspec.Struct, frozen=True):
    """What a replay's worker is told: of the plan, all but the spans of the inputs."""

    name: str
    order_topic: str | None
    journal_ends: list[int]
    partitions: int
    from_at: dt.datetime
    to_at: dt.datetime
    users: list[str] | None
    forgotten: dict[int, dict[str, int]]
    events_per_s: float | None
    application_id: str
    archives: list[str] = []

    @classmethod
    def of(cls, plan: ReplayPlan, events_per_s: float | None, application_id: str) -> Assignment:
        """Of a worker that is to take at most so many events per second, None: as many as it can. `application_id` is
        that of the live workers."""
        replayed = plan.replayed
        return cls(
            replayed.name,
            plan.order_topic,
            [span.end for span in plan.journal],
            plan.partitions,
            replayed.from_at,
            replayed.to_at,
            None if replayed.users is None else sorted(replayed.users),
            {
                partition: {key.decode(): offset for key, offset in found.items()}
                for partition, found in plan.forgotten.items()
            },
            events_per_s,
            application_id,
            [str(folder.resolve()) for folder in plan.archives],
        )

    def feed(self) -> ArchiveFeed | None:
        """What its worker reads in the place of the topics. Raises `ArchiveError`."""
        return ArchiveFeed(ArchiveReader([*map(Path, self.archives)])) if self.archives else None

    def following(self) -> Following:
        """How its worker follows the journal."""
        users = None if self.users is None else frozenset(self.users)
        replayed = ReplayRange(self.name, self.from_at, self.to_at, users)
        return Following(
            self.order_topic,
            dict(enumerate(self.journal_ends)),
            None if users is None else frozenset(user.encode() for user in users),
            replayed.published,
            {
                partition: {key.encode(): offset for key, offset in found.items()}
                for partition, found in self.forgotten.items()
            },
            self.events_per_s,
            self.application_id,
            self.application_id,
        )


def prepare_topics(
    kafka: KafkaConnection, settings: Settings, plan: ReplayPlan, *, overwrite: bool, go_on: bool, earlier: str = ""
) -> bool:
    """Create the topics of a replay; whether an earlier one is gone on with.

    `go_on` says that what is there is the beginning of the same replay; `earlier` what to say of the run that it is
    from where it is not. Raises `ReplayError` when topics exist and neither that nor `overwrite` is set,
    `TopicUnreadable` when there are no input topics.
    """
    name = plan.replayed.name
    own = replay_settings(settings, name, plan.partitions)
    wanted = (*replay_specifications(own, name), changelog_specification(own))
    admin = open_admin(kafka)
    try:
        present = [topic.name for topic in wanted if topic.name in set(admin.list_topics())]
        if present and overwrite:
            if delete_group(admin, own.application_id) == "in use":
                raise ReplayError(f"workers of replay {name} are running; stop them first")
            delete_topics(kafka, admin, present)
        elif present and not go_on:
            raise ReplayError(
                f"{' and '.join(present)} exist from an earlier run{earlier}; choose another name or give --overwrite"
            )
    finally:
        admin.close()
    create_topics(kafka, own, wanted)
    return bool(present) and not overwrite


def remove_states(kafka: KafkaConnection, settings: Settings, plan: ReplayPlan) -> bool:
    """Delete the changelog and the group of a replay that is done, unless workers on other machines are still in it.

    Waits for the time that the group takes to notice that a worker is gone: one that was killed is no other machine's.
    """
    own = replay_settings(settings, plan.replayed.name, plan.partitions)
    admin = open_admin(kafka)
    until_s = time.monotonic() + own.session_timeout_s + NOTICED_S
    try:
        while delete_group(admin, own.application_id) == "in use":
            if time.monotonic() > until_s:
                return False
            time.sleep(ASK_S)
        delete_topics(kafka, admin, [changelog_specification(own).name])
        return True
    finally:
        admin.close()
