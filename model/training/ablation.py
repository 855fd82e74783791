"""Ablations: the effect of each choice about inputs and augmentation, by training with and without it, all else equal.

Every variation changes one of the default options. Judged on clients and months that neither training nor calibration
has seen; no default may be chosen by these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from model.networks.risk_model import cumulative
from model.statistics.metrics import summary
from model.training.augmentation import Augmentation
from model.training.input_rules import InputRules
from model.training.preparation import TrainingError, labels_of, prepare
from model.training.train import Material, default_batch_users, read
from model.training.trainer import Schedule, Trainer

DEFAULT = "as trained by default"


@dataclass(frozen=True)
class Variation:
    """One changed choice: its name in the table, the options of `foreshock train` for it, and their values."""

    name: str
    options: str
    augmentation: Augmentation = field(default_factory=Augmentation)
    rules: InputRules = field(default_factory=InputRules)


VARIATIONS: tuple[Variation, ...] = (
    Variation(DEFAULT, ""),
    Variation("jitter", "--jitter 0.1", augmentation=Augmentation(jitter=0.1)),
    Variation("time warp", "--time-warp 0.2", augmentation=Augmentation(time_warp=0.2)),
    Variation("no winsorising", "--winsor-tail 0", rules=InputRules(winsor_tail=0.0)),
    Variation("strong winsorising", "--winsor-tail 0.02", rules=InputRules(winsor_tail=0.02)),
    Variation("missing as zero", "--missing zero", rules=InputRules(missing="zero")),
    Variation("order instead of time", "--alignment order", rules=InputRules(alignment="order")),
)

Opener: TypeAlias = Callable[[int], Dataset]
"""Opens the data set of a seed."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One training: figures of the test part at the headline horizon."""

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


class Ablations(msgspec.Struct, frozen=True, kw_only=True):
    """All trainings of one command, and the settings that they share."""

    command: str
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
    variations: Sequence[Variation] = VARIATIONS,
    progress: bool = True,
) -> Ablations:
    """Train every variation under every seed and write `report`, a JSON file, after each, so that a stopped run can be
    continued.

    `settings` are the values that `open_seed` depends on. Raises `TrainingError` when `report` is of other settings, or
    as training does.
    """
    shared = {**settings, "epochs": epochs, "seeds": list(seeds)}
    done: Ablations | None = _earlier(report, shared)
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


def _earlier(report: Path, settings: Mapping[str, Any]) -> Ablations | None:
    if not report.exists():
        return None
    try:
        found = msgspec.json.decode(report.read_bytes(), type=Ablations)
    except msgspec.DecodeError as error:
        raise TrainingError(f"{report} is no report of ablations ({error}); name another file") from None
    if found.settings != settings:
        raise TrainingError(f"{report} is of other settings, {found.settings}; name another file or delete it")
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
    model, sequences = prepare(material.sequences, parts, network, (), variation.rules)
    batch_users = default_batch_users(parts.train)
    schedule = Schedule(epochs=epochs, batch_users=batch_users, augmentation=variation.augmentation)
    schedule = schedule.following(recipe)
    labels = labels_of(sequences, material.outcomes)
    headline, judged = dataset.headline_horizon_days, judged_events(dataset, sequences)
    trainer = Trainer(model, sequences, parts, labels, schedule, seed, headline, judged=judged)
    history = trainer.fit(bars)
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
    )


def _judged(trainer: Trainer, material: Material) -> dict[str, float | int | None]:
    """Measures at the headline horizon over the examples of the test part whose outcome is known."""
    rows, logits = trainer.judged_logits(material.parts.test)
    score = cumulative(torch.from_numpy(logits))[:, trainer.headline].numpy()
    sequences = trainer.sequences
    owner = sequences.user_of_event[rows]
    happened, known = within_horizons(sequences.times_ms[rows], owner, material.truth, trainer.horizons_days)
    usable = known[:, trainer.headline]
    return summary(happened[usable, trainer.headline], score[usable])


def page(found: Ablations) -> str:
    """The document of a report: each variation's figures and its difference to the default, per seed."""
    default = {row.seed: row for row in found.rows if row.name == DEFAULT}
    names = list(dict.fromkeys(row.name for row in found.rows))
    seeds = ", ".join(str(seed) for seed in found.settings["seeds"])
    data = ", ".join(f"{name} {value}" for name, value in found.settings.items() if name not in ("seeds", "epochs"))
    epochs = found.settings["epochs"]
    lines = [
        "# Ablations",
        "",
        "What each choice about inputs and augmentation is worth: trained with and without it, all else equal, and",
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
    for name in names:
        rows = [row for row in found.rows if row.name == name]
        lines.append(
            f"| {name} | {f'`{rows[0].options}`' if rows[0].options else ''} | {_mean([row.auc for row in rows], 4)} | "
            f"{_differences(rows, default)} | {_mean([row.pr_auc for row in rows], 4)} | "
            f"{_mean([row.brier for row in rows], 5)} | {_mean([row.ece for row in rows], 5)} |"
        )
    counts = [f"{row.positives:,} of {row.examples:,}" for row in default.values()]
    lines += ["", f"Examples followed by a default: {'; '.join(counts)}.", ""]
    return "\n".join(lines)


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "unknown"


def _differences(rows: Sequence[Row], default: Mapping[int, Row]) -> str:
    pairs = [(row.auc, default[row.seed].auc) for row in rows if row.seed in default and row.name != DEFAULT]
    found = [mine - base for mine, base in pairs if mine is not None and base is not None]
    if not found:
        return ""
    return f"{np.mean(found):+.4f} ({', '.join(f'{value:+.4f}' for value in found)})"
