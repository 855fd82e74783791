"""Inputs that tell a protected field are found, and the card says what a bundle loses without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.card import CardFigures, card, card_figures
from model.evaluation.evaluate import progress_bars
from model.evaluation.proxies import _scored_without, association, without_proxies
from model.evaluation.scored_source import ScoredSource, score_source
from model.evaluation.segments import UNKNOWN
from stream.settings import PRETRAINED_BUNDLE

BUNDLE = Bundle.load(PRETRAINED_BUNDLE)
EMPLOYMENT, SEX = (COLUMNS["profiles"].categorical.index(name) for name in ("employment", "sex"))


@pytest.fixture(scope="module")
def source() -> ScoredSource:
    """In which employment says who is male, whoever is meant by it."""
    with progress_bars(False) as bars:
        found = score_source(BUNDLE, open_dataset("simulator", users=150, months=10, seed=31), bars)
    codes = found.plain.categorical["profiles"].copy()
    employed = found.sequences.categorical["profiles"][:, EMPLOYMENT]
    codes[:, SEX] = FIRST_CATEGORY_CODE + (employed % 2)
    return replace(found, plain=replace(found.plain, categorical={**found.plain.categorical, "profiles": codes}))


@pytest.fixture(scope="module")
def figures(source: ScoredSource) -> CardFigures:
    return card_figures(source, "150 simulated borrowers", resamples=20)


def test_association_is_one_for_the_same_and_nothing_for_the_unrelated() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, 3_000)
    groups = np.array(["a", "b", "c"])[codes]
    assert association(codes, groups) == pytest.approx(1.0)
    assert association(7 - codes, groups) == pytest.approx(1.0)
    assert association(random.integers(0, 5, 3_000), groups) < 0.03
    assert association(np.zeros(3_000, np.int64), groups) == 0


def test_users_of_unknown_groups_say_nothing() -> None:
    codes = np.array([0, 1] * 20 + [0] * 30)
    groups = np.array(["a", "b"] * 20 + [UNKNOWN] * 30)
    assert association(codes, groups) == pytest.approx(association(codes[:40], groups[:40]))
    assert association(codes[40:], groups[40:]) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", UNKNOWN])), max_size=40))
def test_association_is_a_share(rows: list[tuple[int, str]]) -> None:
    codes, groups = np.array([code for code, _ in rows], np.int64), np.array([group for _, group in rows] or [""])
    assert 0 <= association(codes, groups[: len(codes)]) <= 1 + 1e-9


def test_what_tells_a_protected_field_is_a_proxy(figures: CardFigures) -> None:
    found = figures.without_proxies
    assert found is not None
    strongest = found.proxies[0]
    assert (strongest.name, strongest.tells["sex"]) == ("employment", pytest.approx(1.0, abs=0.05))
    assert strongest.tells.keys() == {"sex", "age_band"}
    assert not {"sex", "age_band"} & {proxy.name for proxy in found.proxies}
    assert found.auc.value is not None
    assert found.auc.low is not None
    assert {gap.field for gap in found.gaps} == {"sex", "age_band"}


def test_scores_without_them_do_not_depend_on_them(source: ScoredSource, figures: CardFigures) -> None:
    found = figures.without_proxies
    assert found is not None
    names = [proxy.name for proxy in found.proxies]
    blind = _scored_without(source, names)
    other = source.sequences.categorical["profiles"].copy()
    other[:, EMPLOYMENT] = np.roll(other[:, EMPLOYMENT], 1)
    sequences = replace(source.sequences, categorical={**source.sequences.categorical, "profiles": other})
    again = _scored_without(replace(source, sequences=sequences), names)
    np.testing.assert_array_equal(blind.probabilities, again.probabilities)
    assert not np.array_equal(blind.probabilities, source.probabilities)


def test_the_card_says_what_it_costs(figures: CardFigures) -> None:
    text = card(BUNDLE, figures)
    assert "## Proxies" in text
    found = figures.without_proxies
    assert found is not None
    assert f"| employment | {found.proxies[0].tells['sex']:.2f} |" in text
    assert "on the same scores: AUC " in text
    assert "on: none." in card(BUNDLE, replace(figures, without_proxies=replace(found, proxies=[], gaps=[])))
    assert "## Proxies" not in card(BUNDLE, replace(figures, without_proxies=None))


def test_without_groups_there_is_nothing_to_tell(source: ScoredSource) -> None:
    codes = source.plain.categorical["profiles"].copy()
    codes[:] = 0
    blind = replace(source, plain=replace(source.plain, categorical={**source.plain.categorical, "profiles": codes}))
    assert without_proxies(blind, 0, 5) is None
