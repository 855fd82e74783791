"""Gradient boosted trees on window features: LightGBM, its settings searched by Optuna on the validation part.

Two ways with rare onsets: class weights, or SMOTE on training rows (`model.baselines.oversampling`).
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.baselines.attribution import draw_attribution
from model.baselines.challenger import Lesson, Platt, Tabular
from model.baselines.oversampling import smote
from model.baselines.timeline import Floats
from model.metrics import roc_auc

Balance: TypeAlias = Literal["weights", "smote"]
TRIALS = 20
MOST_ROUNDS = 600
PATIENCE_ROUNDS = 40
SEARCH_ROWS = 60_000
"""Training rows that a trial of the search fits; the settings found are then fitted to all of them."""
PICTURE_ROWS = 500
_FIXED: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "bagging_freq": 1,
}


class Boosting(Tabular):
    """LightGBM. Writes `settings.json` and the pictures of `attribution` into its folder."""

    def __init__(
        self, balance: Balance = "weights", trials: int = TRIALS, rounds: int = MOST_ROUNDS, pictures: bool = True
    ) -> None:
        super().__init__()
        self.name = "lightgbm" if balance == "weights" else "lightgbm-smote"
        self._balance = balance
        self._trials = trials
        self._rounds = rounds
        self._pictures = pictures

    def _learn(self, lesson: Lesson) -> None:
        settings, searched = self._search(lesson)
        random = np.random.default_rng(lesson.seed)
        self._booster = self._boost(lesson, np.arange(len(lesson.happened)), settings, random)
        self._platt = Platt.fit(self._logits(lesson.validation.values), lesson.validation_happened)
        record = {
            "settings": settings,
            "validation_auc_of_trials": searched,
            "rounds": self._booster.best_iteration,
            "features": list(lesson.train.names),
        }
        (lesson.folder / "settings.json").write_text(json.dumps(record, indent=1) + "\n")
        if self._pictures:
            draw_attribution(self._booster, lesson.validation, lesson.folder, random, PICTURE_ROWS)

    def _logits(self, values: NDArray[np.float32]) -> Floats:
        raw: Floats = self._booster.predict(values, raw_score=True, num_threads=1)
        return raw

    def _search(self, lesson: Lesson) -> tuple[dict[str, Any], list[float]]:
        """The best of a bounded, seeded search by validation AUC, and every trial's AUC."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        rows = np.arange(len(lesson.happened))
        if len(rows) > SEARCH_ROWS:
            rows = np.sort(np.random.default_rng(lesson.seed).choice(rows, SEARCH_ROWS, replace=False))
        task = lesson.progress.add_task(f"{self.name}: search", total=self._trials)

        def objective(trial: optuna.Trial) -> float:
            settings = self._suggested(trial)
            booster = self._boost(lesson, rows, settings, np.random.default_rng(lesson.seed))
            lesson.progress.advance(task)
            logits = booster.predict(lesson.validation.values, raw_score=True, num_threads=1)
            return roc_auc(lesson.validation_happened, logits) or 0.5

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=lesson.seed))
        study.optimize(objective, n_trials=self._trials)
        return dict(study.best_params), [round(float(trial.value or 0.5), 5) for trial in study.trials]

    def _suggested(self, trial: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 10, 500, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
        }
        if self._balance == "weights":
            # 0 weighs all rows alike, 1 gives both classes the same total weight.
            settings["balance"] = trial.suggest_float("balance", 0.0, 1.0)
        else:
            settings["smote_ratio"] = trial.suggest_float("smote_ratio", 0.1, 1.0)
        return settings

    def _boost(
        self, lesson: Lesson, rows: NDArray[np.int64], settings: dict[str, Any], random: np.random.Generator
    ) -> Any:
        """Trees on `rows` of the training part, as many as lower the validation part's loss.

        The loss is steadier than the AUC of a small part: by AUC, Taiwan stopped after 7 rounds. Validation onsets get
        the weight that makes them as frequent as balancing made training onsets; else the loss would punish it.
        """
        import lightgbm

        values, happened = lesson.train.values, lesson.happened
        if len(rows) < len(happened):
            values, happened = values[rows], happened[rows]
        params = {**_FIXED, **settings, "seed": lesson.seed % 2**31}
        odds = max(int(happened.sum()), 1) / max(int((~happened).sum()), 1)
        if self._balance == "weights":
            shift = odds ** -params.pop("balance")
        else:
            ratio = params.pop("smote_ratio")
            values, happened = smote(values, happened, lesson.train.categorical, ratio, random).appended()
            shift = float(happened.sum() / max(int((~happened).sum()), 1)) / odds
        weight = np.where(happened, shift, 1.0) if self._balance == "weights" else None
        train = lightgbm.Dataset(
            values, happened.astype(np.float32), weight=weight, categorical_feature=lesson.train.categorical
        )
        judged = lesson.validation_happened
        validation = lightgbm.Dataset(
            lesson.validation.values, judged.astype(np.float32), weight=np.where(judged, shift, 1.0), reference=train
        )
        stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
        return lightgbm.train(params, train, self._rounds, valid_sets=[validation], callbacks=[stop])
