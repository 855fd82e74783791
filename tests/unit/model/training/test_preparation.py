"""Rules for inputs reach the network and stay in its weights; a bundle's model starts from the bundle's scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from events.columns import COLUMNS
from events.types import Event
from model.architectures import Architecture
from model.bundle import Bundle
from model.datasets.dataset import Dataset
from model.evaluation.evaluate import progress_bars
from model.evaluation.playback import score_sequences
from model.histories.sequences import build_sequences
from model.networks.features import Features
from model.training.forward_pass import score_users
from model.training.input_rules import InputRules
from model.training.material import read
from model.training.preparation import from_bundle, prepare
from model.training.trainer import Schedule, Trainer

NAMES = COLUMNS["transactions"].numeric_inputs
ROWS = np.full((6, len(NAMES)), np.nan, dtype=np.float32)
ROWS[:, NAMES.index("amount")] = [10, 20, 30, 40, 50, 5_000]
ROWS[:3, NAMES.index("balance_after")] = [100, 200, 300]
ROWS[:, NAMES.index("gap_days")] = [1, 2, 3, 4, 5, 6]
ROWS[:, NAMES.index("day_of_month")] = ROWS[:, NAMES.index("day_of_year")] = 3


def features(*, zero: bool = False, tail: float = 0.0) -> Features:
    torch.manual_seed(0)
    made = Features("transactions", [0, 0, 0])
    if zero:
        made.take_missing_as_zero()
    made.set_bounds(ROWS, tail, seasonal=False)
    return made


def seen(made: Features, rows: np.ndarray) -> torch.Tensor:
    return made.sequence(torch.from_numpy(rows)[None], torch.zeros(1, len(rows), 3, dtype=torch.int64))[0].detach()


def test_missing_as_zero_cannot_be_told_from_zero_and_a_flag_can() -> None:
    zeros = np.nan_to_num(ROWS)
    assert torch.equal(seen(features(zero=True), ROWS), seen(features(zero=True), zeros))
    assert not torch.equal(seen(features(), ROWS), seen(features(), zeros))


def test_missing_as_zero_travels_with_the_weights() -> None:
    original = features(zero=True)
    loaded = Features("transactions", [0, 0, 0])
    loaded.load_state_dict(original.state_dict())
    assert loaded.missing_as_zero
    assert torch.equal(seen(original, ROWS), seen(loaded, ROWS))
    assert "zeros_for_missing" not in features().state_dict()


def test_the_tail_decides_what_is_clipped() -> None:
    amount = NAMES.index("amount")
    assert float(features(tail=0.0).high[amount]) == 5_000
    assert float(features(tail=0.2).high[amount]) < 100


def test_a_silenced_input_carries_nothing() -> None:
    made = features()
    other = ROWS.copy()
    other[:, NAMES.index("gap_days")] = 40
    assert not torch.equal(seen(made, ROWS), seen(made, other))
    made.silence("gap_days")
    assert torch.equal(seen(made, ROWS), seen(made, other))


@pytest.mark.parametrize("values", [{"winsor_tail": 0.5}, {"winsor_tail": -0.1}, {"missing": "no"}, {"alignment": "x"}])
def test_rules_that_do_not_exist_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        InputRules(**values)


def test_rules_reach_every_kind(sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer]) -> None:
    rules = InputRules(missing="zero", alignment="order")
    trainer = make_trainer(sessions(), Schedule(epochs=1), rules=rules)
    encoder = trainer.model.activity
    assert encoder.features.missing_as_zero
    assert encoder.step().features.missing_as_zero, "serving follows the same rules"
    gap = encoder.features.plan.logarithms.index("gap_days")
    assert float(encoder.features.scale[gap]) == 0.0


def test_a_bundle_s_model_starts_from_the_bundle_s_scores(
    random_bundle: Bundle, make_history: Callable[..., list[Event]]
) -> None:
    history = [event for user in range(3) for event in make_history(f"u{user}", 40, user)]
    model, sequences = from_bundle(random_bundle, build_sequences(history))
    assert sequences.vocabularies == random_bundle.vocabularies
    assert model.fusion.slope.tolist() == [1.0] * 4
    assert model.fusion.intercept.tolist() == [0.0] * 4
    served = score_sequences(random_bundle, sequences)
    np.testing.assert_allclose(score_users(model, sequences), served, atol=2e-5)


def test_a_field_that_is_left_out_is_no_input(sessions: Callable[..., Dataset], small: Architecture) -> None:
    with progress_bars(False) as bars:
        held = read(sessions(), bars)
    rules = InputRules(leave_out=("employment", "income"))
    model, sequences = prepare(held.sequences, held.parts, small, (), rules)
    assert "income" not in model.numeric_inputs["profiles"]
    assert "credit_limit" in model.numeric_inputs["profiles"]
    assert model.numeric_inputs["repayments"] == COLUMNS["repayments"].numeric_inputs
    assert "employment" not in sequences.vocabularies["profiles"]
    assert prepare(held.sequences, held.parts, small, ())[0].taken["profiles"] is None


@pytest.mark.parametrize("name", ["sex", "gap_days", "kind", "nothing"])
def test_what_cannot_be_left_out_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"leave_out: {name} can not be left out; choose from .*education"):
        InputRules(leave_out=(name,))
