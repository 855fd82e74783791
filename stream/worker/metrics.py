"""A worker's figures for Prometheus. They are read when Prometheus asks; scoring does not wait for anything here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from events.types import KINDS
from stream.telemetry import catalogue
from stream.telemetry.health import Health
from stream.telemetry.metric import Metric, Scrape
from stream.telemetry.vitals import scrape_vitals
from stream.worker.app import WorkerApp
from stream.worker.figures import Figures

OUTCOMES = {
    "scored": "scored",
    "already_scored": "already_scored",
    "refused": "dead_letters",
    "forgotten": "forgotten",
}
"""What becomes of an input record, each once, and where the engine counts it."""

COUNTS: dict[Metric, str] = {
    catalogue.LATE: "late",
    catalogue.UNMERGED: "merged_without_waiting",
    catalogue.MISSED: "missed_published",
    catalogue.CONTRACTS_EVICTED: "contracts_evicted",
}
"""Metrics that are one of the engine's counts."""


class WorkerCollector(Collector):
    """The figures of one worker."""

    def __init__(self, worker: WorkerApp, health: Health) -> None:
        self._worker = worker
        self._health = health

    def describe(self) -> Iterable[Family]:
        """Nothing: which metrics there are stands in the catalogue."""
        return []

    def collect(self) -> Iterable[Family]:
        """All metrics of a worker; a scrape that comes while it starts finds them, too."""
        scrape, worker = Scrape(), self._worker
        scrape_vitals(scrape, "worker", worker.settings.application_id, self._health, worker.unreachable_s)
        scrape.add(catalogue.MODEL_INFO, 1, worker.bundle.fingerprint_hex, worker.policy.version)
        self._events(scrape, dict(worker.engine.counts))
        self._partitions(scrape)
        self._states(scrape, dict(worker.slab.counts))
        figures, stages = worker.engine.figures, worker.engine.stages
        scrape.add_histogram(catalogue.EVENT_TO_SCORE, figures.event_to_score)
        scrape.add_histogram(catalogue.POLL_TO_SCORE, figures.poll_to_score)
        scrape.add_histogram(catalogue.SCORE, figures.scores)
        self._drift(scrape, figures)
        scrape.add_histogram(catalogue.COMMIT, stages.commits)
        scrape.add_all(catalogue.STAGE, stages.spent_s)
        scrape.add_all(catalogue.DEAD_LETTERS, dict(figures.refused))
        scrape.declare(catalogue.TRANSITIONS)
        for (transition, level), count in sorted(dict(figures.transitions).items()):
            scrape.add(catalogue.TRANSITIONS, count, transition, level)
        return scrape.families()

    def _drift(self, scrape: Scrape, figures: Figures) -> None:
        model, scores, inputs = self._worker.bundle.fingerprint_hex, figures.drift, figures.input_drift
        index = None if scores is None else scores.index()
        scrape.declare(catalogue.SCORE_PSI)
        if index is not None:
            scrape.add(catalogue.SCORE_PSI, index, model)
        scrape.add(catalogue.SCORE_PSI_USERS, 0 if scores is None else scores.users)
        scrape.declare(catalogue.INPUT_PSI)
        for variable, moved in sorted(({} if inputs is None else inputs.indices()).items()):
            scrape.add(catalogue.INPUT_PSI, moved, model, variable)
        users = dict.fromkeys(KINDS, 0) if inputs is None else inputs.users()
        scrape.add_all(catalogue.INPUT_PSI_USERS, {str(kind): count for kind, count in users.items()})

    @staticmethod
    def _events(scrape: Scrape, counts: Mapping[str, int]) -> None:
        for outcome, counted in OUTCOMES.items():
            scrape.add(catalogue.EVENTS, counts.get(counted, 0), outcome)
        for metric, counted in COUNTS.items():
            scrape.add(metric, counts.get(counted, 0))

    def _partitions(self, scrape: Scrape) -> None:
        worker, restoration = self._worker, self._worker.restoration
        scrape.declare(catalogue.LAG)
        for tp, records in sorted(worker.lag().items()):
            scrape.add(catalogue.LAG, records, tp.topic, str(tp.partition))
        watermarks = {str(number): clock_ms / 1000 for number, clock_ms in worker.engine.watermarks_ms().items()}
        scrape.add_all(catalogue.WATERMARK, watermarks)
        scrape.add(catalogue.PARTITIONS_OWNED, len(restoration.owned or ()))
        scrape.add(catalogue.PARTITIONS_RESTORED, len(restoration.restored))
        remaining = {str(number): offsets for number, offsets in restoration.remaining.copy().items()}
        scrape.add_all(catalogue.RESTORE_REMAINING, remaining)
        scrape.add(catalogue.RESTORED_ROWS, restoration.row_count)

    def _states(self, scrape: Scrape, counts: Mapping[str, int]) -> None:
        scrape.add(catalogue.USERS, self._worker.engine.users)
        scrape.add(catalogue.ROWS_EVICTED, counts.get("rows_evicted", 0))
        scrape.add(catalogue.ROWS_LOADED, counts.get("rows_loaded", 0))
