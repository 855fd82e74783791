"""Pictures of the SHAP values of boosted trees: a summary over many rows and a waterfall of one.

Lundberg and Lee (2017), "A Unified Approach to Interpreting Model Predictions". LightGBM computes the values itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.baselines.windows import Features

SUMMARY_FILE = "shap-summary.png"
WATERFALL_FILE = "shap-waterfall.png"
SHOWN_FEATURES = 20


def draw_attribution(booster: Any, features: Features, folder: Path, random: np.random.Generator, rows: int) -> None:
    """Write `SUMMARY_FILE` of at most `rows` random rows, and `WATERFALL_FILE` of the one with the highest score.

    Contributions are in log-odds before calibration.
    """
    import matplotlib
    import matplotlib.pyplot as plt
    import shap

    matplotlib.use("agg")  # files are written, no window is opened
    chosen = np.sort(random.choice(len(features.values), min(rows, len(features.values)), replace=False))
    values = features.values[chosen].astype(np.float64)
    contributions = np.asarray(booster.predict(values, pred_contrib=True, num_threads=1))
    explained = shap.Explanation(
        values=contributions[:, :-1],
        base_values=contributions[:, -1],
        data=values,
        feature_names=list(features.names),
    )
    highest = int(contributions.sum(axis=1).argmax())
    shap.plots.beeswarm(explained, max_display=SHOWN_FEATURES, show=False)
    plt.savefig(folder / SUMMARY_FILE, dpi=110, bbox_inches="tight")
    plt.close("all")
    shap.plots.waterfall(explained[highest], max_display=SHOWN_FEATURES, show=False)
    plt.savefig(folder / WATERFALL_FILE, dpi=110, bbox_inches="tight")
    plt.close("all")
