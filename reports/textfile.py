"""A drift report as Prometheus gauges, in a file that node-exporter's textfile collector reads from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from model.statistics.resampling import Interval
from reports.drift import DriftReport
from stream.telemetry import catalogue
from stream.telemetry.metric import Metric, Scrape

BOUNDS = ("estimate", "low", "high")


class DriftCollector(Collector):
    """A drift report as gauges, all labelled with the fingerprint of the model; what is not known is left out."""

    def __init__(self, report: DriftReport) -> None:
        self._report = report
        self._scrape = Scrape()

    def collect(self) -> Iterator[Family]:
        """The gauges, in the order of the catalogue."""
        self._scrape = Scrape()
        report, found = self._report, self._report.calibration
        self._add_by_variable(catalogue.DRIFT_PSI, "psi")
        self._add_by_variable(catalogue.DRIFT_CRITICAL, "critical")
        self._add_by_variable(catalogue.DRIFT_P_VALUE, "adjusted_p_value")
        self._add(catalogue.DRIFT_SHIFTED, len(report.shifted))
        self._add(catalogue.MATURED_SCORES, found.scores)
        if found.ratio is not None and found.p_value is not None:
            self._add(catalogue.CALIBRATION_RATIO, found.ratio)
            self._add(catalogue.CALIBRATION_P_VALUE, found.p_value)
        for name, metric in catalogue.SCORE_MEASURES.items():
            self._add_by_month(metric, name)
        if report.alert_rate is not None:
            self._add(catalogue.ALERT_RATE, report.alert_rate)
        self._add(catalogue.DRIFT_WINDOW_END, report.until.timestamp())
        return self._scrape.families()

    def _add_by_variable(self, metric: Metric, attribute: str) -> None:
        for each in self._report.stability:
            if each.psi is not None:
                self._add(metric, float(getattr(each, attribute)), each.name)

    def _add_by_month(self, metric: Metric, name: str) -> None:
        for each in self._report.performance:
            interval: Interval = getattr(each, name)
            for bound, value in zip(BOUNDS, interval, strict=True):
                if value is not None:
                    self._add(metric, value, each.month, bound)

    def _add(self, metric: Metric, value: float, *labels: str) -> None:
        self._scrape.add(metric, value, self._report.fingerprint, *labels)


def write_drift_metrics(report: DriftReport, path: Path) -> None:
    """Write the report to `path`, which must end in `.prom` for the collector to take it. The file is replaced in one
    step, so a collector never reads half of it. Raises `OSError` where the file cannot be written."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DriftCollector(report))
    write_to_textfile(str(path), registry)
    path.chmod(0o644)  # the collector is another user
