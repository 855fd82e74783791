"""SMOTE: synthetic defaults between real ones, made only of the rows that are passed in.

Chawla et al. (2002), "SMOTE: Synthetic Minority Over-sampling Technique", JAIR 16. Library versions refuse missing
values, and filling them in first would make synthetic rows recognisable; here a missing value stays missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5


@dataclass(frozen=True)
class Oversampled:
    """`values` float32 `[n, f]` and `happened` bool `[n]` as given; `synthetic` float32 `[s, f]`, all defaults.

    Synthetic row i lies between the given rows `base[i]` and `neighbour[i]`, int64 `[s]`.
    """

    values: NDArray[np.float32]
    happened: NDArray[np.bool_]
    synthetic: NDArray[np.float32]
    base: NDArray[np.int64]
    neighbour: NDArray[np.int64]

    def appended(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The given rows and then the synthetic ones, and their outcomes."""
        return (
            np.concatenate([self.values, self.synthetic]),
            np.concatenate([self.happened, np.ones(len(self.synthetic), dtype=np.bool_)]),
        )


def smote(
    values: NDArray[np.float32],
    happened: NDArray[np.bool_],
    categorical: list[int],
    ratio: float,
    random: np.random.Generator,
) -> Oversampled:
    """Synthetic defaults until there are `ratio` times as many defaults as other rows.

    Each lies at a random point between a default and one of its `NEIGHBOURS` nearest defaults, by the distance of
    standardised quantities (missing as the mean). Where either value is missing, and in the columns `categorical`, it
    has the base row's value. No synthetic rows with fewer than two defaults, or with enough of them.
    """
    from sklearn.neighbors import NearestNeighbors

    defaulted = np.flatnonzero(happened)
    wanted = round(ratio * (len(happened) - len(defaulted))) - len(defaulted)
    nobody = np.zeros(0, dtype=np.int64)
    if len(defaulted) < 2 or wanted <= 0:
        return Oversampled(values, happened, values[:0], nobody, nobody)
    near = min(NEIGHBOURS, len(defaulted) - 1)
    found = NearestNeighbors(n_neighbors=near).fit(_standardised(values[defaulted], categorical))
    neighbours = found.kneighbors(return_distance=False)  # without a query, a row is not its own neighbour
    base = random.integers(0, len(defaulted), wanted)
    neighbour = neighbours[base, random.integers(0, near, wanted)]
    share = random.random((wanted, 1), dtype=np.float32)
    first, second = values[defaulted[base]], values[defaulted[neighbour]]
    synthetic = first + share * (second - first)
    kept = np.isnan(synthetic)
    kept[:, categorical] = True
    synthetic[kept] = first[kept]
    return Oversampled(values, happened, synthetic, defaulted[base], defaulted[neighbour])


def _standardised(values: NDArray[np.float32], categorical: list[int]) -> NDArray[np.float32]:
    quantities = np.delete(values, categorical, axis=1).astype(np.float64)
    known = ~np.isnan(quantities)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, quantities, 0.0).sum(axis=0) / count
    centred = np.where(known, quantities - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    return (centred / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)
