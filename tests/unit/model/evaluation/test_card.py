"""A card says what the manifest says, what was measured and for whom, and leaves the bundle as it is."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.card import CARD_FILE, CardFigures, card, card_figures, write_card
from model.evaluation.drift_reference import REFERENCE_FILE, read_drift_reference
from model.evaluation.evaluate import progress_bars
from model.evaluation.scored_source import ScoredSource, score_source, scored_users
from stream.settings import PRETRAINED_BUNDLE

BUNDLE = Bundle.load(PRETRAINED_BUNDLE)


@pytest.fixture(scope="module")
def source() -> ScoredSource:
    with progress_bars(False) as bars:
        return score_source(BUNDLE, open_dataset("simulator", users=150, months=10, seed=31), bars)


@pytest.fixture(scope="module")
def figures(source: ScoredSource) -> CardFigures:
    return card_figures(source, "150 simulated borrowers", resamples=30)


def test_a_card_has_every_part(figures: CardFigures) -> None:
    text = card(BUNDLE, figures)
    for part in ("What it is", "Intended use", "Inputs", "Test", "By segment", "Calibration", "Fairness gaps",
                 "Alert thresholds", "Limits"):  # fmt: skip
        assert f"\n## {part}\n" in text
    assert BUNDLE.fingerprint_hex in text
    assert BUNDLE.manifest.training.command in text
    assert f"{BUNDLE.thresholds.medium:.4f}" in text
    assert "Trained on a simulated portfolio" in text
    assert "150 simulated borrowers" in text
    for line in text.splitlines():
        assert not line.startswith("| ") or line.endswith(" |")


def test_protected_fields_are_evaluated_though_they_are_no_input(figures: CardFigures) -> None:
    assert {"sex", "age_band", "employment"} <= figures.by_field.keys()
    assert {gap.field for gap in figures.gaps} == {"sex", "age_band"}
    assert set(figures.gaps[0].gaps) == {"auc", "calibration", "alert_rate", "false_positive_rate"}
    text = card(BUNDLE, figures)
    assert "none is an input. That is the default; `--protected-input`" in text
    assert "Not an input: age_band, sex." in text


def test_a_category_can_be_no_html_and_ends_no_cell(figures: CardFigures) -> None:
    part = replace(figures.by_field["sex"][0], name="<script>alert(1)</script> | a\nb\x1b[31m")
    text = card(BUNDLE, replace(figures, by_field={"sex": [part]}))
    assert "| &lt;script&gt;alert(1)&lt;/script&gt; \\| a\\nb\\x1b[31m |" in text
    assert "<script>" not in text


def test_a_protected_input_is_stated() -> None:
    vocabularies = {**BUNDLE.vocabularies, "profiles": {**BUNDLE.vocabularies["profiles"], "sex": {"female": 2}}}
    bundle = copy.copy(BUNDLE)  # whose graphs have no place for the category: loaded from a folder, it would be refused
    bundle.manifest = msgspec.structs.replace(BUNDLE.manifest, vocabularies=vocabularies)
    bundle.vocabularies = vocabularies
    text = card(bundle, None)
    assert "Protected fields: sex is an input, because training was asked for it" in text
    assert "Not an input: age_band." in text


def test_without_figures_it_says_how_to_get_them() -> None:
    text = card(BUNDLE, None)
    assert "`foreshock card BUNDLE --source … --path …`" in text
    assert "## Fairness gaps" not in text


def test_groups_that_the_data_do_not_tell_apart_are_named(source: ScoredSource) -> None:
    codes = source.plain.categorical["profiles"].copy()
    codes[:, -1] = 0  # nobody's sex is known
    blind = replace(source, plain=replace(source.plain, categorical={**source.plain.categorical, "profiles": codes}))
    found = card_figures(blind, "x", resamples=10)
    assert found.absent == ("sex",)
    assert "do not tell the groups apart: sex." in card(BUNDLE, found)


def test_only_scored_users_count(source: ScoredSource, figures: CardFigures) -> None:
    some = scored_users(source, np.arange(40))
    assert 0 < card_figures(some, "x", resamples=5).overall.users <= 40 < figures.overall.users
    later = int(np.median(source.sequences.times_ms))
    assert card_figures(source, "x", later, resamples=5).overall.scores < figures.overall.scores


def test_a_written_card_leaves_the_fingerprint(figures: CardFigures, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(PRETRAINED_BUNDLE, folder)
    assert write_card(Bundle.load(folder), figures) == folder / CARD_FILE
    assert Bundle.load(folder).fingerprint == BUNDLE.fingerprint
    assert (folder / CARD_FILE).read_text() == card(BUNDLE, figures)


def test_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(PRETRAINED_BUNDLE, folder)
    said = CliRunner().invoke(app, ["card", str(folder)])
    assert said.exit_code == 0, said.output
    assert (folder / CARD_FILE).is_file()
    options = ["--users", "60", "--months", "8"]
    taken = CliRunner().invoke(app, ["reference", "--bundle", str(folder), *options])
    assert taken.exit_code == 0, taken.output
    assert (folder / REFERENCE_FILE).is_file()
    reference = read_drift_reference(Bundle.load(folder))
    assert reference is not None
    assert reference.users > 30
    missing = CliRunner().invoke(app, ["card", str(tmp_path / "nowhere")])
    assert missing.exit_code == 1
    assert "nowhere" in missing.stderr.replace("\n", "")
