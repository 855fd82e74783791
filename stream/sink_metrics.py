"""A sink's figures for Prometheus, and what it says of its health. Both are read in any thread when somebody asks;
writing does not wait for anything here.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from stream.database.probe import DatabaseProbe
from stream.logs import told
from stream.sink import SinkApp
from stream.sink_figures import TABLES
from stream.telemetry import catalogue
from stream.telemetry.health import Health, Standing
from stream.telemetry.metric import Scrape
from stream.telemetry.vitals import scrape_vitals


class SinkCollector(Collector):
    """The figures of one sink."""

    def __init__(self, sink: SinkApp, health: Health, probe: DatabaseProbe) -> None:
        self._sink = sink
        self._health = health
        self._probe = probe

    def describe(self) -> Iterable[Family]:
        """Nothing: which metrics there are stands in the catalogue."""
        return []

    def collect(self) -> Iterable[Family]:
        """All metrics of a sink; a scrape that comes while it starts finds them, too."""
        scrape, sink, figures = Scrape(), self._sink, self._sink.figures
        scrape_vitals(scrape, "sink", sink.settings.application_id, self._health, sink.unreachable_s)
        scrape.declare(catalogue.SINK_LAG)
        for tp, records in sorted(sink.lag().items()):
            scrape.add(catalogue.SINK_LAG, records, tp.topic, str(tp.partition))
        written = dict(figures.written)
        scrape.add_all(catalogue.SINK_RECORDS, {table: written.get(table, 0) for table in TABLES.values()})
        scrape.add_histogram(catalogue.SINK_BATCH, figures.batches)
        scrape.add(catalogue.SINK_RETRIES, figures.retries)
        scrape.add(catalogue.SINK_SKIPPED, figures.skipped)
        scrape.add(catalogue.DATABASE_UNREACHABLE, self._probe.unreachable_s)
        scrape.add(catalogue.SCHEMA_CURRENT, self._probe.is_current)
        return scrape.families()


def standing_of(sink: SinkApp, probe: DatabaseProbe) -> Standing:
    """Whether a sink has work, writes it, and has partitions and a database of this release's schema.

    One without a partition is ready: there are more sinks than partitions, and it stands by.
    """
    figures, assigned = sink.figures, sink.assigned
    excuse: str | None = None
    unready = probe.problem
    if unready is not None or figures.waits_for_database:
        excuse = unready = unready or "the database is not available"
    if (unreachable_s := sink.unreachable_s) > 0:
        excuse = unready = f"no broker has answered for {unreachable_s:.0f} s"
    if assigned is None or sink.app.rebalancing:
        excuse = "the group shares out its partitions"
        unready = unready or excuse
    error = sink.failure.error
    return Standing(
        commits=figures.batches.count,
        polls=figures.polls,
        work=figures.is_writing or any(sink.lag().values()),
        partitions=len(assigned or ()),
        excuse=excuse,
        unready=unready,
        ends=None if error is None else told(error),
    )
