"""Targets are taken from the candidates that they name."""

from __future__ import annotations

import numpy as np
import pytest

from model.comparison.figures import Figures
from model.comparison.targets import Standing, judge_targets


def _figures(auc: float) -> Figures:
    return Figures(row={"us_per_event": 1.0}, horizons={}, segments={}, budgets={}, draws={"auc": np.full(4, auc)})


def test_two_lines_tell_the_latent_truth_from_what_events_tell() -> None:
    found = {"lstm-attention": _figures(0.80), "oracle": _figures(0.90), "attainable": _figures(0.81)}
    standing = Standing({name: _with_the_rest(each) for name, each in found.items()}, "lstm-attention")
    targets = {target["target"]: target for target in judge_targets("simulator", standing)}
    oracle = targets["share of the attainable, (AUC - 0.5) / (oracle's AUC - 0.5)"]
    told = targets["share of what events can tell, (AUC - 0.5) / (AUC of `attainable` - 0.5)"]
    assert oracle["value"] == pytest.approx(0.75)
    assert told["value"] == pytest.approx(0.30 / 0.31, abs=1e-5)
    assert (oracle["met"], told["met"]) == (False, True)
    assert oracle["needed"] == told["needed"] == 0.95
    assert (oracle["of"], told["of"]) == (["lstm-attention", "oracle"], ["lstm-attention", "attainable"])


def _with_the_rest(figures: Figures) -> Figures:
    for name in ("ece", "median_lead_days"):
        figures.draws[name] = np.zeros(4)
    return figures
