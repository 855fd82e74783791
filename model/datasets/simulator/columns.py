"""Columns: arrays of borrowers, and of their contracts, of which rows can be chosen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

CONTRACTS = 4
"""Places for contracts of a borrower, in the order in which the borrower would rather pay them."""


@dataclass(frozen=True)
class Columns:
    """Arrays `[n]`, a column per borrower, and arrays `[CONTRACTS, n]`, a row per place of a contract, so that values
    of borrowers and of contracts go together in arithmetic."""

    def take(self, rows: Ints) -> Self:
        """The same for a selection of borrowers, copied; one may be named more than once."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(
            **{
                name: value.take(rows) if isinstance(value, Columns) else value[..., rows]
                for name, value in values.items()
            }
        )
