"""Which broker coordinates a consumer group or a transactional id, asked over a socket of our own.

A broker that is new has no coordinator until somebody has asked for one: it then makes the topic that offsets are kept
in. Client libraries ask again and log an error each time. Knows nothing of what groups read.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stream.kafka.clients import ACCESS_TIMEOUT_S, NoBrokerReachable, first_reachable, open_socket
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.sasl import ask, string

_FIND_COORDINATOR, _VERSION = 10, 1
GROUP, TRANSACTIONAL_ID = 0, 1
NONE, LOADING, NOT_AVAILABLE, NOT_COORDINATOR = 0, 14, 15, 16

COORDINATOR_TIMEOUT_S = 30.0
_PAUSE_S = 0.1

logger = logging.getLogger("foreshock.kafka")


class Coordinator(NamedTuple):
    """The answer of a broker: Kafka's error code, and the address that counts where the code is 0."""

    code: int
    address: BrokerAddress


@contextmanager
def any_socket(connection: KafkaConnection) -> Iterator[socket.socket]:
    """A connection to the first broker that takes one. Raises `NoBrokerReachable`, `BrokerRefuses`, `OSError`."""
    (address,) = first_reachable(connection, ACCESS_TIMEOUT_S).addresses
    with open_socket(connection, address, ACCESS_TIMEOUT_S) as opened:
        yield opened


def coordinator_of(opened: socket.socket, client_id: str, kind: int, name: str) -> Coordinator:
    """Ask for the coordinator of a group or of a transactional id, by `kind`. Raises `OSError`."""
    answer = ask(opened, client_id, _FIND_COORDINATOR, _VERSION, string(name) + struct.pack(">b", kind))
    code, said_bytes = struct.unpack_from(">hh", answer, 4)
    at = 8 + max(said_bytes, 0)
    _, host_bytes = struct.unpack_from(">ih", answer, at)
    at += 6
    host = answer[at : at + host_bytes].decode()
    (port,) = struct.unpack_from(">i", answer, at + host_bytes)
    return Coordinator(code, BrokerAddress(host, port))


def await_coordinator(
    connection: KafkaConnection,
    group: str,
    timeout_s: float = COORDINATOR_TIMEOUT_S,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the group has a coordinator. Where it has none in time, say so in the log and go on: clients wait.

    Says nothing of brokers that are down. Raises `BrokerRefuses`.
    """
    deadline_s = monotonic() + timeout_s
    with contextlib.suppress(NoBrokerReachable), any_socket(connection) as opened:
        while True:
            code = coordinator_of(opened, connection.client_id, GROUP, group).code
            if code not in (LOADING, NOT_AVAILABLE, NOT_COORDINATOR):
                return
            if monotonic() >= deadline_s:
                logger.error(
                    "the brokers at %s have named no coordinator of group %s for %.0f s (Kafka's error %d); see their "
                    "logs, and whether the topic __consumer_offsets has as many replicas as it must have",
                    connection,
                    group,
                    timeout_s,
                    code,
                )
                return
            sleep(_PAUSE_S)
