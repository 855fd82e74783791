"""Parity: one forward pass over a whole history equals stepping the exported graphs event by event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from events.types import KINDS, Event
from model.architectures import Architecture
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.playback import score_sequences
from model.histories.sequences import build_sequences
from model.networks.risk_model import RiskModel
from model.training.export import Description, export_bundle
from model.training.forward_pass import score_histories, score_history, score_users
from model.training.preparation import from_bundle
from stream.settings import PRETRAINED_BUNDLE

LARGEST_DIFFERENCE = 3e-7
History = Callable[..., list[Event]]


def _differences(bundle: Bundle, histories: list[list[Event]], dtype: torch.dtype = torch.float64) -> np.ndarray:
    sequences = build_sequences((event for events in histories for event in events), bundle.vocabularies)
    stepped = score_sequences(bundle, sequences)
    whole = np.concatenate(score_histories(bundle, histories, dtype))
    assert stepped.shape == whole.shape
    assert whole[:, bundle.headline].std() > 0.001
    return np.abs(stepped - whole)


def test_stepping_equals_one_forward_pass(random_bundle: Bundle, make_history: History) -> None:
    lengths = np.random.default_rng(3).integers(1, 250, 40)
    histories = [make_history(f"u{user}", int(length), user) for user, length in enumerate(lengths)]
    assert _differences(random_bundle, histories).max() <= LARGEST_DIFFERENCE
    assert _differences(random_bundle, histories, torch.float32).max() <= 1e-6


def test_a_long_history_does_not_drift(random_bundle: Bundle, make_history: History) -> None:
    assert _differences(random_bundle, [make_history("long", 5_000, 9)])[-500:].max() <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("kind", KINDS)
def test_users_with_one_kind_alone(random_bundle: Bundle, make_history: History, kind: str) -> None:
    histories = [make_history(f"{kind}{user}", 30, user, kinds=(kind,)) for user in range(12)]
    assert _differences(random_bundle, histories).max() <= LARGEST_DIFFERENCE


def test_straight_lines_to_the_hazards_are_served_as_trained(
    make_model: Callable[..., RiskModel], random_description: Description, make_history: History, tmp_path: Path
) -> None:
    model = make_model(architecture=Architecture(wide=True, readout_dropout=0.2))
    assert model.fusion.wide is not None
    assert not model.fusion.wide.weight.any(), "training starts from the mean hazards"
    with torch.no_grad():
        model.fusion.wide.weight.normal_(std=0.1)
    bundle = export_bundle(model, random_description, tmp_path / "bundle")
    histories = [make_history(f"u{user}", 60, user) for user in range(12)]
    assert _differences(bundle, histories).max() <= LARGEST_DIFFERENCE
    straight = score_histories(bundle, histories)
    with torch.no_grad():
        model.fusion.wide.weight.zero_()
    again, sequences = from_bundle(bundle, build_sequences(histories[0], bundle.vocabularies))
    # One export of the two that could be compared: what is not served is scored by the network itself.
    assert np.abs(straight[0] - score_users(model, sequences)).max() > 0.01
    assert again.fusion.slope.tolist() == [1.0] * 4
    np.testing.assert_allclose(score_users(again, sequences), straight[0], rtol=0, atol=1e-5)


def test_the_pretrained_bundle_on_simulated_users() -> None:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    histories: dict[str, list[Event]] = {}
    for event in open_dataset("simulator", users=60, months=12, seed=5).events():
        histories.setdefault(event.user_id, []).append(event)
    # Trained recurrences amplify rounding more than random ones.
    assert _differences(bundle, list(histories.values())).max() <= 1e-6


def test_one_history_is_one_of_many(random_bundle: Bundle, make_history: History) -> None:
    histories = [make_history("a", 20, 1), make_history("b", 35, 2)]
    together = score_histories(random_bundle, histories)
    for events, scores in zip(histories, together, strict=True):
        np.testing.assert_allclose(score_history(random_bundle, events), scores, rtol=0, atol=1e-12)


def test_a_later_event_changes_no_earlier_score(random_bundle: Bundle, make_history: History) -> None:
    events = make_history("a", 40, 4)
    whole = score_history(random_bundle, events)
    np.testing.assert_allclose(score_history(random_bundle, events[:25]), whole[:25], rtol=0, atol=1e-12)
    assert not np.allclose(whole[24], whole[25])


def test_histories_that_mix_users_are_refused(random_bundle: Bundle, make_history: History) -> None:
    a, b = make_history("a", 3, 1), make_history("b", 3, 2)
    for histories in ([a + b], [a, a], [[]]):
        with pytest.raises(ValueError, match="one user"):
            score_histories(random_bundle, histories)


def test_running_attention_is_the_softmax_over_the_history(random_bundle: Bundle, make_history: History) -> None:
    sequences = build_sequences(make_history("a", 120, 6, kinds=("transactions",)), random_bundle.vocabularies)
    part = random_bundle.state_slices["transactions"]
    state = np.zeros((1, part.stop - part.start), dtype=np.float32)
    hidden, logits = [], []
    for row in range(120):
        one = slice(row, row + 1)
        numeric, categorical = sequences.numeric["transactions"][one], sequences.categorical["transactions"][one]
        state, attention = random_bundle.step("transactions", numeric, categorical, state)
        width = random_bundle.readout_widths["transactions"] // 2
        hidden.append(state[0, width : 2 * width].astype(np.float64))
        logits.append(float(attention[0]))
        weights = np.exp(np.array(logits) - max(logits))
        expected = (weights[:, None] * np.array(hidden)).sum(0) / weights.sum()
        np.testing.assert_allclose(state[0, :width], expected, rtol=0, atol=2e-6)
    assert np.std(logits) > 0.02
