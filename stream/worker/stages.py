"""Seconds that a worker spends by stage, and how long each commit takes. Reads the clock that it is given; does no
I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream.telemetry.catalogue import COMMIT

STAGES = {
    "poll": "waiting for the consumer thread's next records",
    "intake": "decoding and checking records",
    "merge": "putting topics into the order of event time",
    "score": "states, model, alert policy, and scores as JSON",
    "publish": "building record batches of scores and alerts, and waiting where the broker is behind",
    "changelog": "taking out changed rows, and waiting where the broker is behind",
    "commit": "waiting for the acknowledgement of the last rows, and committing",
    "watchdog": "looking for missed instalments",
}
"""What each stage is. `changelog` and `commit` run beside the others; the rest follow one another and make up the time
of the worker's loop."""


class Stages:
    """Seconds spent by stage."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self.spent_s: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.commits = COMMIT.histogram()
        """Durations of the stage `commit`."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time inside the context, including waiting."""
        started_s = self._clock_s()
        try:
            yield
        finally:
            took_s = self._clock_s() - started_s
            self.spent_s[stage] += took_s
            if stage == "commit":
                self.commits.observe_one(took_s)

    def shares(self) -> str:
        """Percent of the loop's time by stage, as one line."""
        loop = {stage: self.spent_s[stage] for stage in STAGES if stage not in ("changelog", "commit")}
        whole = sum(loop.values()) or 1.0
        return " ".join(f"{stage}={100 * spent / whole:.0f}%" for stage, spent in loop.items())
