"""Opens Faust apps: on the batched transport, with every feature off that Foreshock does not use."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import faust

from stream.kafka.connection import KafkaConnection
from stream.kafka.earlier_records import EarlierRecords
from stream.kafka.record_batches import BATCH_BYTES
from stream.settings import Settings

MAX_REQUEST_BYTES = 8 * 1024 * 1024


class App(faust.App):
    """A Faust app that keeps its `connection` for the changelog reader, which opens sockets of its own, what its
    consumer reads in the place of its topics, if anything, and for how long its threads may hang."""

    earlier_records: EarlierRecords | None = None

    def __init__(
        self, application_id: str, connection: KafkaConnection, stall_timeout_s: float, **options: Any
    ) -> None:
        self.connection = connection
        self.stall_timeout_s = stall_timeout_s
        super().__init__(application_id, **connection.faust_options(), **options)


def faust_app(settings: Settings, connection: KafkaConnection, application_id: str, **overrides: Any) -> App:
    """A Faust app with the options that worker and sink share; `overrides` replace some of them.

    `application_id` is the consumer group. Connects to nothing until it is started.
    """
    options: dict[str, Any] = {
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
        "recovery_consistency_check": False,  # the store looks itself, and says what there is to do
        "table_standby_replicas": settings.standby_replicas,
    }
    return App(application_id, connection, settings.stall_timeout_s, **(options | overrides))
