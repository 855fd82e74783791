"""What taking a reason's cause away would do to the score, estimated from what a worker has at hand. Pure.

A worker keeps no history, so at an alert it cannot try what the score would be without a cause. Offline it can be tried
(`reports.faithfulness`), and how far the effect follows from the branch's contribution, the strength of the fact and
the score is learnt per code, once per bundle, and kept in the bundle's manifest: the same bundle gives the same
reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from model.bundle import MANIFEST_FILE, Bundle, BundleError

METRIC = "reason_effects"
"""Under this name among the metrics of a bundle's manifest."""

FEATURES = ("constant", "branch_contribution", "strength", "log_odds")


class Fitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the manifest holds it: per code one weight for each of `features`, and what they were learnt from."""

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
