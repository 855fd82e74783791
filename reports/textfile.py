"""A drift report as Prometheus gauges, in a file that node-exporter's textfile collector reads from a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model.statistics.resampling import Interval
from reports.drift import DriftReport

BOUNDS = ("estimate", "low", "high")


class DriftCollector(Collector):
    """A drift report as gauges, all labelled with the fingerprint of the model; what is not known is left out."""

    def __init__(self, report: DriftReport) -> None:
        self._report = report
        self._model = {"model": report.fingerprint}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauge in self._gauges():
            if gauge.samples:
                yield gauge

    def _gauges(self) -> Iterator[GaugeMetricFamily]:
        report, found = self._report, self._report.calibration
        yield self._by_variable(
            "foreshock_drift_psi", "Population stability index, recent window against reference.", "psi"
        )
        yield self._by_variable(
            "foreshock_drift_psi_critical", "Index that chance stays below for samples of this size.", "critical"
        )
        yield self._by_variable(
            "foreshock_drift_p_value", "Probability of such an index by chance, Holm-adjusted.", "adjusted_p_value"
        )
        yield self._gauge(
            "foreshock_drift_shifted_variables", "Variables whose shift is not chance.", len(report.shifted)
        )
        yield self._gauge("foreshock_matured_scores", "Scores whose horizon has passed.", found.scores)
        if found.ratio is not None and found.p_value is not None:
            yield self._gauge("foreshock_calibration_ratio", "Observed over expected defaults.", found.ratio)
            yield self._gauge("foreshock_calibration_p_value", "Calibration in the large.", found.p_value)
        for name in ("auc", "pr_auc", "ks"):
            yield self._by_month(name)
        if report.alert_rate is not None:
            yield self._gauge("foreshock_alerts_per_1000_users_month", "Alerts of the window.", report.alert_rate)
        yield self._gauge(
            "foreshock_drift_window_end_seconds", "End of the window, event time.", report.until.timestamp()
        )

    def _gauge(self, name: str, documentation: str, value: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, documentation, labels=list(self._model))
        self._add(gauge, value)
        return gauge

    def _by_variable(self, name: str, documentation: str, attribute: str) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, documentation, labels=[*self._model, "variable"])
        for each in self._report.stability:
            if each.psi is not None:
                self._add(gauge, float(getattr(each, attribute)), {"variable": each.name})
        return gauge

    def _by_month(self, name: str) -> GaugeMetricFamily:
        documentation = f"{name} of matured scores by their month, with 95 % interval."
        gauge = GaugeMetricFamily(f"foreshock_score_{name}", documentation, labels=[*self._model, "month", "bound"])
        for each in self._report.performance:
            interval: Interval = getattr(each, name)
            for bound, value in zip(BOUNDS, interval, strict=True):
                if value is not None:
                    self._add(gauge, value, {"month": each.month, "bound": bound})
        return gauge

    def _add(self, gauge: GaugeMetricFamily, value: float, labels: Mapping[str, str] | None = None) -> None:
        gauge.add_metric([*self._model.values(), *(labels or {}).values()], value)


def write_drift_metrics(report: DriftReport, path: Path) -> None:
    """Write the report to `path`, which must end in `.prom` for the collector to take it. The file is replaced in one
    step, so a collector never reads half of it. Raises `OSError` where the file cannot be written."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DriftCollector(report))
    write_to_textfile(str(path), registry)
    path.chmod(0o644)  # the collector is another user
