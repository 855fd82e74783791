"""Faust as in its documentation: an agent that takes one event at a time, a table of windows, one send per score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust

from bench.contenders.task import Task, score_bytes
from bench.window import Windowed


def build(task: Task) -> faust.App:
    """The app, without the options that would only slow it down."""
    app = faust.App(
        task.group,
        broker=[f"kafka://{server}" for server in task.bootstrap_servers.split(",")],
        store="memory://",
        datadir=Path(task.folder) / "faust",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )
    decoders = task.decoders
    assert task.window_model is not None
    model = Windowed(Path(task.window_model))
    raw: dict[str, Any] = {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
    }
    inputs = app.topic(*task.inputs, **raw)
    output = app.topic(task.output, **raw)
    windows = app.Table("windows", key_type=bytes, value_type=bytes, partitions=task.partitions)

    @app.agent(inputs)
    async def score(stream: Any) -> None:
        async for record in stream.events():
            message = record.message
            event = decoders[message.topic](record.value)
            horizons, windows[record.key] = model.take(event, windows.get(record.key))
            value = score_bytes(event, message.topic, message.partition, message.offset, horizons)
            await output.send(key=record.key, value=value, partition=message.partition)

    return app


def main() -> None:
    import asyncio

    from faust.worker import Worker

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    Worker(
        build(Task.from_command_line()), loop=loop, quiet=True, loglevel="WARNING", override_logging=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
