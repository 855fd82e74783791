"""Encoders of one kind of event, each in its own file, and which name in an `Architecture` builds which."""

from __future__ import annotations

from collections.abc import Sequence

from events.types import Kind
from model.architectures import Architecture
from model.networks.encoders.encoder import Encoder, Step
from model.networks.encoders.gru import GruEncoder
from model.networks.encoders.ignored import IgnoredEncoder
from model.networks.encoders.lstm import LstmEncoder
from model.networks.encoders.profile import ProfileEncoder
from model.networks.encoders.time_decay import TimeDecayEncoder
from model.networks.encoders.transformer import TransformerEncoder

__all__ = ["Encoder", "Step", "build_encoder"]


def build_encoder(
    architecture: Architecture, kind: Kind, vocabulary_sizes: list[int], names: Sequence[str] | None = None
) -> Encoder:
    """A fresh encoder of a kind, with the numeric inputs `names` (default: all of `events.columns`).

    Raises `ValueError` for an encoder that the kind cannot have.
    """
    name = architecture.encoder(kind)
    if name == "ignored":
        return IgnoredEncoder()
    if (name == "profile") != (kind == "profiles"):
        raise ValueError(f"{kind} cannot have the encoder {name}: profiles have no sequence, the other kinds have one")
    if name == "profile":
        return ProfileEncoder(vocabulary_sizes, names, architecture.profile_hidden, architecture.profile_embedding)
    layers, hidden = architecture.of_kind(kind)
    if name == "transformer":
        return TransformerEncoder(
            kind, vocabulary_sizes, names, layers, hidden, architecture.heads, architecture.window
        )
    if name == "gru-attention":
        return GruEncoder(kind, vocabulary_sizes, names, layers, hidden)
    if name == "time-decay":
        return TimeDecayEncoder(kind, vocabulary_sizes, names, layers, hidden)
    return LstmEncoder(kind, vocabulary_sizes, names, layers, hidden, attends=name == "lstm-attention")
