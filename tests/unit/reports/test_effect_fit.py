"""Fitted effects follow a rule that is there, fall back on the branch where little is known, and reach the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from events.reasons import CATALOGUE
from model.bundle import Bundle
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


def test_estimates_come_back_from_the_bundle_and_change_its_fingerprint(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    before = Bundle.load(folder)
    fitted = Fitted(features=list(FEATURES), weights={"overdue": [1.0, 2.0, 3.0, 4.0]}, alerts=7, source="none")
    store_effects(folder, fitted)
    after = Bundle.load(folder)
    assert after.fingerprint != before.fingerprint
    assert Effects.of(after).estimate("overdue", 10.0, 100.0, 1_000.0) == 1 + 20 + 300 + 4_000
    assert {**after.manifest.metrics, METRIC: None} == {**before.manifest.metrics, METRIC: None}
    assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in PRETRAINED_BUNDLE.iterdir())
