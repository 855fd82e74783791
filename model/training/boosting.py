"""Fits trees beside a trained network, over tallies of the events.

Uses the training part to fit, and the validation part to choose settings, to stop, and to weigh trees against network.
The examples are of `model.training.boosting_examples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from events.types import KINDS
from model.histories.labels import Targets, targets
from model.histories.sequences import Sequences
from model.networks.boosted import BoostedFusion
from model.networks.encoders.tallied import TalliedEncoder
from model.networks.fusion import Fusion
from model.networks.likelihood import hazard_loss
from model.networks.risk_model import RiskModel
from model.networks.tallies import slots
from model.networks.trees import Trees
from model.statistics.metrics import roc_auc
from model.training.batches import by_length, pad
from model.training.boosting_examples import Examples, examples_of
from model.training.calibration import LEAST_DEFAULTS, fit_calibration
from model.training.preparation import TrainingError
from model.training.trainer import Trainer

TRIALS = 12
BAGGED = 3
"""Trials of a search, the best ones, whose trees are averaged: the AUC of a validation part does not tell them apart,
and their mean ranks better than any of them."""
SEARCH_ROWS = 50_000
MOST_ROUNDS = 120
PATIENCE_ROUNDS = 30
MOST_TALLIED = 100
"""Numbers of all tallies together that a user's state may hold: those of the features that lower the loss most."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the trees beside the network that are tried; the network has the rest."""
FIXED: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "bagging_freq": 1,
    "feature_pre_filter": False,  # as the data are made
}


@dataclass(frozen=True)
class Settings:
    """Settings of trees, the number of rounds, and by how much each input lowered the loss, float64 `[features]`."""

    values: Mapping[str, Any]
    rounds: int
    gain: NDArray[np.float64]


def add_trees(trainer: Trainer, seed: int, bars: Progress) -> None:
    """Put trees beside the trainer's network, once that is trained, where its architecture asks for them."""
    if trainer.model.architecture.boosted:
        trainer.model = boost(trainer, seed, bars).to(trainer.device)


def boost(trainer: Trainer, seed: int, bars: Progress, most_tallied: int = MOST_TALLIED) -> RiskModel:
    """The trainer's network with trees beside it, neither calibrated. The trainer's model is not changed.

    Returns the network alone where the training or the validation part lacks an outcome. Raises `TrainingError` for a
    network of another make, which has no steps to put tallies beside.
    """
    if type(trainer.model) is not RiskModel:
        raise TrainingError(f"trees cannot be put beside a {type(trainer.model).__name__}; choose another architecture")
    wide = _tallied(trainer.model, trainer.sequences, None)
    task = bars.add_task("tallies", total=None)
    train, validation = (
        examples_of(trainer, wide, part, seed) for part in (trainer.parts.train, trainer.parts.validation)
    )
    bars.remove_task(task)
    if not all(part.has_both_outcomes() for part in (train, validation)):
        return trainer.model
    fusion = wide.fusion
    assert isinstance(fusion, BoostedFusion)
    names = np.array(fusion.input_names())
    found = _search(train, validation, seed, bars)
    model = _tallied(trainer.model, trainer.sequences, _kept(wide, names, found, most_tallied))
    narrow = model.fusion
    assert isinstance(narrow, BoostedFusion)
    at = {name: number for number, name in enumerate(names.tolist())}
    columns = np.array([at[name] for name in narrow.input_names()])
    trees = Trees.mean([Trees.of(booster) for booster in _bag(train, columns, found, seed)])
    model.architecture = replace(model.architecture, trees=trees.shape)
    narrow.trees = trees
    _weigh(trainer, model)
    return model


def _tallied(network: RiskModel, sequences: Sequences, kept: tuple[tuple[str, ...], ...] | None) -> RiskModel:
    """A network with tallies, by default all there can be, and with a tree that says nothing."""
    vocabularies = sequences.vocabularies
    named = kept or tuple(slots(kind, network.numeric_inputs[kind], vocabularies[kind]) for kind in KINDS)
    architecture = replace(network.architecture, tallies=named, trees=(1, 1, 0))
    model = RiskModel(architecture, network.vocabulary_sizes, network.numeric_inputs)
    fusion = model.fusion
    assert isinstance(fusion, BoostedFusion)
    assert isinstance(network.fusion, Fusion)
    fusion.network.load_state_dict(network.fusion.state_dict())
    for kind in KINDS:
        encoder = model.encoder(kind)
        assert isinstance(encoder, TalliedEncoder)
        encoder.encoder.load_state_dict(network.encoder(kind).state_dict())
        encoder.tally.learn(vocabularies[kind])
    return model.eval()


def _search(train: Examples, validation: Examples, seed: int, bars: Progress) -> tuple[Settings, ...]:
    """The best settings of a seeded search by validation AUC."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fitted, judged = _apart(train, validation, seed)
    if len(fitted.rows) > SEARCH_ROWS:
        fitted = fitted.at(np.sort(np.random.default_rng(seed).choice(len(fitted.rows), SEARCH_ROWS, replace=False)))
    task = bars.add_task("trees", total=TRIALS)
    data = _data(fitted)
    asked = _data(judged, reference=data)
    gains: list[NDArray[np.float64]] = []

    def objective(trial: optuna.Trial) -> float:
        settings = {
            "num_leaves": trial.suggest_int("num_leaves", 4, 31, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.12, log=True),
            # A leaf of a few rows can be one user, identified by exact amounts: so a least number of rows.
            "leaf_users": trial.suggest_int("leaf_users", 5, 300, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 0.8),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
        }
        booster = _fitted(data, fitted, settings, MOST_ROUNDS, seed, asked)
        bars.advance(task)
        trial.set_user_attr("rounds", max(booster.best_iteration, 1))
        gains.append(booster.feature_importance("gain"))
        logits = booster.predict(judged.inputs, raw_score=True, num_threads=1)
        return roc_auc(judged.happened, logits) or 0.5

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)
    bars.remove_task(task)
    best = sorted(study.trials, key=lambda trial: -(trial.value or 0.5))[:BAGGED]
    return tuple(Settings(trial.params, int(trial.user_attrs["rounds"]), gains[trial.number]) for trial in best)


def _apart(train: Examples, validation: Examples, seed: int) -> tuple[Examples, Examples]:
    """What the search fits and what it is judged by. Where both parts have the same users, as in a split by time, a
    third of them is left out of the fit and alone judges it: trees recognise users."""
    judged = validation.at(validation.asked)
    users = np.unique(train.users)
    if not np.isin(judged.users, users).any():
        return train, judged
    left_out = np.random.default_rng(seed).choice(users, len(users) // 3, replace=False)
    fitted, apart = train.at(~np.isin(train.users, left_out)), judged.at(np.isin(judged.users, left_out))
    return (fitted, apart) if fitted.has_both_outcomes() and apart.has_both_outcomes() else (train, judged)


def _data(examples: Examples, columns: NDArray[np.int64] | None = None, reference: Any = None) -> Any:
    """Examples, or some columns of their inputs, as LightGBM takes them, sorted into bins once for all fits; those of
    `reference` where it is given."""
    import lightgbm

    happened = examples.happened.astype(np.float32)
    # Which columns can be split depends on the least number of rows of a leaf, which differs between fits.
    binned = {"feature_pre_filter": False, "verbosity": -1}
    inputs = examples.inputs if columns is None else examples.inputs[:, columns]
    return lightgbm.Dataset(inputs, happened, weight=examples.weights, reference=reference, params=binned)


def _fitted(data: Any, train: Examples, settings: Mapping[str, Any], rounds: int, seed: int, asked: Any = None) -> Any:
    """A booster on `data`, which is of the examples `train`: of so many rounds, or of at most so many and as many as
    lower the loss on `asked`."""
    import lightgbm

    params = {**FIXED, **settings, "seed": seed % 2**31}
    rows_per_user = max(int(train.asked.sum()) // max(len(np.unique(train.users)), 1), 1)
    params["min_child_samples"] = params.pop("leaf_users") * rows_per_user
    if asked is None:
        return lightgbm.train(params, data, rounds)
    stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
    return lightgbm.train(params, data, rounds, valid_sets=[asked], callbacks=[stop])


def _bag(train: Examples, columns: NDArray[np.int64], settings: Sequence[Settings], seed: int) -> Iterator[Any]:
    """A booster for each of the settings, on some columns of the inputs."""
    data = _data(train, columns)
    for number, each in enumerate(settings):
        yield _fitted(data, train, each.values, each.rounds, seed + number)


def _kept(wide: RiskModel, names: NDArray[Any], settings: Sequence[Settings], most: int) -> tuple[tuple[str, ...], ...]:
    """The numbers of each kind's tally that the most useful features need, at most so many in all."""
    gain = np.sum([each.gain / max(float(each.gain.sum()), 1e-12) for each in settings], axis=0)
    ranked = [str(names[place]) for place in np.argsort(-gain, kind="stable") if gain[place] > 0]
    kept: tuple[tuple[str, ...], ...] = ((),) * len(KINDS)
    chosen = list[str]()
    for name in ranked:
        tried = _needed(wide, [*chosen, name])
        if sum(map(len, tried)) <= most:
            chosen.append(name)
            kept = tried
    return kept


def _needed(wide: RiskModel, features: list[str]) -> tuple[tuple[str, ...], ...]:
    fusion = wide.fusion
    assert isinstance(fusion, BoostedFusion)
    return tuple(fusion.tallies[kind].needed_for(features) for kind in KINDS)


def _weigh(trainer: Trainer, model: RiskModel) -> None:
    """Set the weights of network and trees, per interval, that make the outcomes of the validation part most likely;
    where an interval has few of them, those of all intervals together."""
    fusion = model.fusion
    assert isinstance(fusion, BoostedFusion)
    rows, network, trees = _both(trainer, model)
    part, sequences = trainer.parts.validation, trainer.sequences
    owner = sequences.owners(rows)
    found = targets(sequences.times_ms[rows], owner, part.truth, trainer.horizons_days)
    losses = np.array([_losses((1 - share) * network + share * trees, found) for share in SHARES])
    counted = found.observed_share > 0
    together = losses @ (counted.sum(0) / max(counted.sum(), 1))
    for interval, defaults in enumerate((found.happened & counted).sum(0)):
        own = losses[:, interval] if defaults >= LEAST_DEFAULTS else together
        best = SHARES[int(np.argmin(own))]
        fusion.weights[0, interval], fusion.weights[1, interval] = 1 - best, best


def _losses(logits: NDArray[np.float32], found: Targets) -> NDArray[np.float64]:
    """The loss of each interval once the logits `[n, intervals]` are calibrated."""
    fitted = fit_calibration(logits.astype(np.float32), found)
    calibrated = torch.from_numpy(logits).float() * torch.tensor(fitted.slope) + torch.tensor(fitted.intercept)
    share, happened = torch.from_numpy(found.observed_share), torch.from_numpy(found.happened).float()
    return np.array(
        [
            float(hazard_loss(calibrated[:, [interval]], share[:, [interval]], happened[:, [interval]]))
            for interval in range(logits.shape[1])
        ]
    )


@torch.no_grad()
def _both(trainer: Trainer, model: RiskModel) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Rows of the validation part's judged events, and the hazard logits of network `[n, intervals]` and trees
    `[n, 1]` there."""
    fusion, part = model.fusion, trainer.parts.validation
    assert isinstance(fusion, BoostedFusion)
    rows, network, trees = [], [], []
    for positions in by_length(part.counts, 64):
        batch = pad(trainer.sequences, part.users[positions], part.counts[positions], part.skips[positions])
        kept = np.arange(len(batch.rows)) if trainer.judged is None else np.flatnonzero(trainer.judged[batch.rows])
        readout = model.readouts(batch.numeric, batch.categorical, batch.latest[kept])
        read, inputs = fusion.parts(readout, batch.ages[kept])
        rows.append(batch.rows[kept])
        network.append(fusion.network.logits(read, batch.ages[kept]).numpy())
        trees.append(fusion.trees(inputs).numpy())
    return np.concatenate(rows), np.concatenate(network), np.concatenate(trees)
