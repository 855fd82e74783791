"""The cost of scoring alone: batches through the worker's `Scorer`, and archiving the rows that they changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.options import Bench
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.state.slab import Slab
from stream.worker.app import worker_slab


class Subject:
    """A slab and the scorer that works on it."""

    def __init__(self, bench: Bench, slab: Slab | None = None) -> None:
        self.slab = worker_slab(bench.bundle) if slab is None else slab
        policy = bench.settings.alert_policy(bench.bundle.thresholds)
        self._scorer = Scorer(bench.bundle, policy, self.slab, bench.settings.topics)

    def score(self, taken: Sequence[Taken]) -> float:
        """Score a batch and archive the changed rows as a checkpoint does; returns the seconds that both took."""
        started_s = time.perf_counter()
        scored = self._scorer.score(taken)
        touched = np.unique(scored.touched)
        self.slab.freeze(touched)
        for partition, pairs in self.slab.frozen(touched).items():
            self.slab.archive(partition, pairs, 0)
        return time.perf_counter() - started_s
