"""Estimates are read from the bundle's manifest; those of another version, or that are no weights, are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from model.bundle import MANIFEST_FILE, Bundle, BundleError, manifest_bytes
from stream.alerts.effects import FEATURES, METRIC, Effects
from stream.settings import PRETRAINED_BUNDLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))


def with_metric(folder: Path, content: object) -> Bundle:
    """The bundle with `content` where its manifest holds the estimates."""
    manifest = Bundle.load(folder).manifest
    metrics = {**manifest.metrics, METRIC: content}
    (folder / MANIFEST_FILE).write_bytes(manifest_bytes(msgspec.structs.replace(manifest, metrics=metrics)))
    return Bundle.load(folder)


def fitted(**changes: object) -> dict[str, object]:
    values = {"features": list(FEATURES), "weights": {"overdue": [1.0, 2.0, 3.0, 4.0]}, "alerts": 7, "source": "none"}
    return {**values, **changes}


def test_an_estimate_is_the_weighted_sum(folder: Path) -> None:
    effects = Effects.of(with_metric(folder, fitted()))
    assert effects.estimate("overdue", 10.0, 100.0, 1_000.0) == 1 + 20 + 300 + 4_000
    assert effects.estimate("near_limit", 10.0, 100.0, 1_000.0) is None


def test_a_bundle_without_estimates_estimates_nothing(folder: Path) -> None:
    manifest = Bundle.load(folder).manifest
    metrics = {name: value for name, value in manifest.metrics.items() if name != METRIC}
    (folder / MANIFEST_FILE).write_bytes(manifest_bytes(msgspec.structs.replace(manifest, metrics=metrics)))
    assert Effects.of(Bundle.load(folder)).estimate("overdue", 1.0, 1.0, 1.0) is None


@pytest.mark.parametrize(
    "changes", [{"features": ["constant"]}, {"weights": {"overdue": [1.0]}}], ids=["features", "width"]
)
def test_estimates_of_another_version_are_refused(folder: Path, changes: dict[str, object]) -> None:
    bundle = with_metric(folder, fitted(**changes))
    with pytest.raises(BundleError, match="reasons calibrate"):
        Effects.of(bundle)


def test_what_is_no_table_of_weights_is_refused(folder: Path) -> None:
    bundle = with_metric(folder, {"weights": 3})
    with pytest.raises(BundleError, match="reasons calibrate"):
        Effects.of(bundle)
