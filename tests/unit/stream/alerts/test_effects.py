"""Estimates follow a rule that is there, fall back on the branch where little is known, and live in the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from events.reasons import CATALOGUE
from model.bundle import MANIFEST_FILE, Bundle, BundleError, manifest_bytes
from reports.effect_fit import Example, fit_effects, store_effects
from stream.alerts.effects import FEATURES, METRIC, Effects, Fitted
from stream.settings import PRETRAINED_BUNDLE


def examples(code: str, number: int, seed: int, *, of_strength: float = 2.0) -> list[Example]:
    """The drop is 0.5 + 1.5 times the contribution + `of_strength` times the strength - 0.25 times the log-odds."""
    rows = np.random.default_rng(seed).normal(size=(number, 3))
    return [Example(code, c, s, score, 0.5 + 1.5 * c + of_strength * s - 0.25 * score) for c, s, score in rows.tolist()]


def test_a_linear_rule_is_found() -> None:
    effects = Effects(fit_effects(examples("overdue", 20_000, 0)))
    for number, example in enumerate(examples("overdue", 20, 1)):
        estimate = effects.estimate("overdue", example.contribution, example.strength, example.log_odds)
        assert estimate == pytest.approx(example.drop, abs=0.01), number


def test_a_code_with_few_examples_stays_close_to_its_branch() -> None:
    common, rare = examples("near_limit", 5_000, 2), examples("cash_out", 2, 3, of_strength=-8.0)
    weights = fit_effects([*common, *rare])
    halfway = (2.0 + -8.0) / 2
    assert halfway < weights["cash_out"][FEATURES.index("strength")] < 2.0
    assert weights["income_down"] == pytest.approx(weights["near_limit"], abs=0.05), "nothing of its own was seen"
    many = fit_effects([*common, *examples("cash_out", 5_000, 3, of_strength=-8.0)])
    assert many["cash_out"][FEATURES.index("strength")] == pytest.approx(-8, abs=0.2)


def test_codes_of_a_branch_without_examples_are_left_out() -> None:
    weights = fit_effects(examples("device_change", 50, 4))
    assert {CATALOGUE[code].kind for code in weights} == {"activity"}
    assert Effects(weights).estimate("overdue", 1.0, 1.0, 0.0) is None
    assert fit_effects([]) == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))


def fitted(**changes: object) -> Fitted:
    values = {"features": list(FEATURES), "weights": {"overdue": [1.0, 2.0, 3.0, 4.0]}, "alerts": 7, "source": "none"}
    return Fitted(**{**values, **changes})


def test_estimates_come_back_from_the_bundle_and_change_its_fingerprint(folder: Path) -> None:
    before = Bundle.load(folder)
    store_effects(folder, fitted())
    after = Bundle.load(folder)
    assert after.fingerprint != before.fingerprint
    assert Effects.of(after).estimate("overdue", 10.0, 100.0, 1_000.0) == 1 + 20 + 300 + 4_000
    assert {**after.manifest.metrics, METRIC: None} == {**before.manifest.metrics, METRIC: None}
    assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in PRETRAINED_BUNDLE.iterdir())


def test_a_bundle_without_estimates_estimates_nothing(folder: Path) -> None:
    manifest = Bundle.load(folder).manifest
    metrics = {name: value for name, value in manifest.metrics.items() if name != METRIC}
    (folder / MANIFEST_FILE).write_bytes(manifest_bytes(msgspec.structs.replace(manifest, metrics=metrics)))
    assert Effects.of(Bundle.load(folder)).estimate("overdue", 1.0, 1.0, 1.0) is None


@pytest.mark.parametrize(
    "changes", [{"features": ["constant"]}, {"weights": {"overdue": [1.0]}}], ids=["features", "width"]
)
def test_estimates_of_another_version_are_refused(folder: Path, changes: dict[str, object]) -> None:
    store_effects(folder, fitted(**changes))
    with pytest.raises(BundleError, match="reasons calibrate"):
        Effects.of(Bundle.load(folder))


def test_what_is_no_table_of_weights_is_refused(folder: Path) -> None:
    manifest = Bundle.load(folder).manifest
    metrics = {**manifest.metrics, METRIC: {"weights": 3}}
    (folder / MANIFEST_FILE).write_bytes(manifest_bytes(msgspec.structs.replace(manifest, metrics=metrics)))
    with pytest.raises(BundleError, match="reasons calibrate"):
        Effects.of(Bundle.load(folder))
