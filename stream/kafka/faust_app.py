"""A Faust application on the batched transport, with everything off that Foreshock does not use."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import faust

from stream.kafka.record_batches import BATCH_BYTES
from stream.settings import Settings

MAX_REQUEST_BYTES = 8 * 1024 * 1024


SHUTDOWN_LIMIT_S = 15.0


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
