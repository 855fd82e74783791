"""The vital signs that the parts have in common, as metrics: a worker, a sink, who delivers webhooks, the desk."""

from __future__ import annotations

import functools
import importlib.metadata

from stream.telemetry import catalogue
from stream.telemetry.health import Health, Probed
from stream.telemetry.metric import Scrape, Source


@functools.cache
def version() -> str:
    """The version of Foreshock, `unknown` where it is not installed."""
    try:
        return importlib.metadata.version("foreshock")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def scrape_standing(scrape: Scrape, part: Source, application_id: str, health: Probed) -> None:
    """Who answers, and whether it is live and ready."""
    liveness = health.liveness()
    scrape.add(catalogue.INFO, 1, part, application_id, version())
    scrape.add(catalogue.LIVE, liveness.ok)
    scrape.add(catalogue.READY, health.readiness().ok)
    scrape.add(catalogue.LOOP_STALLED, liveness.loop_stalled_s)


def scrape_vitals(scrape: Scrape, part: Source, application_id: str, health: Health, unreachable_s: float) -> None:
    """Of a part that commits: its standing, and whether it reaches a broker."""
    scrape_standing(scrape, part, application_id, health)
    scrape.add(catalogue.CHECKPOINT_AGE, health.checkpoint_age_s)
    scrape.add(catalogue.BROKER_UNREACHABLE, unreachable_s)
