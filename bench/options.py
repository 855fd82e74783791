"""What every measurement is given: a broker, sizes, a folder, and where to say what it is doing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.arena import Arena
from bench.workload import Workload
from model.bundle import Bundle
from stream.settings import Settings


@dataclass(frozen=True)
class Sizes:
    """How much is measured. What each means is a measurement's own: see `foreshock bench --help`."""

    events: int
    users: int
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Bench:
    """One measurement's surroundings. `servers` is empty for measurements that need no broker."""

    servers: str
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
        """Topics of their own for one round."""
        return Arena(self.servers, self.settings, f"{self.run_id}-{name}", self.folder)
