"""`reasons measure` and `reasons calibrate`."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle, manifest_bytes
from stream.settings import PRETRAINED_BUNDLE

runner = CliRunner()


@pytest.mark.parametrize("command", ["measure", "calibrate"])
def test_reasons_without_any_alert_are_refused(tmp_path: Path, command: str) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    manifest = Bundle.load(bundle).manifest
    never = msgspec.structs.replace(manifest.thresholds, medium=1.0, high=1.0)
    before = manifest_bytes(msgspec.structs.replace(manifest, thresholds=never))
    (bundle / "manifest.json").write_bytes(before)
    config = tmp_path / "no-alerts.toml"
    config.write_text("alert_absolute_rise = 1.0\nalert_dpd_backstop = 3650.0\n")
    options = ["--users", "10", "--months", "2", "--bundle", str(bundle), "--config", str(config)]
    result = runner.invoke(app, ["reasons", command, *options])
    assert result.exit_code == 1
    assert "no alert" in result.stderr
    assert (bundle / "manifest.json").read_bytes() == before


def test_reasons_are_calibrated_and_measured(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    before = (bundle / "manifest.json").read_bytes()
    small = ["--users", "60", "--months", "6", "--alerts", "30", "--bundle", str(bundle)]
    result = runner.invoke(app, ["reasons", "calibrate", *small, "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert (bundle / "manifest.json").read_bytes() != before
    report = tmp_path / "report.json"
    result = runner.invoke(app, ["reasons", "measure", *small, "--seed", "2", "--report", str(report)])
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(report.read_bytes())
    assert 0 < figures["alerts"] <= 30
    assert {"all", "nothing_overdue", "best_possible", "estimates", "codes", "explanation_ms"} <= set(figures)
