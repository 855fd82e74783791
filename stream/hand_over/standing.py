"""How hand-overs between an application and its shadows stand, for who looks on. Reads groups and offsets, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faust.types import TP

from stream.hand_over.situation import HandOverRefused, Situation
from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Committed, committed_by
from stream.kafka.provisioning import answering_admin
from stream.shadow.names import is_shadow_name
from stream.topics import Topics, shadow_application


@dataclass(frozen=True)
class HandOverStanding:
    """Of one shadow by its name. `onward` is how the hand-over to it stands, `back` the way back, each None where it
    cannot be, for the reason in `why_not_onward` and `why_not_back`."""

    shadow: str
    application_id: str
    shadow_application_id: str
    onward: Situation | None
    why_not_onward: str
    back: Situation | None
    why_not_back: str

    @property
    def led(self) -> frozenset[int]:
        """Partitions in which the shadow leads."""
        if self.onward is not None:
            return self.onward.led
        return frozenset() if self.back is None else self.back.pending


def standings(kafka: KafkaConnection, topics: Topics, application_id: str) -> list[HandOverStanding]:
    """How each shadow of an application stands, by name. Raises `ProvisioningError` and `NotAllowed`."""
    beginning = shadow_application(application_id, "")
    with answering_admin(kafka) as admin:
        groups = sorted(str(found["group_id"]) for found in admin.list_groups())
    given = committed_by(kafka, application_id)
    return [
        standing_of(topics, application_id, group.removeprefix(beginning), given, committed_by(kafka, group))
        for group in groups
        # What is named by others may be anything, and is shown as part of a command.
        if group.startswith(beginning) and is_shadow_name(group.removeprefix(beginning))
    ]


def standing_of(
    topics: Topics, application_id: str, shadow: str, given: Mapping[TP, Committed], taken: Mapping[TP, Committed]
) -> HandOverStanding:
    """Of the committed offsets of an application and of its shadow. Pure."""
    taker = shadow_application(application_id, shadow)
    partitions = 1 + max((tp.partition for tp in (*given, *taken) if tp.topic in topics.inputs), default=-1)
    onward, why_not_onward = _situation(topics, application_id, taker, partitions, given, taken)
    back, why_not_back = _situation(topics, taker, application_id, partitions, taken, given)
    return HandOverStanding(shadow, application_id, taker, onward, why_not_onward, back, why_not_back)


def _situation(
    topics: Topics,
    giver: str,
    taker: str,
    partitions: int,
    given: Mapping[TP, Committed],
    taken: Mapping[TP, Committed],
) -> tuple[Situation | None, str]:
    try:
        found = Situation.of(giver, taker, topics.inputs, partitions, given, taken)
    except HandOverRefused as error:
        return None, str(error)
    if len(found.returned) == partitions:
        return None, f"{giver} itself follows {taker}: it has nothing to hand over"
    return found, ""
