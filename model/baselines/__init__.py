"""Challengers: models and rules that a lender would use without a sequence model, one file each.

Serving imports nothing of this; the libraries are in the `train` extra and imported when a challenger is made or
fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from model.comparison.candidate import Candidate


def _made_by(module: str, name: str, **options: Any) -> Callable[[], Candidate]:
    def make() -> Candidate:
        candidate: Candidate = getattr(import_module(f"model.baselines.{module}"), name)(**options)
        return candidate

    return make


CHALLENGERS: dict[str, Callable[[], Candidate]] = {
    "lightgbm": _made_by("boosting", "Boosting", balance="weights"),
    "lightgbm-smote": _made_by("boosting", "Boosting", balance="smote"),
    "logistic-regression": _made_by("logistic", "Logistic"),
    "mlp": _made_by("perceptron", "Perceptron"),
    "1d-cnn": _made_by("convolution", "Convolution"),
    "autoencoder": _made_by("autoencoder", "Autoencoder"),
    "3-sigma": _made_by("three_sigma", "ThreeSigma"),
    "30-days-past-due": _made_by("past_due_rule", "PastDueRule"),
    "pd-doubling": _made_by("pd_doubling", "PdDoubling"),
}
"""Every challenger by name: a constructor of an unfitted one, whose `name` is the key."""
