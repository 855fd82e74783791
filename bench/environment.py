"""Where a measurement was taken: machine, versions, commit. Without these, figures cannot be compared."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from stream.embedded.kafka import KAFKA_COORDINATE

PACKAGES = ("aiokafka", "faust-streaming", "msgspec", "numpy", "onnxruntime", "uvloop")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded with every result. `commit` is None outside a git checkout and ends in `+` where files differ from it;
    `load_before` is the load average of the minute before: above 0.5 the machine had other work."""

    taken_at: str
    cpu: str
    cores: int
    memory_gib: float
    load_before: float
    system: str
    python: str
    kafka: str
    packages: dict[str, str]
    commit: str | None
    bundle: str

    @classmethod
    def of_this_machine(cls, bundle: str) -> Environment:
        """`bundle` is the fingerprint of the model that runs."""
        return cls(
            taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            cpu=cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            load_before=round(os.getloadavg()[0], 2),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            kafka=KAFKA_COORDINATE.rpartition(":")[2],
            packages={name: metadata.version(name) for name in PACKAGES},
            commit=commit(Path(__file__).parent),
            bundle=bundle,
        )


class ProcessorTime(msgspec.Struct, frozen=True):
    """Seconds of all processors since the system started, and the seconds that a virtual machine's host gave to others.

    While a processor is taken away, nothing runs on it. Above a few percent, rates are too low and delays too long.
    """

    total_s: float
    stolen_s: float

    @classmethod
    def now(cls) -> ProcessorTime:
        """The counters now. Stolen time is 0 where the system does not report it."""
        times = psutil.cpu_times()
        parts = times._asdict()
        # Guests' time is also in `user` and `nice`.
        total_s = sum(value for name, value in parts.items() if not name.startswith("guest"))
        return cls(total_s, parts.get("steal", 0.0))

    def stolen_share_since(self, earlier: ProcessorTime) -> float:
        """Share (0–1) of the processor time since `earlier` that others got."""
        total_s = self.total_s - earlier.total_s
        return (self.stolen_s - earlier.stolen_s) / total_s if total_s > 0 else 0.0


def cpu() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(folder: Path) -> str | None:
    """Commit of the checkout that holds `folder`, with `+` where files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    # Results and documents are what a measurement changes itself.
    changed = git("status", "--porcelain", "--", ":/", ":(exclude,top)bench/results", ":(exclude,top)docs")
    return f"{head}+" if changed else head
