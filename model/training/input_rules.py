"""How raw inputs are treated: choices made before training that become part of the exported graphs. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from events.columns import COLUMNS, PROTECTED_FIELDS
from events.types import KINDS, Kind

WINSOR_TAIL = 0.0005

Missing: TypeAlias = Literal["flag", "zero"]
Alignment: TypeAlias = Literal["time", "order"]


@dataclass(frozen=True)
class InputRules:
    """How raw inputs are treated, in training and, through the exported graphs, in serving.

    `winsor_tail` is the share of known values clipped at either end (0 clips at the extremes of the training part).
    `missing`: "flag" gives 0 and a flag that the value is missing, "zero" a known 0. `alignment`: "time" gives the time
    since the user's previous event of the same kind, "order" leaves it out, so that only the order of events counts.
    `leave_out` names profile fields that are no input, for instance proxies of protected ones.
    """

    winsor_tail: float = WINSOR_TAIL
    missing: Missing = "flag"
    alignment: Alignment = "time"
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.winsor_tail < 0.5:
            raise ValueError(f"winsor_tail is {self.winsor_tail}; take a share of at least 0 and below 0.5")
        if self.missing not in get_args(Missing) or self.alignment not in get_args(Alignment):
            raise ValueError(
                f"missing is {self.missing!r} and alignment {self.alignment!r}; "
                f"choose from {get_args(Missing)} and {get_args(Alignment)}"
            )
        columns = COLUMNS["profiles"]
        known = {*columns.numeric, *columns.categorical} - PROTECTED_FIELDS
        unknown = sorted(set(self.leave_out) - known)
        if unknown:
            raise ValueError(
                f"leave_out: {', '.join(unknown)} can not be left out; choose from {', '.join(sorted(known))}"
            )

    def numeric_inputs(self) -> dict[Kind, tuple[str, ...]]:
        """The numeric inputs of each kind that a model takes."""
        return {
            kind: tuple(
                name for name in COLUMNS[kind].numeric_inputs if kind != "profiles" or name not in self.leave_out
            )
            for kind in KINDS
        }
