"""Gradient boosted trees on window features: LightGBM, its settings searched by Optuna on the validation part.

Rare defaults are balanced by class weights, or by SMOTE on training rows (`model.baselines.oversampling`).
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.baselines.attribution import draw_attribution
from model.baselines.challenger import Lesson, Platt, Tabular
from model.baselines.oversampling import smote
from model.baselines.timeline import Flags, Floats
from model.statistics.metrics import roc_auc

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
        fitted, judged = apart(lesson)
        settings, rounds, searched = self._search(lesson, fitted, judged)
        # Calibrated, as the settings were chosen, on users that the trees were not fitted to.
        logits = self._logits(lesson.validation.values[judged])
        self._platt = Platt.fit(logits, lesson.validation_happened[judged])
        random = np.random.default_rng(lesson.seed)
        self._booster = self._boost(lesson, np.ones_like(lesson.happened), judged, settings, random, rounds)
        record = {
            "settings": settings,
            "validation_auc_of_trials": searched,
            "rounds": rounds,
            "features": list(lesson.train.names),
        }
        (lesson.folder / "settings.json").write_text(json.dumps(record, indent=1) + "\n")
        if self._pictures:
            draw_attribution(self._booster, lesson.validation, lesson.folder, random, PICTURE_ROWS)

    def _logits(self, values: NDArray[np.float32]) -> Floats:
        raw: Floats = self._booster.predict(values, raw_score=True, num_threads=1)
        return raw

    def _search(self, lesson: Lesson, fitted: Flags, judged: Flags) -> tuple[dict[str, Any], int, list[float]]:
        """The best settings and rounds of a bounded, seeded search by validation AUC, and every trial's AUC; leaves the
        best trial's trees in `_booster`."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        rows = np.flatnonzero(fitted)
        if len(rows) > SEARCH_ROWS:
            rows = np.random.default_rng(lesson.seed).choice(rows, SEARCH_ROWS, replace=False)
        tried = np.zeros_like(fitted)
        tried[rows] = True
        task = lesson.progress.add_task(f"{self.name}: search", total=self._trials)
        best = -np.inf

        def objective(trial: optuna.Trial) -> float:
            nonlocal best
            settings = self._suggested(trial)
            booster = self._boost(lesson, tried, judged, settings, np.random.default_rng(lesson.seed))
            lesson.progress.advance(task)
            logits = booster.predict(lesson.validation.values[judged], raw_score=True, num_threads=1)
            found = roc_auc(lesson.validation_happened[judged], logits) or 0.5
            trial.set_user_attr("rounds", max(booster.best_iteration, 1))
            if found > best:
                best, self._booster = found, booster
            return found

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=lesson.seed))
        study.optimize(objective, n_trials=self._trials)
        values = [round(float(trial.value or 0.5), 5) for trial in study.trials]
        return dict(study.best_params), int(study.best_trial.user_attrs["rounds"]), values

    def _suggested(self, trial: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
            # A leaf of a few rows can be one user, identified by exact income and limit: so a least number of rows.
            "leaf_users": trial.suggest_int("leaf_users", 5, 300, log=True),
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
        self,
        lesson: Lesson,
        fitted: Flags,
        judged: Flags,
        settings: dict[str, Any],
        random: np.random.Generator,
        rounds: int | None = None,
    ) -> Any:
        """Trees on the `fitted` rows of the training part: `rounds` of them, or as many as lower the loss of the
        `judged` rows of the validation part.

        The loss varies less than the AUC of a small part, by which training on Taiwan stopped after 7 rounds.
        Validation defaults get the weight that makes them as frequent as in the balanced training rows, so that the
        losses are comparable.
        """
        import lightgbm

        values, happened = lesson.train.values, lesson.happened
        if not fitted.all():
            values, happened = values[fitted], happened[fitted]
        params = {**_FIXED, **settings, "seed": lesson.seed % 2**31}
        rows_per_user = max(len(happened) // len(np.unique(lesson.users[fitted])), 1)
        params["min_child_samples"] = params.pop("leaf_users") * rows_per_user
        odds = max(int(happened.sum()), 1) / max(int((~happened).sum()), 1)
        weight = None
        if self._balance == "weights":
            shift = odds ** -params.pop("balance")
            weight = np.where(happened, shift, 1.0)
        else:
            ratio = params.pop("smote_ratio")
            values, happened = smote(values, happened, lesson.train.categorical, ratio, random).appended()
            shift = float(happened.sum() / max(int((~happened).sum()), 1)) / odds
        train = lightgbm.Dataset(
            values, happened.astype(np.float32), weight=weight, categorical_feature=lesson.train.categorical
        )
        if rounds is not None:
            return lightgbm.train(params, train, rounds)
        came = lesson.validation_happened[judged]
        validation = lightgbm.Dataset(
            lesson.validation.values[judged],
            came.astype(np.float32),
            weight=np.where(came, shift, 1.0),
            reference=train,
        )
        stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
        return lightgbm.train(params, train, self._rounds, valid_sets=[validation], callbacks=[stop])


def apart(lesson: Lesson) -> tuple[Flags, Flags]:
    """Training rows to fit and validation rows to judge by while searching, bool each, of different users.

    In a split by time the validation rows are of the training users, which favours trees that recognise users, while
    the test part has other users. So a third of the users is left out of the fit, and only they judge it. All rows are
    used where the parts have no user in common, or the users left out lack one of the outcomes.
    """
    everything = np.ones_like(lesson.happened), np.ones_like(lesson.validation_happened)
    users = np.unique(lesson.users)
    if not np.isin(lesson.validation_users, users).any():
        return everything
    left_out = np.random.default_rng(lesson.seed).choice(users, len(users) // 3, replace=False)
    fitted, judged = ~np.isin(lesson.users, left_out), np.isin(lesson.validation_users, left_out)
    came, known = lesson.validation_happened[judged], lesson.happened[fitted]
    if not (0 < came.sum() < len(came) and 0 < known.sum() < len(known)):
        return everything
    return fitted, judged
