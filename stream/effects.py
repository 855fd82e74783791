"""What taking a reason's cause away would do to the score, estimated from what a worker has at hand. Pure but for
`store_effects`, which is not for workers.

A worker keeps no history, so at an alert it cannot try what the score would be without a cause. Offline it can be tried
(`stream.faithfulness`), and how far the effect follows from the branch's contribution, the strength of the fact and the
score is learnt per code, once per bundle, and kept in the bundle's manifest: the same bundle gives the same reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.reasons import CATALOGUE
from events.types import KINDS
from model.bundle import MANIFEST_FILE, Bundle, BundleError, manifest_bytes

METRIC = "reason_effects"
"""Under this name among the metrics of a bundle's manifest."""

FEATURES = ("constant", "branch_contribution", "strength", "log_odds")
PRIOR_ALERTS = 10.0
"""Weight of the ridge penalties: a code seen in so few alerts stays close to what holds of its whole branch."""


class Fitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the manifest holds it: per code one weight for each of `features`, and what they were learnt from."""

    features: list[str]
    weights: dict[str, list[float]]
    alerts: int
    source: str


@dataclass(frozen=True)
class Example:
    """One alert and one code that applied to it. `drop` is what the score lost, in log-odds, without the cause."""

    code: str
    contribution: float
    strength: float
    log_odds: float
    drop: float


class Effects:
    """Estimates of one bundle."""

    def __init__(self, weights: Mapping[str, Sequence[float]]) -> None:
        self._weights = {code: tuple(map(float, numbers)) for code, numbers in weights.items()}

    @classmethod
    def of(cls, bundle: Bundle) -> Effects:
        """Those in the bundle's manifest; of a bundle without any, an estimate is None.

        Raises `BundleError` when they are not of this version.
        """
        content = bundle.manifest.metrics.get(METRIC)
        if content is None:
            return cls({})
        where = f"{bundle.path / MANIFEST_FILE}: metrics.{METRIC}"
        retry = f"run `foreshock reasons calibrate --bundle {bundle.path}`"
        try:
            fitted = msgspec.convert(content, Fitted)
        except msgspec.ValidationError as error:
            raise BundleError(f"{where} is not valid ({error}); {retry}") from None
        if fitted.features != list(FEATURES) or any(len(each) != len(FEATURES) for each in fitted.weights.values()):
            raise BundleError(f"{where} is over {fitted.features}, expected {list(FEATURES)}; {retry}")
        return cls(fitted.weights)

    def estimate(self, code: str, contribution: float, strength: float, log_odds: float) -> float | None:
        """Log-odds that the score would lose without the cause; None for a code that nothing was learnt about.

        `contribution` is that of the code's branch, `strength` that of its fact, `log_odds` that of the score.
        """
        weights = self._weights.get(code)
        if weights is None:
            return None
        constant, of_contribution, of_strength, of_score = weights
        return constant + of_contribution * contribution + of_strength * strength + of_score * log_odds


def fit_effects(examples: Iterable[Example]) -> dict[str, list[float]]:
    """Weights per code: ridge regression of the drop on `FEATURES`, drawn towards that of the code's whole branch.

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
    """Write the estimates into a bundle's manifest. Its fingerprint changes: state of before belongs to another model.

    Raises `BundleError` as `Bundle.load` does.
    """
    manifest = Bundle.load(folder).manifest
    metrics = {**manifest.metrics, METRIC: msgspec.to_builtins(fitted)}
    draft = folder / f"{MANIFEST_FILE}.new"
    draft.write_bytes(manifest_bytes(msgspec.structs.replace(manifest, metrics=metrics)))
    draft.replace(folder / MANIFEST_FILE)


def _ridge(examples: Sequence[Example], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that minimise squared error plus `PRIOR_ALERTS` times their squared distance from `prior`."""
    inputs = np.array([(1.0, each.contribution, each.strength, each.log_odds) for each in examples])
    rest = np.array([each.drop for each in examples]) - inputs @ prior
    penalty = PRIOR_ALERTS * np.eye(len(FEATURES))
    return np.asarray(prior + np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ rest))
