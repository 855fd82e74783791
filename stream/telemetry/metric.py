"""What a metric is: its name, type, unit and labels, and in words what it means, what a bad value says and what to do.

A scrape collects samples of such metrics for Prometheus. Which metrics there are stands in
`stream.telemetry.catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from stream.telemetry.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["worker", "sink", "webhooks", "desk", "drift"]


@dataclass(frozen=True)
class Metric:
    """One metric. `name` is as Prometheus stores it, of a histogram without `_bucket`, `_count` and `_sum`."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    bad: str
    """What a bad value means; begins with how one recognises it."""
    do: str
    labels: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ("worker",)
    bounds: tuple[float, ...] = ()
    """Of a histogram: upper bounds of its buckets, without the last."""

    def histogram(self) -> Histogram:
        """An empty histogram with this metric's bounds."""
        return Histogram(self.bounds)

    @property
    def sample_names(self) -> tuple[str, ...]:
        """Names of its samples: what a query names."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


class Scrape:
    """Samples by metric, in the order in which the metrics were first named."""

    def __init__(self) -> None:
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily] = {}

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """A sample of a counter or gauge, with the values of its labels in their order."""
        family = self._family(metric)
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(self._checked(metric, labels), value)

    def add_all(self, metric: Metric, values: Mapping[str, float]) -> None:
        """Samples of a metric with one label, by its value; the metric is told of also where there are none."""
        self._family(metric)
        for label, value in sorted(values.items()):
            self.add(metric, value, label)

    def add_histogram(self, metric: Metric, histogram: Histogram, *labels: str) -> None:
        """A histogram, with the values of its labels in their order."""
        family = self._family(metric)
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric(self._checked(metric, labels), buckets=histogram.cumulative(), sum_value=histogram.total)

    def declare(self, metric: Metric) -> None:
        """Tell of a metric that may have no sample yet."""
        self._family(metric)

    def families(self) -> Iterator[Family]:
        """For Prometheus' client."""
        yield from self._families.values()

    @staticmethod
    def _checked(metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, got values {labels}")
        return labels

    def _family(self, metric: Metric) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
        found = self._families.get(metric.name)
        if found is None:
            kind = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
            found = kind[metric.kind](metric.name.removesuffix("_total"), metric.meaning, labels=metric.labels)
            self._families[metric.name] = found
        return found
