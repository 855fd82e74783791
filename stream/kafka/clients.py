"""Kafka clients that leave nothing behind when no broker answers. Knows nothing of topics or events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient

Client = TypeVar("Client")


def opened(kind: Callable[..., Client], **options: Any) -> Client:
    """A `KafkaConsumer`, `KafkaProducer` or `KafkaAdminClient` with these options; raises what its constructor does.

    The constructor asks the broker for its version. Where none answers it raises, and the thread that it has started
    would go on trying for as long as the process lives, with nobody left to stop it.
    """
    networks: list[Any] = []

    def network(*arguments: Any, **config: Any) -> Any:
        networks.append(KafkaNetClient(*arguments, **config))
        return networks[-1]

    try:
        return kind(kafka_client=network, **options)
    except BaseException:
        for begun in networks:
            begun.close()
        raise


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[None]:
    """An aiokafka producer or consumer from its start to its stop.

    One that could not start is stopped as well: it would complain of being unclosed whenever the collector finds it.
    """
    try:
        await client.start()
        yield
    finally:
        await client.stop()
