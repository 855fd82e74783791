"""The greatest rate that the transport allows: decode each event, publish a score. No state, no model, no commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.contenders import bare
from bench.contenders.task import Task, score_bytes

NO_SCORES = [0.0, 0.0, 0.0, 0.0]


def main() -> None:
    task = Task.from_command_line()
    decoders = task.decoders

    def compute(polled: Mapping[Any, Sequence[Any]]) -> dict[int, bare.KeyedValues]:
        outputs: dict[int, bare.KeyedValues] = {}
        for tp, records in polled.items():
            topic, partition, decode = tp.topic, tp.partition, decoders[tp.topic]
            outputs.setdefault(partition, []).extend(
                (record.key, score_bytes(decode(record.value), topic, partition, record.offset, NO_SCORES))
                for record in records
            )
        return outputs

    bare.run(task, compute)


if __name__ == "__main__":
    main()
