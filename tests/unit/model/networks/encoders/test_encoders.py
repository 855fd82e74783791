"""Every encoder, small: its two forms agree, it looks at nothing later, and its graph gives what its step gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import KINDS, Event, Kind
from model.architectures import Architecture
from model.bundle import Bundle
from model.evaluation.playback import score_sequences
from model.histories.sequences import build_sequences
from model.networks.encoders.encoder import Encoder
from model.networks.encoders.time_decay import LinearRecurrence
from model.networks.risk_model import RiskModel
from model.training.export import Description, export_bundle
from model.training.forward_pass import score_histories

SMALL = Architecture(layers=(2, 2, 1), hidden=(12, 12, 8), window=5, heads=2, profile_embedding=6, fusion=8)
SEQUENTIAL = ("lstm-attention", "lstm", "gru-attention", "transformer", "time-decay")
MIXED = replace(SMALL, family="mixed", encoders=("gru-attention", "transformer", "time-decay", "ignored"))
"""The encoders that the default family has not, in one bundle: exporting is the slow part."""

MakeModel = Callable[..., RiskModel]
MakeNumeric = Callable[[np.random.Generator, Kind, int], np.ndarray]


def _encoder(make_model: MakeModel, name: str, kind: Kind) -> Encoder:
    encoders = tuple(("ignored" if other == "profiles" else name) for other in KINDS)
    model = make_model(architecture=replace(SMALL, encoders=encoders))
    return model.encoder(kind).double().eval()


def _histories(make_numeric: MakeNumeric, kind: Kind, users: int, events: int, seed: int) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    numeric = make_numeric(random, kind, users * events).reshape(users, events, -1)
    categorical = random.integers(0, FIRST_CATEGORY_CODE, (users, events, len(COLUMNS[kind].categorical)))
    return torch.from_numpy(numeric).double(), torch.from_numpy(categorical)


@torch.no_grad()
def _stepped(encoder: Encoder, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
    step = encoder.step().to(numeric.dtype).eval()
    state = numeric.new_zeros(len(numeric), step.state_width)
    readouts, logits = [], []
    for position in range(numeric.shape[1]):
        state, logit = step(numeric[:, position], categorical[:, position], state)
        readouts.append(state[:, : encoder.readout_width])
        logits.append(logit)
    return torch.stack(readouts, 1), torch.stack(logits, 1)


@pytest.mark.parametrize("kind", ["repayments", "activity"])
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_stepping_equals_the_whole_sequence(
    make_model: MakeModel, make_numeric: MakeNumeric, name: str, kind: Kind
) -> None:
    encoder = _encoder(make_model, name, kind)
    numeric, categorical = _histories(make_numeric, kind, 6, 33, 1)
    with torch.no_grad():
        readouts, logits = encoder.sequence(numeric, categorical)
    assert readouts.std() > 0.05
    stepped, stepped_logits = _stepped(encoder, numeric, categorical)
    torch.testing.assert_close(stepped, readouts, rtol=0, atol=1e-12)
    torch.testing.assert_close(stepped_logits, logits, rtol=0, atol=1e-12)
    single, _ = _stepped(encoder.float(), numeric.float(), categorical)
    torch.testing.assert_close(single.double(), readouts, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SEQUENTIAL)
@settings(deadline=None, max_examples=8)
@given(first=st.integers(1, 20), seed=st.integers(0, 5))
def test_nothing_later_is_looked_at(
    make_model: MakeModel, make_numeric: MakeNumeric, name: str, first: int, seed: int
) -> None:
    encoder = _encoder(make_model, name, "transactions")
    numeric, categorical = _histories(make_numeric, "transactions", 2, 21, seed)
    with torch.no_grad():
        whole, _ = encoder.sequence(numeric, categorical)
        part, _ = encoder.sequence(numeric[:, :first], categorical[:, :first])
    torch.testing.assert_close(part, whole[:, :first], rtol=0, atol=1e-12)


def test_a_transformer_forgets_what_leaves_its_window(make_model: MakeModel, make_numeric: MakeNumeric) -> None:
    encoder = _encoder(make_model, "transformer", "activity")
    numeric, categorical = _histories(make_numeric, "activity", 2, 30, 2)
    # Norms of the features reach back for ever; without them two layers and the pooling see three windows.
    numeric[:, :, :] = torch.nan_to_num(numeric)
    reach = 3 * (SMALL.window - 1)
    other = categorical.clone()
    other[:, 0] = 1 - other[:, 0]
    with torch.no_grad():
        readouts, _ = encoder.sequence(numeric, categorical)
        changed, _ = encoder.sequence(numeric, other)
    assert (readouts[:, : SMALL.window] != changed[:, : SMALL.window]).any()
    torch.testing.assert_close(readouts[:, reach + 1 :], changed[:, reach + 1 :], rtol=0, atol=1e-12)


def test_a_long_pause_fades_a_time_decay(make_model: MakeModel, make_numeric: MakeNumeric) -> None:
    """The same two events, a year apart or a day: the first leaves less behind."""
    encoder = _encoder(make_model, "time-decay", "activity")
    step = encoder.step().double()
    numeric, categorical = _histories(make_numeric, "activity", 4, 1, 3)
    gap = COLUMNS["activity"].numeric_inputs.index("gap_days")
    memory = slice(encoder.readout_width, encoder.readout_width + SMALL.hidden[2])
    kept = {}
    for days in (1.0, 365.0):
        now = numeric[:, 0].clone()
        now[:, gap] = days
        for start in (0.0, 1.0):
            state = torch.zeros(4, step.state_width, dtype=torch.float64)
            state[:, memory] = start
            kept[days, start] = step(now, categorical[:, 0], state)[0][:, memory]
    share = {days: kept[days, 1.0] - kept[days, 0.0] for days in (1.0, 365.0)}
    assert (share[365.0] < share[1.0]).all()
    assert share[365.0].min() < 1e-6 < 0.3 < share[1.0].max()


@settings(deadline=None, max_examples=10)
@given(events=st.integers(1, 12), seed=st.integers(0, 100))
def test_gradients_of_the_linear_recurrence(events: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    decay = torch.rand(events, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    added = torch.randn(events, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LinearRecurrence.apply, (decay, added))
    memory = torch.zeros(3, 2, dtype=torch.float64)
    for position in range(events):
        memory = decay[position] * memory + added[position]
    torch.testing.assert_close(LinearRecurrence.apply(decay, added)[-1], memory)


@pytest.fixture(scope="module")
def mixed(make_model: MakeModel, random_description: Description, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(
        make_model(architecture=MIXED), random_description, tmp_path_factory.mktemp("mixed") / "bundle"
    )


def test_exported_graphs_equal_one_forward_pass(mixed: Bundle, make_history: Callable[..., list[Event]]) -> None:
    assert mixed.manifest.architecture["family"] == "mixed"
    assert mixed.manifest.winsor["profiles"] == {}
    histories = [make_history(f"u{user}", 1 + 9 * user, user) for user in range(16)]
    sequences = build_sequences((event for events in histories for event in events), mixed.vocabularies)
    stepped = score_sequences(mixed, sequences)
    whole = np.concatenate(score_histories(mixed, histories))
    assert whole[:, mixed.headline].std() > 0.001
    assert np.abs(stepped - whole).max() <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(1, 599), max_size=8, unique=True))
def test_any_split_into_batches_gives_the_same_bits(
    mixed: Bundle, make_numeric: MakeNumeric, kind: Kind, cuts: list[int]
) -> None:
    random = np.random.default_rng(0)
    numeric = make_numeric(random, kind, 600)
    categorical = random.integers(0, FIRST_CATEGORY_CODE, (600, len(COLUMNS[kind].categorical)))
    state = random.uniform(0, 1, (600, mixed.manifest.state_widths[kind])).astype(np.float32)
    whole = mixed.step(kind, numeric, categorical, state)
    parts = [mixed.step(kind, numeric[a:b], categorical[a:b], state[a:b]) for a, b in pairwise([0, *sorted(cuts), 600])]
    for position in range(2):
        assert np.concatenate([part[position] for part in parts]).tobytes() == whole[position].tobytes()
