"""Deletes consumer groups and topics of applications that are done with, and waits until the topics are gone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from kafka.errors import KafkaError

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.kafka.rights import Right, denial

DELETE_TIMEOUT_S = 30.0

GroupRemoval: TypeAlias = Literal["deleted", "absent", "in use"]

_ANSWERS: dict[str, GroupRemoval] = {"OK": "deleted", "GroupIdNotFoundError": "absent", "NonEmptyGroupError": "in use"}


def delete_group(admin: Any, group: str) -> GroupRemoval:
    """Delete a consumer group in which nobody is. Raises `ProvisioningError` for other reasons not to."""
    answer = admin.delete_groups([group])[group]
    if answer not in _ANSWERS:
        raise ProvisioningError(f"consumer group {group} could not be deleted: {answer}; try again, or grant the right")
    return _ANSWERS[answer]


def delete_topics(connection: KafkaConnection, admin: Any, names: Iterable[str]) -> list[str]:
    """Delete those of the topics that exist, and return their names once the broker has forgotten them.

    Raises `ProvisioningError` where that takes too long, `NotAllowed`, `KafkaError`.
    """
    present = set(admin.list_topics())
    topics = [name for name in names if name in present]
    if not topics:
        return []
    try:
        admin.delete_topics(topics)
    except KafkaError as error:
        refused = denial(error, connection, *(Right("topic", topic, "Delete") for topic in topics))
        raise (error if refused is None else refused) from error
    deadline_s = time.monotonic() + DELETE_TIMEOUT_S
    while left := set(topics) & set(admin.list_topics()):
        if time.monotonic() > deadline_s:
            raise ProvisioningError(f"{connection} has not deleted {', '.join(sorted(left))} yet; try again")
        time.sleep(0.2)
    return topics
