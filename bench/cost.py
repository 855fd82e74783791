"""What scoring costs by itself: batches through the worker's `Scorer`, and the bytes of the rows that they changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.options import Bench
from stream.app import worker_slab
from stream.intake import Taken
from stream.policy import AlertPolicy
from stream.scorer import Scorer


class Subject:
    """A slab and its scorer."""

    def __init__(self, bench: Bench) -> None:
        self.slab = worker_slab(bench.bundle)
        policy = AlertPolicy.from_settings(bench.settings, bench.bundle.thresholds)
        self._scorer = Scorer(bench.bundle, policy, self.slab, bench.settings.topics)

    def score(self, taken: Sequence[Taken]) -> float:
        """Score a batch, take out the rows as a checkpoint does, and return the seconds that it took."""
        started_s = time.perf_counter()
        scored = self._scorer.score(taken)
        self.slab.by_partition(np.unique(scored.touched))
        return time.perf_counter() - started_s
