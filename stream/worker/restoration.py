"""How far a worker is in taking its partitions over, as plain figures. Written in the event loop, read in any
thread."""

from __future__ import annotations


class Restoration:
    """What `stream.worker.store` knows of the last rebalance."""

    def __init__(self) -> None:
        self.owned: frozenset[int] | None = None
        """Partitions that this worker is to score; None before the first assignment, and while they are taken over."""
        self.restored: frozenset[int] = frozenset()
        """Those of them whose states are complete."""
        self.remaining: dict[int, int] = {}
        """By partition, offsets of its changelog that are still to be read."""
        self.row_count = 0
        """Rows that were read from changelogs, of all rebalances."""

    def begin(self) -> None:
        """Partitions are being taken over."""
        self.owned, self.restored, self.remaining = None, frozenset(), {}

    @property
    def unready(self) -> str | None:
        """What is still to come before events of all partitions are scored; None when nothing is."""
        owned, restored = self.owned, self.restored
        if owned is None:
            return "its partitions are being taken over"
        missing = owned - restored
        if not missing:
            return None
        offsets = sum(self.remaining.copy().values())
        return f"states of partitions {sorted(missing)} are being read, {offsets} changelog offsets are to come"
