"""Runs a comparison and makes its report: every setting of a source, every candidate, one table per setting.

The report holds plain values for JSON; `model.comparison.page` turns it into a document.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from model.comparison.ensemble import NAME as ENSEMBLE
from model.comparison.ensemble import combine
from model.comparison.figures import BUDGETS, Court, Figures, figures, validation_auc
from model.comparison.folds import FOLDS, Setting, pose
from model.comparison.forecast import REFERENCE_EPOCHS, Forecast, slowness
from model.comparison.problem import Problem
from model.comparison.roster import Constructor
from model.comparison.targets import LIGHTGBM, Standing, judge_targets
from model.comparison.trial import Trial, is_kept, run_trial, slug
from model.datasets.dataset import Dataset

RESAMPLES = 200


class ComparisonError(RuntimeError):
    """No comparison is possible; the message says why and what to do."""


def compare(
    dataset: Dataset,
    candidates: Mapping[str, Constructor],
    folder: Path,
    progress: Progress,
    *,
    seed: int = 1,
    folds: int = FOLDS,
    resamples: int = RESAMPLES,
    with_ensemble: bool = True,
    facts: Mapping[str, Any] | None = None,
    epochs: int = REFERENCE_EPOCHS,
) -> dict[str, Any]:
    """Train and judge `candidates` on every setting of a source; what is in `folder` already is not trained again.

    `facts` go into the report as they are (command, environment). `rows` are the first setting's. `epochs`, those of
    the served models, are for the forecast, which is told where `progress` is shown. Raises `ComparisonError` without
    candidates, and what `pose` and the candidates raise.
    """
    if not candidates:
        raise ComparisonError("no candidate takes part; name some with --entrants or leave the option out")
    settings = pose(dataset, seed, progress, folds)
    folders = [folder / slug(setting.name) for setting in settings]
    forecast = _forecast(settings, folders, candidates, epochs, progress)
    held = [
        _hold(dataset.name, setting, _trials(setting, candidates, own, forecast, progress), progress, resamples,
              with_ensemble=with_ensemble)
        for setting, own in zip(settings, folders, strict=True)
    ]  # fmt: skip
    return {
        "source": dataset.name,
        "seed": seed,
        "resamples": resamples,
        "budget_per_1000_users_month": BUDGETS[0],
        "data_fingerprint": settings[0].problems[0].sequences.fingerprint,
        **(facts or {}),
        "rows": held[0]["rows"],
        "targets": held[0]["targets"],
        "settings": held,
    }


def _hold(
    source: str,
    setting: Setting,
    trials: dict[str, list[Trial]],
    progress: Progress,
    resamples: int,
    *,
    with_ensemble: bool,
) -> dict[str, Any]:
    best = _best_served(setting.problems, trials)
    if with_ensemble and best is not None and LIGHTGBM in trials:
        trials[ENSEMBLE] = [
            combine(problem, one, other)
            for problem, one, other in zip(setting.problems, trials[best], trials[LIGHTGBM], strict=True)
        ]
    task = progress.add_task("measuring", total=len(trials))
    court = Court.convene(setting.problems, resamples)
    measured: dict[str, Figures] = {}
    for name, of_candidate in trials.items():
        measured[name] = figures(court, of_candidate)
        progress.advance(task)
    progress.remove_task(task)
    return {
        "name": setting.name,
        "about": setting.about,
        "task": setting.problems[0].task,
        "headline_days": setting.problems[0].headline_days,
        "problems": [_described(problem, number, court) for number, problem in enumerate(setting.problems)],
        "best_served": best,
        "rows": [each.row for each in measured.values()],
        "targets": [] if best is None else judge_targets(source, Standing(measured, best)),
        "details": {
            name: {"horizons": each.horizons, "segments": each.segments, "budgets": each.budgets}
            for name, each in measured.items()
        },
    }


def _forecast(
    settings: Sequence[Setting],
    folders: Sequence[Path],
    candidates: Mapping[str, Constructor],
    epochs: int,
    progress: Progress,
) -> Forecast:
    """What the trials that are not kept will take, told in a line where progress is shown."""
    trials = [
        (name, problem, folder)
        for setting, folder in zip(settings, folders, strict=True)
        for name in candidates
        for problem in setting.problems
    ]
    missing = [(name, problem) for name, problem, folder in trials if not is_kept(candidates[name](), problem, folder)]
    told = bool(missing) and not progress.disable
    forecast = Forecast.of(missing, epochs, slowness() if told else 1.0)
    if told:
        kept = len(trials) - len(missing)
        resumed = f" ({kept} of {len(trials)} are kept from an earlier run)" if kept else ""
        _say(progress, f"{forecast.line()}{resumed}; interrupt at will: the same command goes on where it stopped")
    return forecast


def _trials(
    setting: Setting, candidates: Mapping[str, Constructor], folder: Path, forecast: Forecast, progress: Progress
) -> dict[str, list[Trial]]:
    trials: dict[str, list[Trial]] = {}
    task = progress.add_task(setting.name, total=len(candidates) * len(setting.problems))
    for name, make in candidates.items():
        trials[name] = []
        for problem in setting.problems:
            progress.update(task, description=f"{setting.name}: {name}, {problem.name}")
            shown = set(progress.task_ids)
            started = time.monotonic()
            candidate = make()
            kept = is_kept(candidate, problem, folder)
            trial = run_trial(candidate, problem, folder, progress)
            seconds = time.monotonic() - started
            trials[name].append(trial)
            if not kept:
                forecast.ended(seconds)
            if not progress.disable:
                _tell(progress, setting, problem, trial, seconds)
                if forecast.left and not kept:
                    _say(progress, forecast.line())
            _remove(progress, [other for other in progress.task_ids if other not in shown])
            progress.advance(task)
    progress.remove_task(task)
    return trials


def _tell(progress: Progress, setting: Setting, problem: Problem, trial: Trial, seconds: float) -> None:
    """Print one plain line per trial, since progress bars do not show in a log file."""
    auc = validation_auc([problem], [trial])
    shown = "unknown" if auc is None else f"{auc:.4f}"
    _say(progress, f"{setting.name}, {problem.name}, {trial.name}: {seconds:.0f} s, validation AUC {shown}")


def _say(progress: Progress, line: str) -> None:
    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _remove(progress: Progress, tasks: Sequence[TaskID]) -> None:
    for task in tasks:
        progress.remove_task(task)


def _best_served(problems: Sequence[Problem], trials: Mapping[str, Sequence[Trial]]) -> str | None:
    """The served model with the best validation AUC, which represents all served models; the test part is not used."""
    served = {
        name: validation_auc(problems, of_candidate) or 0.0
        for name, of_candidate in trials.items()
        if of_candidate[0].kind == "served"
    }
    return max(served, key=served.__getitem__) if served else None


def _described(problem: Problem, number: int, court: Court) -> dict[str, Any]:
    parts = problem.parts
    _, users, happened = court.examples[number].of(problem.headline_days)
    return {
        "name": problem.name,
        "train_users": len(parts.train.users),
        "validation_users": len(parts.validation.users),
        "test_users": len(parts.test.users),
        "judged_users": len(set(users.tolist())),
        "judged_examples": len(happened),
        "judged_positives": int(happened.sum()),
    }
