"""Economy: the strain that all borrowers of a portfolio share, week by week. Independent of borrowers.

A strain of 0 is ordinary times. Shocks come at random, about one a year, and decay with a half-life of ten weeks;
`life` has the effect of a strain on a borrower.
"""

from __future__ import annotations

import numpy as np

from model.datasets.simulator.columns import Floats

SHOCKS_PER_WEEK = 1 / 52
_LASTS = 0.5 ** (1 / 10)
_LOG_SIZE, _LOG_SIZE_SPREAD = -0.1, 0.6


def next_strain(strain: Floats, draws: Floats, normals: Floats) -> Floats:
    """The strain `[n]` a week later, from uniform draws `[n]` and normal ones `[n]`."""
    size = np.exp(_LOG_SIZE + _LOG_SIZE_SPREAD * normals)
    return np.where(draws < SHOCKS_PER_WEEK, size, 0.0) + _LASTS * strain


def strain_path(rng: np.random.Generator, weeks: int) -> Floats:
    """The strain of each of so many weeks, `[weeks]`, from ordinary times on."""
    draws, normals = rng.random(weeks), rng.standard_normal(weeks)
    strain = np.zeros(1)
    path = np.zeros(weeks)
    for week in range(weeks):
        strain = next_strain(strain, draws[week : week + 1], normals[week : week + 1])
        path[week] = strain[0]
    return path
