"""A process of its own that plans a replay, or compares one, and prints how much memory it had at most, in MiB.

Started by `bench.replay`, with what to do and the settings as JSON.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

from stream.kafka.connection import KafkaConnection
from stream.replay.diff import diff_with_live
from stream.replay.plan import plan_replay
from stream.replay.range import ReplayRange
from stream.settings import load_settings

Work = Literal["plan", "diff"]


class Task(msgspec.Struct):
    """What to do, over a range of a replay of this name."""

    work: Work
    replayed: ReplayRange
    bootstrap_servers: str
    topic_prefix: str
    application_id: str


def peak_mib(task: Task, folder: Path) -> float:
    """Do it in a process of its own; the most memory that it had, MiB. Raises `CalledProcessError`."""
    path = folder / f"{task.work}.task.json"
    path.write_bytes(msgspec.json.encode(task))
    command = [sys.executable, "-m", "bench.replay_memory", str(path)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(path: Path) -> None:
    """Do what the file says."""
    task = msgspec.json.decode(path.read_bytes(), type=Task)
    settings = load_settings(topic_prefix=task.topic_prefix, application_id=task.application_id)
    kafka = KafkaConnection.parse(task.bootstrap_servers)
    if task.work == "plan":
        plan_replay(kafka, settings, task.replayed)
    else:
        diff_with_live(kafka, settings, task.replayed)
    print(_peak_mib())


def _peak_mib() -> float:
    """Of this process. What `getrusage` tells begins with what the process had that started this one."""
    status = Path("/proc/self/status")
    if not status.exists():  # elsewhere than on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(told["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
