"""Keeps the workers of a run at work and disturbs them: kills, freezes longer than their session, orderly stops.

Every worker that is gone is started again. Ends only processes that it started.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack

from bench.arena import Arena
from bench.chaos.plan import SESSION_S, Plan
from stream.embedded.server import EmbeddedError, ServerProcess


class Conductor:
    """The workers of one run. A context: leaving it stops them all."""

    def __init__(self, arena: Arena, plan: Plan) -> None:
        self._arena = arena
        self._plan = plan
        self._chance = random.Random(plan.seed + 1)
        self._workers: dict[int, ServerProcess] = {}
        self._started = 0
        self._running = ExitStack()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Conductor:
        for name, value in self._plan.settings().items():
            variable = f"FORESHOCK_{name.upper()}"
            self._running.callback(_restore, variable, os.environ.get(variable))
            os.environ[variable] = str(value)  # workers inherit it
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def revive(self) -> None:
        """Start every worker that is not running."""
        for number in range(self._plan.workers):
            worker = self._workers.get(number)
            if worker is not None and worker.alive:
                continue
            if worker is not None:
                self.counts["ended"] += 1
            self._started += 1
            disk = {"state_dir": str(self._arena.folder / f"state-{number}")} if self._plan.on_disk else {}
            if disk:
                disk["resident_users"] = str(self._plan.resident_users)
            started = self._arena.worker(f"worker-{self._started}", **disk)
            started.start()
            self._running.callback(started.stop)
            self._workers[number] = started

    def disturb(self, done: threading.Event) -> None:
        """Disturb one worker after the other until `done` is set."""
        self.revive()
        while not done.wait(self._chance.uniform(*self._plan.pause_s)):
            self.revive()
            worker = self._chance.choice(list(self._workers.values()))
            what = self._chance.random()
            if what < self._plan.freeze_share:
                self._freeze(worker)
            elif what < self._plan.freeze_share + self._plan.stop_share:
                self.counts["stops"] += 1
                worker.stop()
            else:
                self._signal(worker, signal.SIGKILL, "kills")

    def _freeze(self, worker: ServerProcess) -> None:
        """Silent for longer than its session, then back as if nothing had been."""
        if self._signal(worker, signal.SIGSTOP, "freezes"):
            time.sleep(SESSION_S + self._chance.uniform(0.5, 3.0))
            self._signal(worker, signal.SIGCONT, "thaws")

    def _signal(self, worker: ServerProcess, number: signal.Signals, what: str) -> bool:
        try:
            os.kill(worker.identity.pid, number)
        except (ProcessLookupError, EmbeddedError):  # it had ended by itself
            return False
        self.counts[what] += 1
        return True

    def log_tails(self) -> str:
        """The ends of the logs of the workers that were started last."""
        return "\n".join(f"{worker.name}:\n{worker.log_tail()}" for worker in self._workers.values())


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
