"""How raw inputs are read: choices made before training that become part of the exported graphs. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

WINSOR_TAIL = 0.0005

Missing: TypeAlias = Literal["flag", "zero"]
Alignment: TypeAlias = Literal["time", "order"]


@dataclass(frozen=True)
class InputRules:
    """How raw inputs are read. They become part of the exported graphs, so serving follows them.

    `winsor_tail` is the share of known values clipped at either end (0 clips at the extremes of the training part).
    `missing`: "flag" shows a missing value as nothing beside a flag that it is missing, "zero" as if it were 0.
    `alignment`: "time" shows how long after the user's previous event of its kind an event came, "order" hides it, so
    that events stand in their order alone.
    """

    winsor_tail: float = WINSOR_TAIL
    missing: Missing = "flag"
    alignment: Alignment = "time"

    def __post_init__(self) -> None:
        if not 0 <= self.winsor_tail < 0.5:
            raise ValueError(f"winsor_tail is {self.winsor_tail}; take a share of at least 0 and below 0.5")
        if self.missing not in get_args(Missing) or self.alignment not in get_args(Alignment):
            raise ValueError(
                f"missing is {self.missing!r} and alignment {self.alignment!r}; "
                f"choose from {get_args(Missing)} and {get_args(Alignment)}"
            )
