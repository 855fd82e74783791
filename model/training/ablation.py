"""Ablations: the effect of each choice that training makes, by training with and without it, all else equal.

Every variation changes one of the default options. Judged on clients and months that neither training nor calibration
has seen; no default may be chosen by these figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import torch
from rich.progress import Progress

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.datasets.recipe import recipe_of
from model.evaluation.evaluate import progress_bars
from model.histories.arrears import judged_events
from model.histories.labels import within_horizons
from model.networks.fusion import cumulative
from model.statistics.metrics import log_loss, summary
from model.training.boosting import add_trees
from model.training.material import Material, read
from model.training.preparation import TrainingError, labels_of, prepare
from model.training.train import default_batch_users
from model.training.trainer import Schedule, Trainer
from model.training.variations import CHOICES, DEFAULT, Variation

Opener: TypeAlias = Callable[[int], Dataset]
"""Opens the data set of a seed."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One training: figures of the test part at the headline horizon. `seconds` of the processor are those of training
    alone; reports of earlier releases lack them and the logarithmic loss."""

    name: str
    options: str
    seed: int
    auc: float | None
    pr_auc: float | None
    brier: float | None
    ece: float | None
    examples: int
    positives: int
    validation_auc: float | None
    epochs: int
    log_loss: float | None = None
    seconds: float | None = None


class Ablations(msgspec.Struct, frozen=True, kw_only=True):
    """All trainings of one command, of the table `choices` of `CHOICES`, and the settings that they share."""

    command: str
    choices: str = "inputs"
    source: str
    headline_horizon_days: int
    settings: dict[str, Any]
    rows: list[Row]


def ablate(
    open_seed: Opener,
    seeds: Sequence[int],
    report: Path,
    *,
    epochs: int,
    command: str,
    settings: Mapping[str, Any],
    architecture: Architecture | None = None,
    choices: str = "inputs",
    variations: Sequence[Variation] | None = None,
    progress: bool = True,
) -> Ablations:
    """Train every variation of a table under every seed and write `report`, a JSON file, after each, so that a stopped
    run can be continued.

    `variations` are by default all of the table `choices` in `CHOICES`. `settings` are the values that `open_seed`
    depends on. Raises `TrainingError` when `report` is of other settings, or as training does.
    """
    shared = {**settings, "epochs": epochs, "seeds": list(seeds)}
    variations = CHOICES[choices].variations if variations is None else variations
    done: Ablations | None = _earlier(report, choices, shared)
    with progress_bars(progress) as bars:
        task = bars.add_task("trainings", total=len(seeds) * len(variations))
        for seed in seeds:
            known = {row.name for row in done.rows if row.seed == seed} if done else set()
            wanted = [variation for variation in variations if variation.name not in known]
            bars.advance(task, len(variations) - len(wanted))
            dataset = open_seed(seed)
            material = read(dataset, bars) if wanted else None
            for variation in wanted:
                assert material is not None
                row = _train(dataset, material, variation, seed, epochs, architecture, bars)
                done = Ablations(
                    command=command,
                    choices=choices,
                    source=dataset.name,
                    headline_horizon_days=dataset.headline_horizon_days,
                    settings=shared,
                    rows=[*(done.rows if done else []), row],
                )
                report.write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1) + b"\n")
                bars.advance(task)
    if done is None:
        raise TrainingError("there is nothing to ablate; name at least one seed")
    return done


def _earlier(report: Path, choices: str, settings: Mapping[str, Any]) -> Ablations | None:
    if not report.exists():
        return None
    try:
        found = msgspec.json.decode(report.read_bytes(), type=Ablations)
    except msgspec.DecodeError as error:
        raise TrainingError(f"{report} is no report of ablations ({error}); name another file") from None
    if (found.choices, found.settings) != (choices, settings):
        raise TrainingError(
            f"{report} is of other settings, {found.choices} {found.settings}; name another file or delete it"
        )
    return found


def _train(
    dataset: Dataset,
    material: Material,
    variation: Variation,
    seed: int,
    epochs: int,
    architecture: Architecture | None,
    bars: Progress,
) -> Row:
    torch.manual_seed(seed)
    parts = material.parts
    recipe = recipe_of(dataset)
    network = recipe.shaped(architecture or Architecture())
    histories = variation.histories(material.sequences)
    model, sequences = prepare(histories, parts, network, (), variation.rules, variation.network)
    batch_users = default_batch_users(parts.train)
    schedule = Schedule(epochs=epochs, batch_users=batch_users, augmentation=variation.augmentation)
    schedule = schedule.following(recipe)
    labels = labels_of(sequences, material.outcomes)
    headline, judged = dataset.headline_horizon_days, judged_events(dataset, sequences)
    trainer = Trainer(model, sequences, parts, labels, schedule, seed, headline, judged=judged)
    started = time.process_time()
    history = trainer.fit(bars)
    add_trees(trainer, seed, bars)
    seconds = time.process_time() - started
    trainer.calibrate()
    figures = _judged(trainer, material)
    best = [record["validation_auc"] for record in history if record["validation_auc"] is not None]
    return Row(
        name=variation.name,
        options=variation.options,
        seed=seed,
        auc=figures["auc"],
        pr_auc=figures["pr_auc"],
        brier=figures["brier"],
        ece=figures["ece"],
        examples=int(figures["examples"] or 0),
        positives=int(figures["positives"] or 0),
        validation_auc=max(best, default=None),
        epochs=len(history),
        log_loss=figures["log_loss"],
        seconds=round(seconds, 1),
    )


def _judged(trainer: Trainer, material: Material) -> dict[str, float | int | None]:
    """Measures at the headline horizon over the examples of the test part whose outcome is known."""
    rows, logits = trainer.judged_logits(material.parts.test)
    score = cumulative(torch.from_numpy(logits))[:, trainer.headline].numpy()
    sequences = trainer.sequences
    owner = sequences.owners(rows)
    happened, known = within_horizons(sequences.times_ms[rows], owner, material.truth, trainer.horizons_days)
    usable = known[:, trainer.headline]
    outcome, told = happened[usable, trainer.headline], score[usable]
    loss = log_loss(outcome, told)
    return {**summary(outcome, told), "log_loss": None if loss is None else round(loss, 5)}


def page(found: Ablations) -> str:
    """The document of a report: each variation's figures and its difference to the default, per seed."""
    default = {row.seed: row for row in found.rows if row.name == DEFAULT}
    names = list(dict.fromkeys(row.name for row in found.rows))
    by_name = {name: [row for row in found.rows if row.name == name] for name in names}
    seeds = ", ".join(str(seed) for seed in found.settings["seeds"])
    data = ", ".join(f"{name} {value}" for name, value in found.settings.items() if name not in ("seeds", "epochs"))
    epochs = found.settings["epochs"]
    choices = CHOICES[found.choices]
    lines = [
        f"# {choices.title}",
        "",
        f"{choices.question}: trained with and without it, all else equal, and",
        "judged on clients and months that neither training nor calibration has seen. Written by",
        "",
        f"    {found.command}",
        "",
        f"Figures of the {found.headline_horizon_days}-day horizon, means over the seeds {seeds}. Each seed is a",
        f"portfolio ({data}) and a training of its own, of at most {epochs} epochs: small, so that the",
        "table is made in minutes. In brackets the differences to the default, seed by seed: where they change their",
        "sign, or are small beside each other, nothing was found.",
        "",
        "| variation | options | AUC | difference | PR-AUC | Brier | calibration error |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in by_name.items():
        lines.append(
            f"| {name} | {f'`{rows[0].options}`' if rows[0].options else ''} | {_mean([row.auc for row in rows], 4)} | "
            f"{_differences(rows, default, 'auc', 4)} | {_mean([row.pr_auc for row in rows], 4)} | "
            f"{_mean([row.brier for row in rows], 5)} | {_mean([row.ece for row in rows], 5)} |"
        )
    if all(row.log_loss is not None for row in found.rows):
        lines += ["", *_further(by_name, default)]
    counts = [f"{row.positives:,} of {row.examples:,}" for row in default.values()]
    lines += ["", f"Examples followed by a default: {'; '.join(counts)}.", ""]
    return "\n".join(lines)


def _further(by_name: Mapping[str, Sequence[Row]], default: Mapping[int, Row]) -> list[str]:
    """The table of what reports hold since there is a logarithmic loss in them, and of how the other figures differ."""
    lines = [
        "| variation | logarithmic loss | difference | difference of PR-AUC | difference of calibration error | "
        "processor seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in by_name.items():
        lines.append(
            f"| {name} | {_mean([row.log_loss for row in rows], 4)} | {_differences(rows, default, 'log_loss', 4)} | "
            f"{_differences(rows, default, 'pr_auc', 4)} | {_differences(rows, default, 'ece', 5)} | "
            f"{_mean([row.seconds for row in rows], 0)} |"
        )
    return lines


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "unknown"


def _differences(rows: Sequence[Row], default: Mapping[int, Row], figure: str, digits: int) -> str:
    pairs = [
        (getattr(row, figure), getattr(default[row.seed], figure))
        for row in rows
        if row.seed in default and row.name != DEFAULT
    ]
    found = [mine - base for mine, base in pairs if mine is not None and base is not None]
    if not found:
        return ""
    return f"{np.mean(found):+.{digits}f} ({', '.join(f'{value:+.{digits}f}' for value in found)})"
