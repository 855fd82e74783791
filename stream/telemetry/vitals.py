"""The vital signs that a worker, a sink and who delivers webhooks have in common, as metrics."""

from __future__ import annotations

import functools
import importlib.metadata

from stream.telemetry import catalogue
from stream.telemetry.health import Health
from stream.telemetry.metric import Scrape, Source


@functools.cache
def version() -> str:
    """The version of Foreshock, `unknown` where it is not installed."""
    try:
        return importlib.metadata.version("foreshock")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def scrape_vitals(scrape: Scrape, part: Source, application_id: str, health: Health, unreachable_s: float) -> None:
    """Who answers, whether it is live and ready, and whether it reaches a broker."""
    scrape.add(catalogue.INFO, 1, part, application_id, version())
    scrape.add(catalogue.LIVE, health.liveness().ok)
    scrape.add(catalogue.READY, health.readiness().ok)
    scrape.add(catalogue.CHECKPOINT_AGE, health.checkpoint_age_s)
    scrape.add(catalogue.LOOP_STALLED, health.loop_stalled_s)
    scrape.add(catalogue.BROKER_UNREACHABLE, unreachable_s)
