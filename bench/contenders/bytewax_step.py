"""Bytewax with the worker's own step model: a stateful map per event, state snapshots in its recovery store.

State is made durable by snapshots of the partitioned SQLite store at the end of each epoch, not by a changelog topic.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.contenders.task import Task, score_bytes
from bench.single_step import SingleStep

EPOCH = dt.timedelta(seconds=1)
BATCH_EVENTS = 250
"""Records per batch of a partition. The default of 1,000 would put all events of a short run into one batch."""


def build(task: Task) -> Dataflow:
    """The dataflow: source, key, stateful step, sink."""
    decoders = task.decoders
    model = SingleStep(Path(task.bundle))
    brokers = task.bootstrap_servers.split(",")

    def step(stored: bytes | None, message: KafkaSourceMessage[Any, Any]) -> tuple[bytes, Any]:
        topic, partition, offset = message.topic, message.partition, message.offset
        assert topic is not None
        assert partition is not None
        assert offset is not None
        event = decoders[topic](message.value)
        horizons, kept = model.take(event, stored)
        return kept, KafkaSinkMessage(message.key, score_bytes(event, topic, partition, offset, horizons))

    flow = Dataflow("foreshock-peer")
    messages = op.input("events", flow, KafkaSource(brokers, task.inputs, batch_size=BATCH_EVENTS))
    keyed = op.key_on("user", messages, lambda message: message.key.decode())
    scored = op.stateful_map("step", keyed, step)
    op.output("scores", op.map("value", scored, lambda pair: pair[1]), KafkaSink(brokers, task.output))
    return flow


def main() -> None:
    task = Task.from_command_line()
    snapshots = Path(task.folder) / "bytewax"
    snapshots.mkdir()
    init_db_dir(snapshots, 1)
    cli_main(build(task), epoch_interval=EPOCH, recovery_config=RecoveryConfig(str(snapshots)))


if __name__ == "__main__":
    main()
