"""Figures as Prometheus text, in the form that node-exporter's textfile collector reads from a folder.

The file is replaced in one step, so a collector never reads half of it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.statistics.resampling import Interval
from reports.drift import DriftReport


@dataclass(frozen=True)
class Gauge:
    """A metric with its samples: labels and value."""

    name: str
    help: str
    samples: list[tuple[Mapping[str, str], float]]


def text(gauges: Iterable[Gauge]) -> str:
    """Prometheus text exposition (version 0.0.4); gauges without samples are left out."""
    lines: list[str] = []
    for gauge in gauges:
        if gauge.samples:
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
            lines += [f"{gauge.name}{_labels(labels)} {_value(value)}" for labels, value in gauge.samples]
    return "\n".join(lines) + "\n"


def write(gauges: Iterable[Gauge], path: Path) -> None:
    """Write the text to `path`, which must end in `.prom` for the collector to take it."""
    content = text(gauges)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o644)  # the collector is another user
    os.replace(file.name, path)


def drift_gauges(report: DriftReport) -> Iterator[Gauge]:
    """A drift report as gauges, all labelled with the model's fingerprint."""
    model = {"model": report.fingerprint}
    judged = [(each, {**model, "variable": each.name}) for each in report.stability if each.psi is not None]

    def of(name: str, what: str, attribute: str) -> Gauge:
        return Gauge(name, what, [(labels, float(getattr(each, attribute))) for each, labels in judged])

    yield of("foreshock_drift_psi", "Population stability index, recent window against reference.", "psi")
    yield of("foreshock_drift_psi_critical", "Index that chance stays below for samples of this size.", "critical")
    yield of("foreshock_drift_p_value", "Probability of such an index by chance, Holm-adjusted.", "adjusted_p_value")
    yield Gauge(
        "foreshock_drift_shifted_variables", "Variables whose shift is not chance.", [(model, len(report.shifted))]
    )
    found = report.calibration
    yield Gauge("foreshock_matured_scores", "Scores whose horizon has passed.", [(model, found.scores)])
    if found.ratio is not None and found.p_value is not None:
        yield Gauge("foreshock_calibration_ratio", "Observed to expected onsets.", [(model, found.ratio)])
        yield Gauge("foreshock_calibration_p_value", "Calibration in the large.", [(model, found.p_value)])
    for name in ("auc", "pr_auc", "ks"):
        yield _by_month(report, model, name)
    if report.alert_rate is not None:
        yield Gauge("foreshock_alerts_per_1000_users_month", "Alerts of the window.", [(model, report.alert_rate)])
    yield Gauge(
        "foreshock_drift_window_end_seconds", "End of the window, event time.", [(model, report.until.timestamp())]
    )


def _by_month(report: DriftReport, model: Mapping[str, str], name: str) -> Gauge:
    samples: list[tuple[Mapping[str, str], float]] = []
    for each in report.performance:
        found: Interval = getattr(each, name)
        for bound, value in zip(("estimate", "low", "high"), found, strict=True):
            if value is not None:
                samples.append(({**model, "month": each.month, "bound": bound}, value))
    return Gauge(f"foreshock_score_{name}", f"{name} of matured scores by their month, with 95 % interval.", samples)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value == math.inf else "-Inf" if value == -math.inf else repr(float(value))
