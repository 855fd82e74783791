"""The Faust application of a worker: one agent over the four input topics, one table of user rows.

Wires the parts together and sets Faust up; what happens to an event is in `stream.engine`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import psutil
from faust.types import TP

from model.bundle import Bundle
from stream.checkpoint import Checkpoints, KeyedValue
from stream.engine import Engine, wall_ms
from stream.policy import AlertPolicy
from stream.record_batches import BATCH_BYTES
from stream.resident import ResidentSlab
from stream.scorer import Scorer
from stream.settings import Settings
from stream.stages import Stages
from stream.state import Slab, blank_row, row_dtype
from stream.store import StateTable
from stream.transport import Poll, PollSchema, consumer_of, producer_of

if TYPE_CHECKING:  # RocksDB is loaded by those who ask for it
    from stream.archive import Archives

TABLE_NAME = "user_state"
MAX_REQUEST_BYTES = 8 * 1024 * 1024
SHUTDOWN_LIMIT_S = 15.0

logger = logging.getLogger("foreshock.worker")


def faust_app(settings: Settings, bootstrap_servers: str, application_id: str, **overrides: Any) -> faust.App:
    """A Faust app on the batched transport with everything off that Foreshock does not use.

    `application_id` is the consumer group. Connects to nothing until it is started.
    """
    servers = [server.strip() for server in bootstrap_servers.split(",")]
    options: dict[str, Any] = {
        "broker": [f"foreshock://{server}" for server in servers],
        "autodiscover": False,
        "datadir": Path(tempfile.gettempdir()) / f"foreshock-{application_id}",
        "store": "slab://",
        "web_enabled": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "broker_commit_interval": settings.commit_interval_s,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.heartbeat_interval_s,
        "broker_request_timeout": max(90.0, settings.session_timeout_s + 1),
        "broker_max_poll_records": settings.batch_max_records,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": 4 * 1024 * 1024,
        "producer_linger": 0,
        "producer_max_batch_size": BATCH_BYTES,
        "producer_max_request_size": MAX_REQUEST_BYTES,
        "producer_acks": -1,
        "producer_request_timeout": 60.0,
        "stream_buffer_maxsize": 1,
        "stream_wait_empty": True,
        "table_standby_replicas": settings.standby_replicas,
    }
    return faust.App(application_id, **(options | overrides))


def worker_slab(bundle: Bundle, archives: Archives | None = None, resident_users: int | None = None) -> Slab:
    """A slab for the states of a bundle, with room reserved in half of the machine's memory."""
    blank = blank_row(row_dtype(bundle.state_width), bundle.fingerprint)
    reserve_bytes = psutil.virtual_memory().total // 2
    if archives is None:
        return Slab(blank, reserve_bytes=reserve_bytes)
    return ResidentSlab(blank, archives, resident_users, reserve_bytes=reserve_bytes)


class WorkerApp:
    """A worker: the Faust app and the engine behind its agent."""

    def __init__(
        self, settings: Settings, bootstrap_servers: str, bundle: Bundle, archives: Archives | None = None
    ) -> None:
        self.settings = settings
        self.bundle = bundle
        self.slab = worker_slab(bundle, archives, settings.resident_users)
        self.app = faust_app(settings, bootstrap_servers, settings.application_id)
        self.table = StateTable(
            self.app,
            name=TABLE_NAME,
            key_type=bytes,
            value_type=bytes,
            partitions=settings.partitions,
            recovery_buffer_size=2,
            options={"slab": self.slab, "on_failure": self.fail},
        )
        self.app.tables.add(self.table)
        stages = Stages()
        self.checkpoints = Checkpoints(
            self,
            self.slab,
            settings.topics,
            interval_s=settings.commit_interval_s,
            monotonic=time.monotonic,
            on_failure=self.fail,
            stages=stages,
        )
        policy = AlertPolicy.from_settings(settings, bundle.thresholds)
        self.engine = Engine(
            settings,
            Scorer(bundle, policy, self.slab, settings.topics),
            self.slab,
            self.checkpoints,
            self._publish_missed,
            now_ms=wall_ms,
            stages=stages,
        )
        schema = PollSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        inputs = self.app.topic(*settings.topics.inputs, schema=schema, maxsize=1)
        self.app.agent(inputs, name="score", concurrency=1)(self._score)

    async def _score(self, polls: Any) -> None:
        """The agent: every poll through the engine."""
        consumer = consumer_of(self.app)
        consumer.drain = self.engine.drain
        consumer.longest_unreachable_s, consumer.on_unreachable = self.settings.broker_timeout_s, self.fail
        async for poll in polls:
            if isinstance(poll, Poll):
                try:
                    consumer.held = await self.engine.take(poll)
                except Exception as error:
                    self.fail(error)
                finally:
                    consumer.taken()

    def lag(self) -> dict[TP, int]:
        """Records that the broker is known to hold after the last one read, by assigned topic and partition."""
        return consumer_of(self.app).lag()

    async def send(self, topic: str, partition: int, records: Sequence[KeyedValue]) -> Sequence[Awaitable[Any]]:
        return await producer_of(self.app).send_records(topic, partition, records)

    async def publish_rows(self, rows: Mapping[int, Sequence[tuple[bytes, bytes]]]) -> None:
        await self.table.publish_rows(rows)

    async def commit(self, offsets: Mapping[TP, int]) -> None:
        consumer = consumer_of(self.app)
        consumer.advance(offsets)
        await consumer.commit()

    async def _publish_missed(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        topic = self.settings.topics.of_kind("repayments")
        await asyncio.gather(*await self.send(topic, partition, records))

    def fail(self, error: BaseException) -> None:
        """End the process: nothing that is not durable may be committed. The first failure counts."""
        if self.engine.failure is not None:
            return
        self.engine.failure = error
        logger.critical("worker stops: %s: %s", type(error).__name__, error, exc_info=error)
        loop = asyncio.get_running_loop()
        loop.call_later(SHUTDOWN_LIMIT_S, os._exit, 1)
        self._crashing = loop.create_task(self.app.crash(error))
