"""Targets for the figures of a source, and whether they are met. They were set before the figures were known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.comparison.ensemble import NAME as ENSEMBLE
from model.comparison.figures import DIGITS, Draws, Figures
from model.comparison.resampling import interval

LIGHTGBM = "lightgbm"
RULE = "30-days-past-due"
ORACLE = "oracle"
"""The simulator's true hazard, from its latent state, which no event shows."""
ATTAINABLE = "attainable"
"""The simulator's hazard given the events."""
DEFAULT = "lstm-attention"
COST_FACTOR = 1.5

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """The figures that targets are about: of each candidate by name; `best` is the best served model by validation."""

    figures: Mapping[str, Figures]
    best: str

    def draws(self, name: str) -> Draws:
        return self.figures[name].draws

    @property
    def names(self) -> Mapping[str, str]:
        """The candidates that the words of a target refer to."""
        return {
            "best": self.best,
            "lightgbm": LIGHTGBM,
            "rule": RULE,
            "oracle": ORACLE,
            "attainable": ATTAINABLE,
            "ensemble": ENSEMBLE,
        }


@dataclass(frozen=True)
class Target:
    """`figure` is computed from the draws of the candidates that it `needs` (keys of `Standing.names`); `inflated` as
    `resampling.interval` takes it."""

    text: str
    bound: float
    needs: tuple[str, ...]
    figure: Callable[..., Values]
    at_most: bool = False
    inflated: bool = False

    def judge(self, standing: Standing) -> dict[str, Any]:
        """The target with the figure, its interval, and whether it is met; None where a candidate is absent."""
        names = [standing.names[need] for need in self.needs]
        result: dict[str, Any] = {"target": self.text, "needed": self.bound, "at_most": self.at_most, "of": names}
        if any(name not in standing.figures for name in names):
            return {**result, "value": None, "low": None, "high": None, "met": None}
        found = interval(self.figure(*(standing.draws(name) for name in names)), biased_upwards=self.inflated)
        return {
            **result,
            "value": _rounded(found.point),
            "low": _rounded(found.low),
            "high": _rounded(found.high),
            "met": None
            if found.point is None
            else bool((found.point <= self.bound) if self.at_most else found.point >= self.bound),
        }


def _of(name: str) -> Callable[[Draws], Values]:
    return lambda draws: draws[name]


def _gain(name: str) -> Callable[[Draws, Draws], Values]:
    return lambda one, other: one[name] - other[name]


def _ratio(name: str) -> Callable[[Draws, Draws], Values]:
    def ratio(one: Draws, other: Draws) -> Values:
        return np.divide(one[name], other[name], out=np.full_like(one[name], np.nan), where=other[name] > 0)

    return ratio


def _attained(one: Draws, most: Draws) -> Values:
    return (one["auc"] - 0.5) / (most["auc"] - 0.5)


TARGETS: Mapping[str, tuple[Target, ...]] = {
    "simulator": (
        Target("AUC above LightGBM's", 0.02, ("best", "lightgbm"), _gain("auc")),
        Target("share of the attainable, (AUC - 0.5) / (oracle's AUC - 0.5)", 0.95, ("best", "oracle"), _attained),
        Target(
            "share of what events can tell, (AUC - 0.5) / (AUC of `attainable` - 0.5)",
            0.95,
            ("best", "attainable"),
            _attained,
        ),
        Target("median lead, times the 30-DPD rule's", 2.0, ("best", "rule"), _ratio("median_lead_days")),
        Target("median lead, times LightGBM's", 1.25, ("best", "lightgbm"), _ratio("median_lead_days")),
        Target("calibration error", 0.01, ("best",), _of("ece"), at_most=True, inflated=True),
    ),
    "taiwan": (
        Target("AUC", 0.785, ("best",), _of("auc")),
        Target("AUC of the ensemble", 0.788, ("ensemble",), _of("auc")),
        Target("calibration error", 0.02, ("best",), _of("ece"), at_most=True, inflated=True),
    ),
    "auto-loans": (
        Target("AUC above LightGBM's", 0.01, ("best", "lightgbm"), _gain("auc")),
        Target("calibration error", 0.02, ("best",), _of("ece"), at_most=True, inflated=True),
    ),
    "berka": (Target("calibration error", 0.02, ("best",), _of("ece"), at_most=True, inflated=True),),
}
"""By source. "Best" is the served model with the highest validation AUC."""


def judge_targets(source: str, standing: Standing) -> list[dict[str, Any]]:
    """Every target of a source, and for all sources what the best served model costs beside the default one."""
    return [*(target.judge(standing) for target in TARGETS.get(source, ())), _cost(standing)]


def _cost(standing: Standing) -> dict[str, Any]:
    costs = [
        standing.figures[name].row["us_per_event"] if name in standing.figures else None
        for name in (standing.best, DEFAULT)
    ]
    ratio = None if costs[0] is None or not costs[1] else round(costs[0] / costs[1], 3)
    return {
        "target": "microseconds per event, times the default model's",
        "needed": COST_FACTOR,
        "at_most": True,
        "of": [standing.best, DEFAULT],
        "value": ratio,
        "low": None,
        "high": None,
        "met": None if ratio is None else ratio <= COST_FACTOR,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
