"""The file is in Prometheus' exposition format, holds what is known, and is replaced in one step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reports.drift import DriftReport
from reports.textfile import write_drift_metrics
from stream.telemetry.catalogue import METRICS

MODEL = {"model": "0123456789abcdef"}


def samples(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_the_gauges_of_a_report(drift_report: DriftReport, nasty: str, tmp_path: Path) -> None:
    path = tmp_path / "foreshock.prom"
    write_drift_metrics(drift_report, path)

    def one(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
        return f"foreshock_{name}", frozenset((MODEL | labels).items())

    months = {
        one(f"score_{name}", month=month, bound=bound): value
        for name in ("auc", "pr_auc", "ks")
        for month, bound, value in (
            ("2023-10", "estimate", 0.81),
            ("2023-10", "low", 0.74),
            ("2023-10", "high", 0.87),
            ("2023-12", "estimate", 0.5),
        )
    }
    assert samples(path) == months | {
        one("drift_psi", variable="score"): 0.02,
        one("drift_psi", variable=nasty): 0.31,
        one("drift_psi_critical", variable="score"): 0.05,
        one("drift_psi_critical", variable=nasty): 0.05,
        one("drift_p_value", variable="score"): 0.8,
        one("drift_p_value", variable=nasty): 0.0003,
        one("drift_shifted_variables"): 1.0,
        one("matured_scores"): 4_000.0,
        one("calibration_ratio"): 2.0,
        one("calibration_p_value"): 0.0001,
        one("alerts_per_1000_users_month"): 41.25,
        one("drift_window_end_timestamp_seconds"): 1_709_251_200.0,
    }
    assert [each.name for each in tmp_path.iterdir()] == ["foreshock.prom"]
    assert path.stat().st_mode & 0o444 == 0o444, "the collector is another user"


def test_what_is_not_known_has_no_metric(drift_report: DriftReport, tmp_path: Path) -> None:
    path = tmp_path / "foreshock.prom"
    calibration = replace(drift_report.calibration, p_value=None)
    write_drift_metrics(
        replace(drift_report, stability=[], calibration=calibration, performance=[], alert_rate=None), path
    )
    names = [
        "foreshock_drift_shifted_variables",
        "foreshock_matured_scores",
        "foreshock_drift_window_end_timestamp_seconds",
    ]
    assert [line.split()[2] for line in path.read_text().splitlines() if line.startswith("# TYPE")] == names


def test_a_folder_that_is_not_there_is_an_os_error(drift_report: DriftReport, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_drift_metrics(drift_report, tmp_path / "nowhere" / "foreshock.prom")


def test_writes_what_the_catalogue_says_of_drift(drift_report: DriftReport, tmp_path: Path) -> None:
    path = tmp_path / "foreshock.prom"
    write_drift_metrics(drift_report, path)
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    of_drift = {name: metric for name, metric in METRICS.items() if "drift" in metric.sources}
    assert set(families) == set(of_drift)
    for name, metric in of_drift.items():
        assert (families[name].type, families[name].documentation) == (metric.kind, metric.meaning)
        assert all(set(sample.labels) == set(metric.labels) for sample in families[name].samples)
