"""A connection that the broker has closed is told of as one, on uvloop too.

For a moment after a broker is gone, its connection is closed and aiokafka does not know yet. asyncio's own loop lets it
write; uvloop raises `RuntimeError`, which aiokafka does not expect: the task that updates a client's metadata would end
without a word, and the client would wait for ever for a broker that has long come back. Importing this module changes
how aiokafka's connections send.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

Sends = Callable[..., Any]


def _as_closed(send: Sends) -> Sends:
    """`send` of a connection, which raises `KafkaConnectionError` where the loop refuses to write, and closes it."""

    @functools.wraps(send)
    def sends(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(self, *arguments, **options)
        except KafkaError:  # which is a `RuntimeError` as well
            raise
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"the connection to {self.host}:{self.port} was closed: {error}") from error

    return sends


AIOKafkaConnection.send = _as_closed(AIOKafkaConnection.send)
AIOKafkaConnection._send_sasl_token = _as_closed(AIOKafkaConnection._send_sasl_token)
