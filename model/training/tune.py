"""Search for training options: many short trainings, each judged on the validation part alone.

Must not be given the test part. The study is an SQLite file, so a search can be stopped and continued, with the same
suggestions as without the stop.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import torch
from rich.progress import Progress

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.datasets.recipe import recipe_of
from model.evaluation.evaluate import progress_bars
from model.histories.arrears import judged_events
from model.histories.splits import Part, Split
from model.training.augmentation import Augmentation
from model.training.input_rules import InputRules
from model.training.material import Material, read
from model.training.preparation import TrainingError, labels_of, prepare
from model.training.trainer import EpochRecord, Schedule, Trainer

if TYPE_CHECKING:
    import optuna

STUDY_NAME = "foreshock"
STARTUP_TRIALS = 5
"""Trials with random options, before the sampler uses their results and before a trial may be ended early."""
DIGITS = 3
"""Significant digits of a suggestion, so that the command line shows the very value that was tried."""

Options: TypeAlias = dict[str, float | int]
"""Values of `foreshock train`'s options, by name without dashes."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One trial. `validation_auc` is its best epoch's; None if it was ended early or failed. `options` are empty if it
    was stopped before it had any."""

    number: int
    state: str
    validation_auc: float | None
    options: Options


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search. `command` trains with the best options."""

    source: str
    settings: dict[str, Any]
    validation_auc: float
    options: Options
    command: str
    trials: list[Tried]


def tune(
    dataset: Dataset,
    study: Path,
    *,
    trials: int,
    minutes: float,
    epochs: int,
    seed: int = 1,
    settings: Mapping[str, Any] | None = None,
    train_arguments: Sequence[str] = (),
    architecture: Architecture | None = None,
    progress: bool = True,
    clock_s: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Search until the study has `trials` finished trials, or `minutes` have passed since the call.

    `study` is the SQLite file; an existing one is continued. `settings` is what else the data depend on, and
    `train_arguments` what `foreshock train` needs to read them. Raises `TrainingError` when the study is of other
    settings, no trial was finished, or as training does.
    """
    deadline_s = clock_s() + 60 * minutes
    with progress_bars(progress) as bars:
        material = read(dataset, bars)
        shared = {
            **(settings or {}),
            "data": material.sequences.fingerprint,
            "seed": seed,
            "epochs": epochs,
            "architecture": (architecture or Architecture()).as_manifest(),
        }
        found = _open(study, seed, msgspec.to_builtins(shared))
        task = bars.add_task("trials", total=trials, completed=_finished(found))
        while _finished(found) < trials and clock_s() < deadline_s:
            _run_trial(found, _Trials(dataset, material, architecture, seed, epochs, deadline_s, clock_s), bars, seed)
            bars.update(task, completed=_finished(found))
    return _result(found, dataset.name, shared, train_arguments, epochs)


def suggest(trial: optuna.Trial) -> Options:
    """The options of a trial."""
    options: Options = {
        "learning_rate": trial.suggest_float("learning_rate", 2e-4, 5e-3, log=True),
        "weight_decay": trial.suggest_categorical("weight_decay", (0.0, 1e-6, 1e-5, 1e-4, 1e-3)),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "batch_users": trial.suggest_categorical("batch_users", (8, 16, 32, 64)),
        "jitter": trial.suggest_float("jitter", 0.0, 0.3),
        "time_warp": trial.suggest_float("time_warp", 0.0, 0.4),
        "blank_rate": trial.suggest_float("blank_rate", 0.0, 0.3),
        "winsor_tail": trial.suggest_categorical("winsor_tail", (0.0, 0.0005, 0.002, 0.01)),
    }
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in options.items()
    }


class _Trials:
    """The objective: trains by a trial's options and gives the best validation AUC."""

    def __init__(
        self,
        dataset: Dataset,
        material: Material,
        architecture: Architecture | None,
        seed: int,
        epochs: int,
        deadline_s: float,
        clock_s: Callable[[], float],
    ) -> None:
        self._dataset = dataset
        self._material = material
        self._architecture = architecture or Architecture()
        self._seed = seed
        self._epochs = epochs
        self._deadline_s = deadline_s
        self._clock_s = clock_s
        self._parts = _without_test(material.parts)

    def __call__(self, trial: optuna.Trial, bars: Progress) -> float:
        """Raises `optuna.TrialPruned` when the trial is worse than the others' median, or time is up."""
        import optuna

        options = suggest(trial)
        trial.set_user_attr("options", options)

        def told(history: list[EpochRecord]) -> None:
            trial.report(_best(history), len(history))
            if trial.should_prune() or (self._clock_s() >= self._deadline_s and len(history) < self._epochs):
                raise optuna.TrialPruned

        return _best(self._trainer(options).fit(bars, on_epoch=told))

    def _trainer(self, options: Options) -> Trainer:
        torch.manual_seed(self._seed)
        recipe = recipe_of(self._dataset)
        architecture = replace(recipe.shaped(self._architecture), dropout=options["dropout"])
        rules = InputRules(winsor_tail=options["winsor_tail"])
        model, sequences = prepare(self._material.sequences, self._parts, architecture, (), rules)
        schedule = Schedule(
            epochs=self._epochs,
            batch_users=int(options["batch_users"]),
            weight_decay=options["weight_decay"],
            learning_rate=options["learning_rate"],
            augmentation=Augmentation(
                jitter=options["jitter"], time_warp=options["time_warp"], blank_rate=options["blank_rate"]
            ),
        )
        schedule = schedule.following(recipe)
        labels = labels_of(sequences, self._material.outcomes)
        headline = self._dataset.headline_horizon_days
        judged = judged_events(self._dataset, sequences)
        return Trainer(model, sequences, self._parts, labels, schedule, self._seed, headline, judged=judged)


def _without_test(parts: Split) -> Split:
    nobody = np.zeros(0, dtype=np.int64)
    return replace(parts, test=Part(nobody, nobody, nobody, parts.validation.truth))


def _best(history: list[EpochRecord]) -> float:
    known = [record["validation_auc"] for record in history if record["validation_auc"] is not None]
    if not known:
        raise TrainingError("the validation part lacks defaults or users without one; take more users or months")
    return max(known)


def _open(path: Path, seed: int, settings: dict[str, Any]) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=1)
    study = optuna.create_study(
        study_name=STUDY_NAME,
        storage=f"sqlite:///{path.resolve()}",
        direction="maximize",
        pruner=pruner,
        sampler=_sampler(seed, 0),
        load_if_exists=True,
    )
    known = study.user_attrs.get("settings")
    if known is None:
        study.set_user_attr("settings", settings)
    elif known != settings:
        other = sorted(key for key in known.keys() | settings.keys() if known.get(key) != settings.get(key))
        raise TrainingError(f"{path} is a study of other settings ({', '.join(other)}); name another file")
    # A process that was killed leaves its trial marked as running; such a trial does not count.
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _sampler(seed: int, finished: int) -> optuna.samplers.BaseSampler:
    """A sampler for the next trial. The study does not keep a sampler's state, so each trial gets a new one, with a
    seed that depends on how many trials were finished."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed * 100_003 + finished, n_startup_trials=STARTUP_TRIALS)


def _finished(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _run_trial(study: optuna.Study, objective: _Trials, bars: Progress, seed: int) -> None:
    import optuna

    study.sampler = _sampler(seed, _finished(study))
    trial = study.ask()
    try:
        value = objective(trial, bars)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    else:
        study.tell(trial, value)
    for shown in [shown for shown in bars.tasks if shown.description.startswith("epoch")]:
        bars.remove_task(shown.id)


def _result(
    study: optuna.Study, source: str, settings: Mapping[str, Any], train_arguments: Sequence[str], epochs: int
) -> Tuned:
    tried = [
        Tried(
            number=trial.number,
            state=trial.state.name.lower(),
            validation_auc=trial.value if trial.state.name == "COMPLETE" else None,
            options=trial.user_attrs.get("options", {}),
        )
        for trial in study.get_trials(deepcopy=False)
    ]
    complete = [trial for trial in tried if trial.validation_auc is not None]
    if not complete:
        raise TrainingError("no trial was finished in that time; give it more --minutes, or fewer users or epochs")
    best = max(complete, key=lambda trial: (trial.validation_auc or 0.0, -trial.number))
    flags = [text for name, value in best.options.items() for text in (f"--{name.replace('_', '-')}", f"{value:g}")]
    return Tuned(
        source=source,
        settings=dict(settings),
        validation_auc=best.validation_auc or 0.0,
        options=best.options,
        command=shlex.join(
            ["foreshock", "train", *train_arguments, "--epochs", str(epochs), *flags, "--out", "BUNDLE"]
        ),
        trials=tried,
    )
