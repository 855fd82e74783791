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
from model.comparison.problem import Problem
from model.comparison.roster import Constructor
from model.comparison.targets import LIGHTGBM, Standing, judge_targets
from model.comparison.trial import Trial, run_trial, slug
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
) -> dict[str, Any]:
    """Train and judge `candidates` on every setting of a source; what is in `folder` already is not trained again.

    `facts` go into the report as they are (command, environment). `rows` are the first setting's. Raises
    `ComparisonError` without candidates, and what `pose` and the candidates raise.
    """
    if not candidates:
        raise ComparisonError("no candidate takes part; name some with --entrants or leave the option out")
    settings = pose(dataset, seed, progress, folds)
    held = [
        _hold(dataset.name, setting, candidates, folder / slug(setting.name), progress, resamples, with_ensemble)
        for setting in settings
    ]
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
    candidates: Mapping[str, Constructor],
    folder: Path,
    progress: Progress,
    resamples: int,
    with_ensemble: bool,
) -> dict[str, Any]:
    trials = _trials(setting, candidates, folder, progress)
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


def _trials(
    setting: Setting, candidates: Mapping[str, Constructor], folder: Path, progress: Progress
) -> dict[str, list[Trial]]:
    trials: dict[str, list[Trial]] = {}
    task = progress.add_task(setting.name, total=len(candidates) * len(setting.problems))
    for name, make in candidates.items():
        trials[name] = []
        for problem in setting.problems:
            progress.update(task, description=f"{setting.name}: {name}, {problem.name}")
            shown = set(progress.task_ids)
            started = time.monotonic()
            trial = run_trial(make(), problem, folder, progress)
            trials[name].append(trial)
            if not progress.disable:
                _tell(progress, setting, problem, trial, time.monotonic() - started)
            _remove(progress, [other for other in progress.task_ids if other not in shown])
            progress.advance(task)
    progress.remove_task(task)
    return trials


def _tell(progress: Progress, setting: Setting, problem: Problem, trial: Trial, seconds: float) -> None:
    """Print one plain line per trial, since progress bars do not show in a log file."""
    auc = validation_auc([problem], [trial])
    shown = "unknown" if auc is None else f"{auc:.4f}"
    line = f"{setting.name}, {problem.name}, {trial.name}: {seconds:.0f} s, validation AUC {shown}"
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
