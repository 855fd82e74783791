"""What a client may do on a broker with an authorizer, and which right is missing: principal, resource, operation.

Asked before work begins: client libraries name the resource only, late, or nothing at all. Changes nothing.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from kafka.errors import KafkaError

from stream.kafka.clients import ACCESS_TIMEOUT_S, NoBrokerReachable, first_reachable, open_admin, open_socket
from stream.kafka.connection import KafkaConnection
from stream.kafka.coordinator import GROUP, TRANSACTIONAL_ID, any_socket, coordinator_of
from stream.kafka.refusal import BrokerRefuses
from stream.kafka.sasl import ask, string

Kind: TypeAlias = Literal["topic", "group", "transactional id", "cluster"]
Operation: TypeAlias = Literal[
    "Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs", "AlterConfigs", "IdempotentWrite"
]

CLUSTER = "kafka-cluster"
"""What Kafka calls the cluster in a right."""

_DESCRIBE_GROUPS, _DESCRIBE_GROUPS_VERSION = 15, 3
_INIT_PRODUCER_ID, _INIT_PRODUCER_ID_VERSION = 22, 0
_READ_BIT = 1 << 3
_UNKNOWN = -(2**31)
"""What stands for the operations where the broker does not tell them."""

TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, TRANSACTIONAL_ID_DENIED = 29, 30, 31, 53
_KINDS: dict[int, tuple[Kind, str]] = {
    TOPIC_DENIED: ("topic", "Read or Write"),
    GROUP_DENIED: ("group", "Read"),
    CLUSTER_DENIED: ("cluster", "IdempotentWrite"),
    TRANSACTIONAL_ID_DENIED: ("transactional id", "Write"),
}
"""Resource and operation by Kafka's error code."""


class Right(NamedTuple):
    """One operation on one resource. `Read` and `Write` bring `Describe`."""

    kind: Kind
    name: str
    operation: Operation


class NotAllowed(BrokerRefuses):
    """The broker's authorizer does not allow what is needed; the message names each right, and how to grant it."""


def missing_rights(connection: KafkaConnection, rights: Iterable[Right]) -> list[Right]:
    """Those of `rights` that this client does not have, in their order.

    Topics that do not exist are left out, as is all that a broker of an old release does not tell, and `Create` and
    `Delete`, which show when they are used. Of a transactional id, only `Describe` can be asked for without harm: what
    has that and not `Write` is not found. Raises `NoBrokerReachable`, `BrokerRefuses`, `OSError`, `KafkaError`.
    """
    asked = list(dict.fromkeys(rights))
    denied = _denied_topics(connection, [right for right in asked if right.kind == "topic"])
    with any_socket(connection) as opened:
        for right in asked:
            if right.kind == "group" and not _may_use_group(connection, opened, right):
                denied.add(right)
            elif right.kind == "transactional id":
                answer = coordinator_of(opened, connection.client_id, TRANSACTIONAL_ID, right.name)
                if answer.code == TRANSACTIONAL_ID_DENIED:
                    denied.add(right)
            elif right.kind == "cluster" and not _may_write_idempotently(connection, opened):
                denied.add(right)
    return [right for right in asked if right in denied]


def require_rights(connection: KafkaConnection, rights: Iterable[Right]) -> None:
    """Raises `NotAllowed` naming all that are missing, `BrokerRefuses`; says nothing of brokers that are down."""
    with contextlib.suppress(NoBrokerReachable):
        missing = missing_rights(connection, rights)
        if missing:
            raise not_allowed(connection, missing)


def not_allowed(connection: KafkaConnection, missing: Sequence[Right]) -> NotAllowed:
    """The error that names these rights."""
    principal = connection.security.principal
    denied = "; ".join(f"{right.operation} on {right.kind} {right.name}" for right in missing)
    grants = "; ".join(grant_of(principal, kind, name, ops) for kind, name, ops in _by_resource(missing))
    return NotAllowed(f"{connection}: {principal} lacks the right to {denied}; grant it: {grants}")


def grant_of(principal: str, kind: Kind, name: str, operations: Sequence[str]) -> str:
    """Arguments of Kafka's own tool that grant operations on a resource."""
    resource = "--cluster" if kind == "cluster" else f"--{kind.replace(' ', '-')} {name}"
    wanted = " ".join(f"--operation {operation}" for operation in operations)
    return f"kafka-acls --add --allow-principal {principal} {wanted} {resource}"


def denial(error: BaseException, connection: KafkaConnection, *needed: Right) -> NotAllowed | None:
    """What an error of a client library means, by Kafka's code; None for one that is about no right.

    `needed` are the rights that were used, where whoever asks knows them.
    """
    code = getattr(error, "errno", None)
    if code not in _KINDS or isinstance(error, OSError):
        return None
    if needed:
        return not_allowed(connection, needed)
    kind, operation = _KINDS[code]
    named = CLUSTER if kind == "cluster" else ", ".join(sorted(_names(error))) or "(not named by the broker)"
    principal = connection.security.principal
    return NotAllowed(
        f"{connection}: {principal} lacks the right to {operation} on {kind} {named}; "
        f"grant it: {grant_of(principal, kind, named, operation.split(' or '))}"
    )


def _by_resource(rights: Sequence[Right]) -> Iterator[tuple[Kind, str, list[str]]]:
    found: dict[tuple[Kind, str], list[str]] = {}
    for right in rights:
        found.setdefault((right.kind, right.name), []).append(right.operation)
    for (kind, name), operations in found.items():
        yield kind, name, operations


def _names(error: BaseException) -> set[str]:
    """Resources that an error of aiokafka was made with: a name, or several."""
    found: set[str] = set()
    for argument in error.args:
        found |= {argument} if isinstance(argument, str) else {str(one) for one in argument or ()}
    return found


def _denied_topics(connection: KafkaConnection, rights: Sequence[Right]) -> set[Right]:
    if not rights:
        return set()
    answering = first_reachable(connection, ACCESS_TIMEOUT_S)
    try:
        admin = open_admin(answering, bootstrap_timeout_ms=int(ACCESS_TIMEOUT_S * 1000))
    except (KafkaError, ValueError) as error:
        raise NoBrokerReachable(f"{connection}: {error}") from error
    try:
        described: dict[str, Any] = {
            topic["name"]: topic for topic in admin.describe_topics(sorted({right.name for right in rights}))
        }
    finally:
        admin.close()
    denied = set()
    for right in rights:
        topic = described.get(right.name, {})
        code, allowed = topic.get("error_code"), topic.get("authorized_operations")
        told = code == 0 and bool(allowed) and right.operation not in ("Create", "Delete")
        if code == TOPIC_DENIED or (told and _as_kafka_says(right.operation) not in allowed):
            denied.add(right)
    return denied


def _as_kafka_says(operation: Operation) -> str:
    """`DescribeConfigs` as `DESCRIBE_CONFIGS`."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in operation).lstrip("_").upper()


def _may_use_group(connection: KafkaConnection, opened: Any, right: Right) -> bool:
    coordinator = coordinator_of(opened, connection.client_id, GROUP, right.name)
    if coordinator.code:
        return coordinator.code != GROUP_DENIED
    if right.operation == "Describe":
        return True
    with open_socket(connection, coordinator.address, ACCESS_TIMEOUT_S) as there:
        # Of one group the answer ends with its operations; a group that does not exist yet has an answer, too.
        body = struct.pack(">i", 1) + string(right.name) + b"\x01"
        answer = ask(there, connection.client_id, _DESCRIBE_GROUPS, _DESCRIBE_GROUPS_VERSION, body)
    (code,), (allowed,) = struct.unpack_from(">h", answer, 8), struct.unpack(">i", answer[-4:])
    if code == GROUP_DENIED:
        return False
    return bool(code or allowed == _UNKNOWN or allowed & _READ_BIT)


def _may_write_idempotently(connection: KafkaConnection, opened: Any) -> bool:
    """Asks for a producer's id, as every idempotent producer does first; nothing is done with it."""
    body = struct.pack(">hi", -1, 60_000)
    answer = ask(opened, connection.client_id, _INIT_PRODUCER_ID, _INIT_PRODUCER_ID_VERSION, body)
    (code,) = struct.unpack_from(">h", answer, 4)
    return bool(code != CLUSTER_DENIED)
