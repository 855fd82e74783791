"""Window features as dense, standardised inputs for models that cannot take missing values or categories.

Means, deviations and categories come from training rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.columns import MISSING_CODE, UNSEEN_CODE
from model.baselines.windows import Features

LARGEST = 5.0
"""Standard deviations beyond which a quantity is cut off."""
LEAST_MISSING = 0.001
"""Share of missing values from which on a quantity gets a flag for being missing."""


@dataclass(frozen=True)
class Dense:
    """From window features to inputs: signed logarithms of quantities, standardised and cut, 0 where missing; then
    flags of the missing; then one column per category that training showed, one for the missing, one for all others.
    """

    quantities: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    flagged: NDArray[np.int64]
    codes: dict[int, NDArray[np.int64]]

    @classmethod
    def of(cls, features: Features) -> Dense:
        """Learn means, deviations and categories from training rows."""
        names = len(features.names)
        quantities = np.setdiff1d(np.arange(names), features.categorical)
        mean, deviation, missing = np.zeros(len(quantities)), np.ones(len(quantities)), np.zeros(len(quantities))
        for position, column in enumerate(quantities):
            values = _logarithm(features.values[:, column])
            known = values[~np.isnan(values)]
            missing[position] = 1 - len(known) / max(len(values), 1)
            if len(known):
                mean[position], deviation[position] = known.mean(), known.std() or 1.0
        flagged = quantities[missing >= LEAST_MISSING]
        codes = {}
        for column in features.categorical:
            seen = np.unique(_codes(features.values[:, column]))
            codes[column] = seen[seen != UNSEEN_CODE]
        return cls(quantities, mean, deviation, flagged, codes)

    @property
    def width(self) -> int:
        """Number of inputs."""
        return len(self.quantities) + len(self.flagged) + sum(len(seen) + 1 for seen in self.codes.values())

    def inputs(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of rows of window features, float32 `[rows, width]`."""
        inputs = np.zeros((len(values), self.width), dtype=np.float32)
        for position, column in enumerate(self.quantities):
            standard = (_logarithm(values[:, column]) - self.mean[position]) / self.deviation[position]
            inputs[:, position] = np.clip(np.nan_to_num(standard), -LARGEST, LARGEST)
        begin = len(self.quantities)
        inputs[:, begin : begin + len(self.flagged)] = np.isnan(values[:, self.flagged])
        begin += len(self.flagged)
        for column, seen in self.codes.items():
            found = _codes(values[:, column])
            place = np.searchsorted(seen, found)
            known = (place < len(seen)) & (seen[np.minimum(place, len(seen) - 1)] == found)
            inputs[np.arange(len(values)), begin + np.where(known, place, len(seen))] = 1.0
            begin += len(seen) + 1
        return inputs


def _logarithm(values: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    logarithm: NDArray[np.float64] = np.sign(wide) * np.log1p(np.abs(wide))
    return logarithm


def _codes(values: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.nan_to_num(values, nan=MISSING_CODE).astype(np.int64)
