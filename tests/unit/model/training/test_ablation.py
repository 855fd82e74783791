"""Ablations change one thing each, go on where they were stopped, and the page says what the figures say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.training.ablation import Ablations, ablate, page
from model.training.augmentation import Augmentation
from model.training.input_rules import InputRules
from model.training.preparation import TrainingError
from model.training.variations import CHOICES, DEFAULT, Variation

LAB = Path(__file__).resolve().parents[4] / "docs" / "lab"
VARIATIONS = CHOICES["inputs"].variations
PAGES = {"inputs": "ablations", "contracts": "ablations-contracts"}


def test_every_variation_changes_one_thing() -> None:
    for variation in VARIATIONS:
        changed = [
            field.name
            for mine, default in ((variation.augmentation, Augmentation()), (variation.rules, InputRules()))
            for field in fields(default)
            if getattr(mine, field.name) != getattr(default, field.name)
        ]
        named = variation.options.removeprefix("--").split(" ")[0].replace("-", "_")
        assert changed == ([named] if named else [])
    assert len({variation.name for variation in VARIATIONS}) == len(VARIATIONS)


def test_a_stopped_run_goes_on(sessions: Callable[..., Dataset], small: Architecture, tmp_path: Path) -> None:
    opened: list[int] = []

    def open_seed(seed: int) -> Dataset:
        opened.append(seed)
        return sessions(40, turn=20 + 10 * seed)

    def run(variations: tuple[Variation, ...], epochs: int = 1) -> Ablations:
        return ablate(
            open_seed, [1, 2], tmp_path / "r.json", epochs=epochs, command="foreshock ablate", settings={"users": 40},
            architecture=small, variations=variations, progress=False,
        )  # fmt: skip

    first = run(VARIATIONS[:1])
    assert [(row.name, row.seed) for row in first.rows] == [(DEFAULT, 1), (DEFAULT, 2)]
    both = run(VARIATIONS[:2])
    assert both.rows[:2] == first.rows, "what was known was not trained again"
    assert [(row.name, row.seed) for row in both.rows[2:]] == [("jitter", 1), ("jitter", 2)]
    assert all(row.auc is not None and row.positives > 0 for row in both.rows)
    assert run(VARIATIONS[:2]) == both
    assert "| jitter | `--jitter 0.1` |" in page(both)
    assert "| variation | logarithmic loss |" in page(both)
    assert "(users 40) and a training of its own, of at most 1 epochs" in page(both)
    with pytest.raises(TrainingError, match="of other settings"):
        run(VARIATIONS[:2], epochs=2)
    with pytest.raises(TrainingError, match="of other settings, inputs"):
        ablate(
            open_seed, [1, 2], tmp_path / "r.json", epochs=1, command="", settings={"users": 40}, choices="contracts",
            progress=False,
        )  # fmt: skip
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(TrainingError, match="is no report of ablations"):
        run(VARIATIONS[:2])


def test_every_choice_about_contracts_can_be_trained(
    sessions: Callable[..., Dataset], small: Architecture, tmp_path: Path
) -> None:
    found = ablate(
        lambda _: sessions(40, turn=20), [1], tmp_path / "r.json", epochs=1, command="foreshock ablate",
        settings={"users": 40}, architecture=small, choices="contracts", progress=False,
    )  # fmt: skip
    assert [row.name for row in found.rows] == [variation.name for variation in CHOICES["contracts"].variations]
    assert all(row.log_loss is not None and row.seconds is not None for row in found.rows)
    assert page(found).startswith("# Ablations: contracts\n")


@pytest.mark.parametrize("choices", list(CHOICES))
def test_the_pages_in_the_documents_are_those_of_the_figures_there(choices: str) -> None:
    found = msgspec.json.decode((LAB / f"{PAGES[choices]}.json").read_bytes(), type=Ablations)
    assert (LAB / f"{PAGES[choices]}.md").read_text() == page(found)
    assert found.choices == choices
    assert {row.name for row in found.rows} == {variation.name for variation in CHOICES[choices].variations}
