"""The figures of a process that delivers webhooks, for Prometheus. Read in any thread when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from stream.database.probe import DatabaseProbe
from stream.telemetry import catalogue
from stream.telemetry.health import Health
from stream.telemetry.metric import Scrape
from stream.telemetry.vitals import scrape_vitals
from stream.webhooks.service import WebhookService


class WebhookCollector(Collector):
    """The figures of one process."""

    def __init__(self, service: WebhookService, health: Health, probe: DatabaseProbe) -> None:
        self._service, self._health, self._probe = service, health, probe

    def describe(self) -> Iterable[Family]:
        """Nothing: which metrics there are stands in the catalogue."""
        return []

    def collect(self) -> Iterable[Family]:
        """All metrics, also while it starts."""
        scrape, figures = Scrape(), self._service.figures
        application_id = self._service.settings.application_id
        scrape_vitals(scrape, "webhooks", application_id, self._health, figures.unreachable_s)
        scrape.declare(catalogue.WEBHOOK_LAG)
        for tp, records in sorted(dict(figures.lag).items()):
            scrape.add(catalogue.WEBHOOK_LAG, records, tp.topic, str(tp.partition))
        scrape.add(catalogue.WEBHOOK_SKIPPED, figures.skipped)
        scrape.declare(catalogue.WEBHOOK_TRIES)
        for (webhook, outcome), tries in sorted(dict(figures.tries).items()):
            scrape.add(catalogue.WEBHOOK_TRIES, tries, webhook, outcome)
        scrape.add_histogram(catalogue.WEBHOOK_SECONDS, figures.seconds)
        for metric in (catalogue.WEBHOOK_PENDING, catalogue.WEBHOOK_OLDEST, catalogue.WEBHOOK_DEAD):
            scrape.declare(metric)
        for waiting in figures.waiting:
            scrape.add(catalogue.WEBHOOK_PENDING, waiting.pending, waiting.name)
            scrape.add(catalogue.WEBHOOK_OLDEST, waiting.oldest_s, waiting.name)
            scrape.add(catalogue.WEBHOOK_DEAD, waiting.dead, waiting.name)
        scrape.add(catalogue.DATABASE_UNREACHABLE, self._probe.unreachable_s)
        scrape.add(catalogue.SCHEMA_CURRENT, self._probe.is_current)
        return scrape.families()
