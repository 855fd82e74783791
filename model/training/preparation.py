"""Prepares a model for training: vocabularies, winsor bounds and scales, from the training part or from a bundle.

Must not use any event outside the training part. A model that starts from a bundle keeps those of the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.types import KINDS
from model.architectures import Architecture
from model.bundle import Bundle
from model.datasets.dataset import Outcome
from model.histories.sequences import Sequences, learn_vocabularies
from model.histories.splits import Split
from model.networks.boosted import BoostedFusion
from model.networks.encoders.tallied import TalliedEncoder
from model.networks.fusion import Fusion
from model.networks.risk_model import RiskModel
from model.training.forward_pass import load_model, vocabulary_sizes
from model.training.input_rules import InputRules

LEAST_CATEGORY_COUNT = 20
SEASONAL_DAYS = 730
BOUND_ROWS = 500_000

Network: TypeAlias = Callable[..., RiskModel]
"""Makes a fresh network from an architecture and the sizes of its vocabularies, as `RiskModel` does, and from
`numeric_inputs` where some are left out."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why and what to do."""


def prepare(
    provisional: Sequences,
    parts: Split,
    architecture: Architecture,
    protected_inputs: Iterable[str],
    rules: InputRules | None = None,
    network: Network = RiskModel,
) -> tuple[RiskModel, Sequences]:
    """A fresh model whose vocabularies, winsor bounds and scales come from the training part alone, and the histories
    under those vocabularies."""
    rules = rules or InputRules()
    counts = np.zeros(provisional.users, dtype=np.int64)
    counts[parts.train.users] = parts.train.counts
    rows = {kind: provisional.rows_of(kind, counts) for kind in KINDS}
    if not any(len(part) for part in rows.values()):
        raise TrainingError("the training part holds no event; take more users or months")
    vocabularies = learn_vocabularies(provisional, rows, LEAST_CATEGORY_COUNT, protected_inputs)
    for name in rules.leave_out:
        vocabularies["profiles"].pop(name, None)
    sequences = provisional.recoded(vocabularies)
    if rules.leave_out:
        network = partial(network, numeric_inputs=rules.numeric_inputs())
    model = network(architecture, vocabulary_sizes(vocabularies))
    trained = parts.train.users[parts.train.counts > 0]
    starts = sequences.merged_starts[trained]
    span_ms = sequences.times_ms[starts + counts[trained] - 1].max() - sequences.times_ms[starts].min()
    for kind in KINDS:
        features = model.encoder(kind).features
        if features is None:  # a kind that the architecture does not read
            continue
        if rules.missing == "zero":
            features.take_missing_as_zero()
        stride = max(1, len(rows[kind]) // BOUND_ROWS)
        model.set_bounds(
            kind,
            sequences.numeric[kind][rows[kind][::stride]],
            rules.winsor_tail,
            seasonal=bool(span_ms >= SEASONAL_DAYS * DAY_MS),
        )
        if rules.alignment == "order":
            features.silence("gap_days")
    return model, sequences


def from_bundle(bundle: Bundle | Path | str, provisional: Sequences) -> tuple[RiskModel, Sequences]:
    """The model of a bundle, to be trained on, and the histories under its vocabularies.

    Vocabularies, winsor bounds and scales stay the bundle's. Its calibration moves into the last layer, so that the
    model starts from the bundle's scores and can be calibrated anew. Trees beside the network are left out: they are
    fitted anew.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    model = network_of(load_model(loaded, torch.float32))
    fusion = model.fusion
    assert isinstance(fusion, Fusion)
    with torch.no_grad():
        fusion.logits_.weight.mul_(fusion.slope[:, None])
        if fusion.wide is not None:
            fusion.wide.weight.mul_(fusion.slope[:, None])
        fusion.logits_.bias.mul_(fusion.slope).add_(fusion.intercept)
        fusion.slope.fill_(1.0)
        fusion.intercept.fill_(0.0)
    return model, provisional.recoded(loaded.vocabularies)


def network_of(model: RiskModel) -> RiskModel:
    """The network of a model without the trees beside it."""
    if not isinstance(model.fusion, BoostedFusion):
        return model
    alone = RiskModel(model.architecture.network_alone(), model.vocabulary_sizes, model.numeric_inputs)
    for kind in KINDS:
        encoder = model.encoder(kind)
        assert isinstance(encoder, TalliedEncoder)
        alone.encoder(kind).load_state_dict(encoder.encoder.state_dict())
    alone.fusion.load_state_dict(model.fusion.network.state_dict())
    return alone


def labels_of(sequences: Sequences, outcomes: Mapping[str, Outcome]) -> NDArray[np.int8]:
    """The source's own label per user, int8 `[users]`, -1 where it has none."""
    labels = (getattr(outcomes.get(user_id), "label", None) for user_id in sequences.user_ids)
    return np.array([-1 if label is None else label for label in labels], dtype=np.int8)
