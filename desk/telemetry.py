"""Health and metrics of the desk of one machine, at `metrics_port`: of all its processes together.

Not at the port of the desk, where everybody may ask: figures are for who runs it. One process alone answers in a thread
of its own; beside several, a process of its own does, which reads the memory that they share (`desk.figures`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from desk.figures import DeskFigures
from stream.database.probe import DatabaseProbe
from stream.telemetry import catalogue
from stream.telemetry.health import LOOP_SHARE, Probed, Verdict
from stream.telemetry.metric import Scrape
from stream.telemetry.server import TelemetryServer
from stream.telemetry.vitals import scrape_standing


class DeskHealth:
    """Live while one of the processes is: those that end or hang are started anew by themselves. Ready when one runs
    and the database is there, at this release's revision."""

    def __init__(self, figures: DeskFigures, probe: DatabaseProbe, stall_timeout_s: float) -> None:
        self._figures, self._probe = figures, probe
        self._limit_s = stall_timeout_s * LOOP_SHARE

    def liveness(self) -> Verdict:
        """Whether the desk should go on."""
        least_s = min(part.still_s for part in self._figures.parts)
        if least_s >= self._limit_s:
            return self._verdict("not live", f"no event loop has turned for {least_s:.0f} s")
        return self._verdict("live", self._running())

    def readiness(self) -> Verdict:
        """Whether it can answer now."""
        problem = self._probe.problem
        if problem is None and self._figures.running == 0:
            problem = "no process answers yet"
        return self._verdict("ready", self._running()) if problem is None else self._verdict("not ready", problem)

    def _running(self) -> str:
        return f"{self._figures.running} of {len(self._figures.parts)} processes answer"

    def _verdict(self, status: str, reason: str) -> Verdict:
        longest_s = max(part.still_s for part in self._figures.parts)
        return Verdict(not status.startswith("not "), status, reason, None, round(longest_s, 1))


class DeskCollector(Collector):
    """The figures of all processes of a desk."""

    def __init__(self, application_id: str, figures: DeskFigures, health: Probed, probe: DatabaseProbe) -> None:
        self._application_id = application_id
        self._figures, self._health, self._probe = figures, health, probe

    def describe(self) -> Iterable[Family]:
        """Nothing: which metrics there are stands in the catalogue."""
        return []

    def collect(self) -> Iterable[Family]:
        """All metrics, also while it starts."""
        scrape, figures = Scrape(), self._figures
        scrape_standing(scrape, "desk", self._application_id, self._health)
        scrape.add(catalogue.DESK_PROCESSES, figures.running)
        scrape.add(catalogue.DESK_MEMORY, sum(_resident_bytes(part.pid) for part in figures.parts))
        scrape.declare(catalogue.DESK_REQUEST_SECONDS)
        for kind, seconds in sorted(figures.requests().items(), key=lambda one: (one[0].route, one[0].status)):
            scrape.add_histogram(catalogue.DESK_REQUEST_SECONDS, seconds, kind.route, kind.status)
        scrape.add_all(catalogue.DESK_SIGN_INS, figures.sign_ins)
        scrape.add(catalogue.DESK_LISTENERS, figures.listeners)
        scrape.add(catalogue.DESK_TURN, figures.turned_at_s)
        scrape.add_all(catalogue.DESK_CHORES, figures.chores)
        scrape.add(catalogue.DATABASE_UNREACHABLE, self._probe.unreachable_s)
        scrape.add(catalogue.SCHEMA_CURRENT, self._probe.is_current)
        return scrape.families()


@dataclass(frozen=True)
class Endpoint:
    """A server that listens and does not answer yet, and the look at the database that it tells of."""

    server: TelemetryServer
    probe: DatabaseProbe

    def start(self) -> None:
        """Answer in a thread of this process, until it ends."""
        self.probe.start()
        self.server.start()

    def run(self) -> None:
        """Answer in this thread, until the process ends."""
        self.probe.start()
        self.server.serve_forever()


def _resident_bytes(pid: int) -> int:
    """Memory of a process; 0 of one that has ended, or that there was none of yet."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid > 0 else 0
    except psutil.Error:
        return 0
