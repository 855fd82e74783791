"""Quix Streams: a stateful function per event over the four topics joined, state in RocksDB with a changelog.

`python -m bench.contenders.quix step|window <task>`: either the worker's own step model or the window of 60.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context

from bench.contenders.task import Task, score_bytes
from bench.single_step import SingleStep
from bench.window import Windowed
from events.types import Event

Take = Callable[[Event, bytes | None], tuple[list[float], bytes]]


def build(task: Task, take: Take) -> Application:
    """The application with its one pipeline."""
    app = Application(
        broker_address=task.bootstrap_servers,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=str(Path(task.folder) / "quix"),
        loglevel="WARNING",
    )
    decoders = task.decoders
    raw: dict[str, Any] = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    frames = [app.dataframe(app.topic(name, **raw)) for name in task.inputs]
    joined = reduce(lambda left, right: left.concat(right), frames)

    def score(value: bytes, state: Any) -> bytes:
        context = message_context()
        event = decoders[context.topic](value)
        horizons, kept = take(event, state.get_bytes("state"))
        state.set_bytes("state", kept)
        return score_bytes(event, context.topic, context.partition, context.offset, horizons)

    joined.apply(score, stateful=True).to_topic(
        app.topic(task.output, key_serializer="bytes", value_serializer="bytes")
    )
    return app


def main() -> None:
    variant = sys.argv.pop(1)
    task = Task.from_command_line()
    if variant == "window":
        assert task.window_model is not None
        take: Take = Windowed(Path(task.window_model)).take
    else:
        take = SingleStep(Path(task.bundle)).take
    build(task, take).run()


if __name__ == "__main__":
    main()
