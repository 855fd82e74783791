"""Which network a bundle holds: its family, its sizes, and the families that can be trained by name.

Plain values that are written into the manifest. Needs no torch; `model.networks.encoders` builds the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from events.types import KINDS, Kind

Family: TypeAlias = Literal[
    "lstm-attention",
    "gru-attention",
    "causal-transformer",
    "repayment-lstm",
    "three-branch",
    "hybrid",
    "time-decay",
    "boosted-readout",
]
"""Names of the families, as `--architecture` takes them."""

DEFAULT: Family = "lstm-attention"
FIRST_FAMILY = "lstm-attention-hazard"
"""Name of the default family in manifests of the time when it was the only one."""
ENCODERS = frozenset({"lstm-attention", "lstm", "gru-attention", "transformer", "time-decay", "profile", "ignored"})

LATER_FIELDS = frozenset({"wide", "readout_dropout", "boosted", "tallies", "trees"})
"""Fields of `Architecture` that older bundles lack."""


@dataclass(frozen=True)
class Architecture:
    """Family and sizes of the network.

    `encoders` names the encoder of each kind, in the order of `KINDS`; "ignored" makes a kind no input. `layers` and
    `hidden` are of the kinds that have a sequence. `window` (events) and `heads` are read by transformers alone.

    `wide` adds straight lines from the fusion's inputs to the hazard logits, beside the hidden layer. `readout_dropout`
    is the share of readouts that a training step hides from the fusion; `dropout` is of its hidden layer.

    `boosted`: trees are fitted beside the network once it is trained. What was fitted is described by the numbers of
    each kind's tally (`model.networks.tallies`), in the order of `KINDS`, and by how many `trees` there are, of how
    many nodes and how deep. Without tallies there are none yet.
    """

    family: str = DEFAULT
    encoders: tuple[str, str, str, str] = ("lstm-attention", "lstm-attention", "lstm-attention", "profile")
    layers: tuple[int, int, int] = (1, 1, 1)
    hidden: tuple[int, int, int] = (64, 64, 32)
    window: int = 32
    heads: int = 4
    profile_hidden: int = 64
    profile_embedding: int = 32
    fusion: int = 128
    dropout: float = 0.3
    horizons_days: tuple[int, ...] = (30, 60, 90, 180)
    wide: bool = False
    readout_dropout: float = 0.0
    boosted: bool = False
    tallies: tuple[tuple[str, ...], ...] = ()
    trees: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.encoders) - ENCODERS)
        if unknown:
            raise ValueError(f"architecture {self.family}: no encoder is named {unknown}; there are {sorted(ENCODERS)}")

    def encoder(self, kind: Kind) -> str:
        """Name of a kind's encoder."""
        return self.encoders[KINDS.index(kind)]

    def of_kind(self, kind: Kind) -> tuple[int, int]:
        """Layers and hidden width of a kind that has a sequence."""
        position = KINDS.index(kind)
        return self.layers[position], self.hidden[position]

    def network_alone(self) -> Architecture:
        """The same without the trees, as it is trained first."""
        plain = Architecture()
        return replace(self, tallies=plain.tallies, trees=plain.trees)

    def as_manifest(self) -> dict[str, Any]:
        """Plain values for `manifest.json`; of `LATER_FIELDS` only those that are not the default, so that the
        description of older networks stays the same."""
        usual = {field.name: field.default for field in fields(self) if field.name in LATER_FIELDS}
        return {key: _as_list(value) for key, value in asdict(self).items() if key not in usual or value != usual[key]}

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of `as_manifest`. Raises `ValueError` for a network that this version cannot build."""
        known: dict[str, Any] = {key: _as_tuple(value) for key, value in values.items()}
        if known["family"] == FIRST_FAMILY:
            known["family"] = DEFAULT
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"the manifest's architecture has a field that is not known ({error})") from None


def _as_list(value: Any) -> Any:
    return [_as_list(each) for each in value] if isinstance(value, tuple) else value


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(each) for each in value) if isinstance(value, list) else value


ARCHITECTURES: dict[str, Architecture] = {
    architecture.family: architecture
    for architecture in (
        Architecture(),
        Architecture(family="gru-attention", encoders=("gru-attention", "gru-attention", "gru-attention", "profile")),
        Architecture(
            family="causal-transformer",
            encoders=("transformer", "transformer", "transformer", "profile"),
            layers=(2, 2, 2),
            hidden=(64, 64, 64),
        ),
        Architecture(family="repayment-lstm", encoders=("lstm", "ignored", "ignored", "ignored"), layers=(2, 2, 1)),
        Architecture(family="three-branch", encoders=("lstm-attention", "lstm-attention", "lstm-attention", "ignored")),
        Architecture(family="hybrid", encoders=("lstm-attention", "ignored", "ignored", "profile")),
        Architecture(
            family="time-decay",
            encoders=("time-decay", "time-decay", "time-decay", "profile"),
            layers=(2, 2, 1),
        ),
        Architecture(family="boosted-readout", boosted=True),
    )
}
"""The families of `foreshock train --architecture`, by name."""
