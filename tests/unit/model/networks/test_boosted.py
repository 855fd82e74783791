"""A network with tallies and trees: its graphs give what PyTorch gives, whatever the batch, and its weights survive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import lightgbm
import numpy as np
import pytest
import torch

from events.types import KINDS, Event
from model.architectures import Architecture
from model.bundle import Bundle
from model.evaluation.playback import score_sequences
from model.histories.sequences import build_sequences
from model.networks.boosted import BoostedFusion
from model.networks.encoders.tallied import TalliedEncoder
from model.networks.risk_model import RiskModel
from model.networks.tallies import slots
from model.networks.trees import Trees
from model.training.export import Description, export_bundle
from model.training.forward_pass import load_model, score_histories
from model.training.preparation import from_bundle

SMALL = Architecture(
    family="boosted-readout", hidden=(12, 12, 8), profile_hidden=8, profile_embedding=6, fusion=8, boosted=True
)


@pytest.fixture(scope="module")
def boosted(
    make_model: Callable[..., RiskModel],
    random_description: Description,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """A random network with tallies of everything but activity, and with trees over all that they may take."""
    vocabularies = random_description.vocabularies
    inputs = RiskModel(SMALL, {kind: [0] * len(sizes) for kind, sizes in make_model().vocabulary_sizes.items()})
    named = tuple(
        () if kind == "activity" else slots(kind, inputs.numeric_inputs[kind], vocabularies[kind])[::2]
        for kind in KINDS
    )
    model = make_model(architecture=replace(SMALL, tallies=named, trees=(1, 1, 0)))
    fusion = model.fusion
    assert isinstance(fusion, BoostedFusion)
    for kind in KINDS:
        encoder = model.encoder(kind)
        assert isinstance(encoder, TalliedEncoder)
        encoder.tally.learn(vocabularies[kind])
    fusion.trees = _random_trees(len(fusion.input_names()))
    fusion.weights[0], fusion.weights[1] = 0.25, 0.75
    model.architecture = replace(model.architecture, trees=fusion.trees.shape)
    return export_bundle(model, random_description, tmp_path_factory.mktemp("boosted") / "bundle")


def _random_trees(inputs: int) -> Trees:
    random = np.random.default_rng(0)
    values = (random.lognormal(2, 3, (4_000, inputs)) * random.choice([-1, 1], (4_000, inputs))).astype(np.float32)
    values[random.random(values.shape) < 0.3] = np.nan
    happened = (np.nan_to_num(values) > 1).sum(1) + random.normal(0, 3, 4_000) > np.median((values > 1).sum(1))
    params = {"objective": "binary", "verbosity": -1, "num_leaves": 15, "num_threads": 1, "feature_fraction": 0.3}
    return Trees.of(lightgbm.train(params, lightgbm.Dataset(values, happened.astype(float)), 40))


def test_the_graphs_give_what_pytorch_gives(boosted: Bundle, make_history: Callable[..., list[Event]]) -> None:
    """In float32 on both sides: a tree jumps where its input crosses a threshold, and in float64 an input may be on the
    other side of one."""
    histories = [make_history(f"u{number}", 60, number) for number in range(12)]
    sequences = build_sequences((event for events in histories for event in events), boosted.vocabularies)
    served = score_sequences(boosted, sequences, np.arange(sequences.users))
    reference = np.concatenate(score_histories(boosted, histories, torch.float32))
    differences = np.abs(served - reference).max(axis=1)
    assert np.quantile(differences, 0.99) < 2e-6
    assert (differences < 2e-6).mean() > 0.99
    assert served.std(axis=0).min() > 0.01


def test_a_row_does_not_depend_on_its_batch(boosted: Bundle) -> None:
    random = np.random.default_rng(3)
    readout = (random.lognormal(1, 2, (700, boosted.readout_width))).astype(np.float32)
    ages = random.exponential(20, (700, len(KINDS))).astype(np.float32)
    whole = boosted.score(readout, ages)
    for size in (1, 7, 16, 33, 300):
        parts = [
            boosted.score(readout[start : start + size], ages[start : start + size]) for start in range(0, 700, size)
        ]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_weights_survive_the_round_trip_and_the_network_can_be_trained_on(boosted: Bundle) -> None:
    loaded = load_model(boosted, torch.float32)
    assert loaded.state_dict().keys() == boosted.weights().keys()
    fusion = loaded.fusion
    assert isinstance(fusion, BoostedFusion)
    assert fusion.trees.shape[0] == 40
    alone, _ = from_bundle(boosted, build_sequences([], boosted.vocabularies))
    assert alone.architecture == replace(SMALL, trees=(0, 0, 0))
    torch.testing.assert_close(alone.fusion.hidden.weight, fusion.network.hidden.weight)
