"""Scores of whole histories by PyTorch, in one forward pass: the reference that serving, event by event, must equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from events.columns import COLUMNS
from events.types import KINDS, Event, Kind
from model.architectures import Architecture
from model.bundle import MANIFEST_FILE, WEIGHTS_FILE, Bundle, BundleError
from model.histories.sequences import Sequences, Vocabularies, build_sequences
from model.networks.fusion import cumulative
from model.networks.risk_model import RiskModel
from model.training.batches import by_length, pad

USERS_PER_PASS = 64


def load_model(bundle: Bundle | Path | str, dtype: torch.dtype = torch.float64) -> RiskModel:
    """The network of a bundle with its weights, in evaluation mode. Raises `BundleError` as `Bundle.load` does."""
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    sizes = vocabulary_sizes(loaded.vocabularies)
    architecture = Architecture.from_manifest(loaded.manifest.architecture)
    model = RiskModel(architecture, sizes, loaded.manifest.numeric_inputs)
    try:
        model.load_state_dict({name: torch.from_numpy(weights) for name, weights in loaded.weights().items()})
    except (RuntimeError, TypeError) as error:
        raise BundleError(
            f"{loaded.path / WEIGHTS_FILE} holds no weights of the network that {MANIFEST_FILE} describes ({error}); "
            "train the bundle again"
        ) from None
    return model.to(dtype).eval()


def vocabulary_sizes(vocabularies: Vocabularies) -> dict[Kind, list[int]]:
    """Listed categories per categorical field of each kind; 0 for a field without a vocabulary."""
    return {kind: [len(vocabularies[kind].get(name, {})) for name in COLUMNS[kind].categorical] for kind in KINDS}


def score_history(
    bundle: Bundle | Path | str, events: Sequence[Event], dtype: torch.dtype = torch.float64
) -> NDArray[np.float64]:
    """Probabilities after each of one user's events, `[events, horizons]`, in the order of arrival given.

    With the default dtype the result is exact to about 12 digits.
    """
    (scores,) = score_histories(bundle, [events], dtype)
    return scores


def score_histories(
    bundle: Bundle | Path | str, histories: Sequence[Sequence[Event]], dtype: torch.dtype = torch.float64
) -> list[NDArray[np.float64]]:
    """As `score_history`, for many users; the i-th result belongs to the i-th history.

    Raises `ValueError` if a history is empty, mixes users, or two histories are of the same user.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    owners = [{event.user_id for event in events} for events in histories]
    if any(len(owner) != 1 for owner in owners) or len(set().union(*owners)) != len(owners):
        raise ValueError("each history must hold the events of one user, and each user must have one history")
    sequences = build_sequences(
        (event for events in histories for event in events), loaded.vocabularies, calendar=loaded.calendar
    )
    scores = score_users(load_model(loaded, dtype), sequences)
    return np.split(scores, sequences.merged_starts[1:-1])


@torch.no_grad()
def score_users(model: RiskModel, sequences: Sequences) -> NDArray[np.float64]:
    """Probabilities after every event of every user, float64 `[N, horizons]`, in merged order."""
    counts = np.diff(sequences.merged_starts)
    scores = np.zeros((len(sequences.kinds), len(model.architecture.horizons_days)))
    dtype = model.fusion.hidden.weight.dtype
    model.eval()
    for users in by_length(counts, USERS_PER_PASS):
        batch = pad(sequences, users, counts[users], dtype=dtype)
        logits = model(batch.numeric, batch.categorical, batch.latest, batch.ages)
        scores[batch.rows] = cumulative(logits).double().numpy()
    return scores
