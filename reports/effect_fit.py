"""Fits the effect of each reason on the score to what a worker knows at an alert, and stores the fit in the bundle.

Runs offline. Workers only read the stored weights (`stream.alerts.effects`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.reasons import CATALOGUE
from events.types import KINDS
from model.bundle import Bundle, write_manifest
from stream.alerts.effects import FEATURES, METRIC, Fitted

PRIOR_ALERTS = 10.0
"""Weight of the ridge penalty: a code with fewer alerts than this stays close to the fit of its whole branch."""


@dataclass(frozen=True)
class Example:
    """One alert and one code that applied to it. `drop` is what the score lost, in log-odds, without the cause."""

    code: str
    contribution: float
    strength: float
    log_odds: float
    drop: float


def fit_effects(examples: Iterable[Example]) -> dict[str, list[float]]:
    """Weights per code: ridge regression of the drop on `FEATURES`, shrunk towards that of the code's whole branch.

    A code without examples gets its branch's weights; those of a branch without examples are left out.
    """
    by_code: dict[str, list[Example]] = {}
    for example in examples:
        by_code.setdefault(example.code, []).append(example)
    weights: dict[str, list[float]] = {}
    for kind in KINDS:
        codes = [code for code, entry in CATALOGUE.items() if entry.kind == kind and entry.strength != "-"]
        pooled = [example for code in codes for example in by_code.get(code, [])]
        if not pooled:
            continue
        of_branch = _ridge(pooled, np.zeros(len(FEATURES)))
        for code in codes:
            found = _ridge(by_code[code], of_branch) if code in by_code else of_branch
            weights[code] = [round(float(weight), 6) for weight in found]
    return weights


def store_effects(folder: Path, fitted: Fitted) -> None:
    """Write the estimates into a bundle's manifest. This changes its fingerprint, so earlier state no longer fits it.

    Raises `BundleError` as `Bundle.load` does.
    """
    manifest = Bundle.load(folder).manifest
    metrics = {**manifest.metrics, METRIC: msgspec.to_builtins(fitted)}
    write_manifest(folder, msgspec.structs.replace(manifest, metrics=metrics))


def _ridge(examples: Sequence[Example], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that minimise squared error plus `PRIOR_ALERTS` times their squared distance from `prior`."""
    inputs = np.array([(1.0, each.contribution, each.strength, each.log_odds) for each in examples])
    rest = np.array([each.drop for each in examples]) - inputs @ prior
    penalty = PRIOR_ALERTS * np.eye(len(FEATURES))
    return np.asarray(prior + np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ rest))
