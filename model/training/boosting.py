"""Fits trees beside a trained network: over tallies of the events and, where validation prefers it, the readouts.

Uses the training part to fit, and the validation part to choose settings, to stop, and to weigh trees against network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from events.types import KINDS
from model.histories.labels import targets, within_horizons
from model.histories.sequences import Sequences
from model.histories.splits import Part
from model.networks.boosted import BoostedFusion
from model.networks.encoders.tallied import TalliedEncoder
from model.networks.fusion import Fusion
from model.networks.likelihood import hazard_loss
from model.networks.risk_model import RiskModel
from model.networks.tallies import slots
from model.networks.trees import Trees
from model.statistics.metrics import roc_auc
from model.training.batches import by_length, pad
from model.training.calibration import fit_calibration
from model.training.preparation import TrainingError
from model.training.trainer import LONGEST_HISTORY, Trainer

MOST_ROWS = 300_000
"""Events of a part that trees are fitted to or judged by. More are sampled, whatever became of them."""
TRIALS = 16
SEARCH_ROWS = 80_000
MOST_ROUNDS = 200
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
class Examples:
    """Events whose outcome within the headline horizon is known: their `rows` int64 `[n]` in merged order, what trees
    take of them, float32 `[n, features]`, whether it `happened`, bool `[n]`, and whose they are, int64 `[n]`."""

    rows: NDArray[np.int64]
    inputs: NDArray[np.float32]
    happened: NDArray[np.bool_]
    users: NDArray[np.int64]

    def at(self, chosen: NDArray[Any]) -> Examples:
        """Some of them, by positions or flags."""
        return Examples(self.rows[chosen], self.inputs[chosen], self.happened[chosen], self.users[chosen])


@dataclass(frozen=True)
class Settings:
    """Settings of the trees, the number of rounds, and the columns of the inputs that they may look at."""

    values: Mapping[str, Any]
    rounds: int
    columns: NDArray[np.int64]


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
    train = _examples(trainer, wide, trainer.parts.train, seed)
    validation = _examples(trainer, wide, trainer.parts.validation, seed)
    bars.remove_task(task)
    if not all(0 < part.happened.sum() < len(part.happened) for part in (train, validation)):
        return trainer.model
    fusion = wide.fusion
    assert isinstance(fusion, BoostedFusion)
    names = np.array(fusion.input_names())
    read = np.char.startswith(names, "readout.")
    alone, auc_alone = _search(train, validation, np.flatnonzero(~read), seed, bars, "trees over tallies")
    both, auc_both = _search(train, validation, np.arange(len(names)), seed, bars, "trees over tallies and readouts")
    takes_readout = auc_both > auc_alone
    settings = both if takes_readout else alone
    kept = _kept(wide, names, settings, train, seed, most_tallied)
    model = _tallied(trainer.model, trainer.sequences, kept, takes_readout=takes_readout)
    narrow = model.fusion
    assert isinstance(narrow, BoostedFusion)
    at = {name: number for number, name in enumerate(names.tolist())}
    columns = np.array([at[name] for name in narrow.input_names()])
    trees = Trees.of(_fitted(_data(train, columns), train, settings.values, settings.rounds, seed))
    model.architecture = replace(model.architecture, trees=trees.shape)
    narrow.trees = trees
    _weigh(trainer, model)
    return model


def _tallied(
    network: RiskModel, sequences: Sequences, kept: tuple[tuple[str, ...], ...] | None, *, takes_readout: bool = True
) -> RiskModel:
    """A network with tallies, by default all there can be, and with a tree that says nothing."""
    vocabularies = sequences.vocabularies
    named = kept or tuple(slots(kind, network.numeric_inputs[kind], vocabularies[kind]) for kind in KINDS)
    architecture = replace(network.architecture, tallies=named, trees=(1, 1, 0), trees_read=takes_readout)
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


@torch.no_grad()
def _examples(trainer: Trainer, model: RiskModel, part: Part, seed: int) -> Examples:
    """The examples of a part, with all inputs that trees may take."""
    sequences, fusion = trainer.sequences, model.fusion
    assert isinstance(fusion, BoostedFusion)
    counts = np.minimum(part.counts, LONGEST_HISTORY)
    chosen = _chosen_rows(trainer, part, counts, seed)
    wanted = np.zeros(len(sequences.kinds), dtype=np.bool_)
    wanted[chosen] = True
    rows, inputs = [np.zeros(0, dtype=np.int64)], [np.zeros((0, len(fusion.input_names())), dtype=np.float32)]
    for positions in by_length(counts, 64):
        batch = pad(sequences, part.users[positions], counts[positions], part.skips[positions])
        kept = np.flatnonzero(wanted[batch.rows])
        if not len(kept):
            continue
        readout = model.readouts(batch.numeric, batch.categorical, batch.latest[kept])
        rows.append(batch.rows[kept])
        inputs.append(fusion.parts(readout, batch.ages[kept])[1].numpy().astype(np.float32))
    found = np.concatenate(rows)
    order = np.argsort(found)
    found = found[order]
    owner = np.searchsorted(sequences.merged_starts, found, side="right") - 1
    happened, _ = within_horizons(sequences.times_ms[found], owner, part.truth, (trainer.headline_days,))
    return Examples(found, np.concatenate(inputs)[order], happened[:, 0], owner)


def _chosen_rows(trainer: Trainer, part: Part, counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    sequences = trainer.sequences
    skips = np.minimum(part.skips, counts)
    lengths = counts - skips
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(sequences.merged_starts[part.users] + skips, lengths) + within
    owner = np.repeat(part.users, lengths)
    _, known = within_horizons(sequences.times_ms[rows], owner, part.truth, (trainer.headline_days,))
    counting = known[:, 0] if trainer.judged is None else known[:, 0] & trainer.judged[rows]
    rows = rows[counting]
    if len(rows) > MOST_ROWS:
        rows = np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False)
    return np.sort(rows)


def _search(
    train: Examples, validation: Examples, columns: NDArray[np.int64], seed: int, bars: Progress, name: str
) -> tuple[Settings, float]:
    """The best settings of a seeded search by validation AUC, and that AUC."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fitted, judged = _apart(train, validation, seed)
    if len(fitted.rows) > SEARCH_ROWS:
        fitted = fitted.at(np.sort(np.random.default_rng(seed).choice(len(fitted.rows), SEARCH_ROWS, replace=False)))
    task = bars.add_task(name, total=TRIALS)
    data = _data(fitted, columns)
    asked, values = _data(judged, columns, data), judged.inputs[:, columns]

    def objective(trial: optuna.Trial) -> float:
        settings = {
            "num_leaves": trial.suggest_int("num_leaves", 4, 31, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.15, log=True),
            # A leaf of a few rows can be one user, identified by exact amounts: so a least number of rows.
            "leaf_users": trial.suggest_int("leaf_users", 5, 300, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 0.8),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
        }
        booster = _fitted(data, fitted, settings, MOST_ROUNDS, seed, asked)
        bars.advance(task)
        trial.set_user_attr("rounds", max(booster.best_iteration, 1))
        logits = booster.predict(values, raw_score=True, num_threads=1)
        return roc_auc(judged.happened, logits) or 0.5

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)
    bars.remove_task(task)
    best = study.best_trial
    return Settings(best.params, int(best.user_attrs["rounds"]), columns), float(best.value or 0.5)


def _apart(train: Examples, validation: Examples, seed: int) -> tuple[Examples, Examples]:
    """What the search fits and what it is judged by. Where both parts have the same users, as in a split by time, a
    third of them is left out of the fit and alone judges it: trees recognise users."""
    users = np.unique(train.users)
    if not np.isin(validation.users, users).any():
        return train, validation
    left_out = np.random.default_rng(seed).choice(users, len(users) // 3, replace=False)
    fitted, judged = train.at(~np.isin(train.users, left_out)), validation.at(np.isin(validation.users, left_out))
    if not all(0 < part.happened.sum() < len(part.happened) for part in (fitted, judged)):
        return train, validation
    return fitted, judged


def _data(examples: Examples, columns: NDArray[np.int64], reference: Any = None) -> Any:
    """Examples as LightGBM takes them, sorted into bins once for all fits; those of `reference` where it is given."""
    import lightgbm

    happened = examples.happened.astype(np.float32)
    # Which columns can be split depends on the least number of rows of a leaf, which differs between fits.
    binned = {"feature_pre_filter": False, "verbosity": -1}
    return lightgbm.Dataset(examples.inputs[:, columns], happened, reference=reference, params=binned)


def _fitted(data: Any, train: Examples, settings: Mapping[str, Any], rounds: int, seed: int, asked: Any = None) -> Any:
    """A booster on `data`, which is of the examples `train`: of so many rounds, or of at most so many and as many as
    lower the loss on `asked`."""
    import lightgbm

    params = {**FIXED, **settings, "seed": seed % 2**31}
    rows_per_user = max(len(train.rows) // max(len(np.unique(train.users)), 1), 1)
    params["min_child_samples"] = params.pop("leaf_users") * rows_per_user
    if asked is None:
        return lightgbm.train(params, data, rounds)
    stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
    return lightgbm.train(params, data, rounds, valid_sets=[asked], callbacks=[stop])


def _kept(
    wide: RiskModel, names: NDArray[Any], settings: Settings, train: Examples, seed: int, most: int
) -> tuple[tuple[str, ...], ...]:
    """The numbers of each kind's tally that the most useful features need, at most so many in all."""
    booster = _fitted(_data(train, settings.columns), train, settings.values, settings.rounds, seed)
    gain = booster.feature_importance("gain")
    ranked = [str(names[settings.columns[place]]) for place in np.argsort(-gain, kind="stable") if gain[place] > 0]
    kept: tuple[tuple[str, ...], ...] = ((),) * len(KINDS)
    chosen = list[str]()
    for name in ranked:
        tried = _needed(wide, [*chosen, name])
        if sum(map(len, tried)) > most:
            break
        chosen.append(name)
        kept = tried
    return kept


def _needed(wide: RiskModel, features: list[str]) -> tuple[tuple[str, ...], ...]:
    fusion = wide.fusion
    assert isinstance(fusion, BoostedFusion)
    return tuple(fusion.tallies[kind].needed_for(features) for kind in KINDS)


def _weigh(trainer: Trainer, model: RiskModel) -> None:
    """Set the weights of network and trees that make the outcomes of the validation part most likely."""
    fusion = model.fusion
    assert isinstance(fusion, BoostedFusion)
    rows, network, trees = _both(trainer, model)
    part, sequences = trainer.parts.validation, trainer.sequences
    owner = sequences.user_of_event[rows]
    found = targets(sequences.times_ms[rows], owner, part.truth, trainer.horizons_days)
    share, happened = torch.from_numpy(found.observed_share), torch.from_numpy(found.happened).float()
    losses = []
    for weight in SHARES:
        logits = (1 - weight) * network + weight * trees
        fitted = fit_calibration(logits.astype(np.float32), found)
        calibrated = torch.from_numpy(logits).float() * torch.tensor(fitted.slope) + torch.tensor(fitted.intercept)
        losses.append(float(hazard_loss(calibrated, share, happened)))
    best = SHARES[int(np.argmin(losses))]
    fusion.weights[0], fusion.weights[1] = 1 - best, best


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
