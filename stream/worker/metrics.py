"""A worker's figures for Prometheus: events by outcome, time by stage, users, lag, watermarks.

They are read when Prometheus asks; scoring does not wait for anything here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from faust.types import TP
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.worker.engine import Engine
from stream.worker.stages import STAGES

Family = CounterMetricFamily | GaugeMetricFamily


class WorkerCollector(Collector):
    """The figures of one engine. `lag` gives, by topic and partition, how many records are still to be read."""

    def __init__(self, engine: Engine, lag: Callable[[], Mapping[TP, int]]) -> None:
        self._engine = engine
        self._lag = lag

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterable[Family]:
        engine = self._engine
        events = CounterMetricFamily("foreshock_events", "Events by what became of them.", labels=["outcome"])
        for outcome, count in sorted(engine.counts.items()):
            events.add_metric([outcome], count)
        yield events
        stages = CounterMetricFamily(
            "foreshock_stage_seconds",
            "Time by stage: " + "; ".join(f"{stage}: {meaning}" for stage, meaning in STAGES.items()) + ".",
            labels=["stage"],
        )
        for stage, spent_s in engine.stages.spent_s.items():
            stages.add_metric([stage], spent_s)
        yield stages
        yield GaugeMetricFamily("foreshock_users", "Users whose state is held.", value=engine.users)
        lag = GaugeMetricFamily("foreshock_lag_records", "Records still to be read.", labels=["topic", "partition"])
        for tp, records in sorted(self._lag().items()):
            lag.add_metric([tp.topic, str(tp.partition)], records)
        yield lag
        watermark = GaugeMetricFamily(
            "foreshock_watermark_seconds", "Event time that a partition has come to.", labels=["partition"]
        )
        for partition, clock_ms in sorted(engine.watermarks_ms().items()):
            watermark.add_metric([str(partition)], clock_ms / 1000)
        yield watermark


def serve_metrics(engine: Engine, lag: Callable[[], Mapping[TP, int]], host: str, port: int) -> int:
    """Serve `/metrics` from a thread of its own until the process ends; returns the port (0 asks for a free one).

    Raises `OSError` when the address cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(WorkerCollector(engine, lag))
    server, _ = start_http_server(port, addr=host, registry=registry)
    return int(server.server_port)
