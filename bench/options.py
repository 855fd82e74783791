"""What every measurement gets: a broker, sizes, a folder, and a function that shows its progress."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.arena import Arena
from bench.workload import Workload
from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Each measurement reads these in its own way: see `foreshock bench --help`."""

    events: int
    users: int
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Bench:
    """What one measurement runs with. `kafka` is None for measurements that need no broker."""

    kafka: KafkaConnection | None
    settings: Settings
    bundle: Bundle
    sizes: Sizes
    folder: Path
    peers_python: Path | None
    tell: Callable[[str], None]
    run_id: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:8]}")

    @property
    def rounds(self) -> int:
        return self.sizes.rounds

    @property
    def seconds(self) -> float:
        return self.sizes.seconds

    def workload(self, events: int | None = None) -> Workload:
        """Simulated events of `sizes.users` users, by default `sizes.events` of them."""
        wanted = self.sizes.events if events is None else events
        self.tell(f"simulating {wanted:,} events")
        return Workload.simulated(wanted, self.sizes.users)

    def arena(self, name: str) -> Arena:
        """Topics for one round, apart from those of all others."""
        assert self.kafka is not None, "a measurement with `broker` set is given one"
        return Arena(self.kafka, self.settings, f"{self.run_id}-{name}", self.folder)
