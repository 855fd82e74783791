"""Estimates how much lower a score would be without a reason's cause. Pure.

A worker keeps no history, so it cannot score the counterfactual of a reason. `reports.effect_fit` fits, per code, how
the effect depends on the branch's contribution, the strength of the fact and the score, from counterfactuals scored
offline. The weights are kept in the bundle's manifest, so the same bundle gives the same reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from model.bundle import MANIFEST_FILE, Bundle, BundleError

METRIC = "reason_effects"
"""Name of the estimates among the metrics of a bundle's manifest."""

FEATURES = ("constant", "branch_contribution", "strength", "log_odds")


class Fitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The estimates in the manifest: per code one weight for each of `features`, and the alerts they were fitted to."""

    features: list[str]
    weights: dict[str, list[float]]
    alerts: int
    source: str


class Effects:
    """Estimates of one bundle."""

    def __init__(self, weights: Mapping[str, Sequence[float]]) -> None:
        self._weights = {code: tuple(map(float, numbers)) for code, numbers in weights.items()}

    @classmethod
    def of(cls, bundle: Bundle) -> Effects:
        """The estimates in the bundle's manifest; for a bundle without any, every estimate is None.

        Raises `BundleError` when they are of another version.
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
        """Log-odds that the score would lose without the cause; None for a code without weights.

        `contribution` is that of the code's branch, `strength` that of its fact, `log_odds` that of the score.
        """
        weights = self._weights.get(code)
        if weights is None:
            return None
        constant, of_contribution, of_strength, of_score = weights
        return constant + of_contribution * contribution + of_strength * strength + of_score * log_odds
