"""Trains the model on a data set and writes a bundle: all of `foreshock train` but its command line.

Reads events and outcomes through `model.datasets`; held-out clients take no part in weights, calibration or thresholds.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from events.calendar import DAY_MS, UTC, Calendar
from events.columns import PROTECTED_FIELDS
from events.feedback import Feedback
from model.architectures import Architecture
from model.bundle import Bundle, Training
from model.datasets.dataset import Dataset
from model.datasets.recipe import Recipe, recipe_of
from model.evaluation.card import card_figures, write_card
from model.evaluation.drift_reference import take_drift_reference, write_drift_reference
from model.evaluation.evaluate import GRACE_DAYS, judge, label_metrics, progress_bars
from model.evaluation.playback import score_sequences
from model.evaluation.scored_source import scored, scored_users
from model.histories.arrears import judged_events
from model.histories.labels import Truth
from model.histories.sequences import Sequences
from model.histories.splits import Part, Split
from model.networks.fusion import cumulative
from model.networks.risk_model import RiskModel
from model.training.augmentation import Augmentation
from model.training.boosting import add_trees
from model.training.checkpoint import Checkpoints, folder_beside
from model.training.curves import CURVES_FILE, curves
from model.training.export import Description, export_bundle, record_metrics
from model.training.feedback import Verdict, verdict, weights_of
from model.training.input_rules import InputRules
from model.training.material import Material, read
from model.training.preparation import TrainingError, from_bundle
from model.training.preparation import labels_of as _labels
from model.training.preparation import prepare as _prepare
from model.training.tensorboard import TensorBoard
from model.training.trainer import ALERT_BUDGET, EPOCHS, LEARNING_RATE, EpochRecord, OnEpoch, Schedule, Trainer

__all__ = ["ALERT_BUDGET", "EPOCHS", "Schedule", "Trainer", "TrainingError", "read", "train"]

FINE_TUNING_RATE = 3e-4
"""Learning rate when training starts from a bundle's weights. It is small because Adam's first steps have the size of
the rate, whatever the gradient."""
BATCH_USERS = 64
MOST_BATCH_USERS = 256
BATCH_EVENTS = 4_096
"""A batch has `BATCH_USERS` users, or more where histories are short: up to about so many events and at most
`MOST_BATCH_USERS` users."""
LEAST_BATCHES = 50
"""Small data sets get smaller batches, so that an epoch has about this many steps."""

Device: TypeAlias = Literal["auto", "cpu", "cuda"]


Finish: TypeAlias = Callable[[Bundle, Progress], Bundle]


def train(
    dataset: Dataset,
    out: Path,
    *,
    seed: int = 1,
    epochs: int = EPOCHS,
    weight_decay: float = 0.0,
    command: str = "",
    max_users: int | None = None,
    protected_inputs: Iterable[str] = (),
    alert_budget: tuple[float, float] = ALERT_BUDGET,
    grace_days: float = GRACE_DAYS,
    lender_time_zone: str | None = None,
    threads: int = 1,
    batch_users: int | None = None,
    architecture: Architecture | None = None,
    progress: bool = True,
    learning_rate: float | None = None,
    dropout: float | None = None,
    augmentation: Augmentation | None = None,
    rules: InputRules | None = None,
    start: Path | None = None,
    start_public_key: Path | None = None,
    device: Device = "auto",
    restart: bool = False,
    tensorboard: Path | None = None,
    feedback: Sequence[Feedback] | None = None,
    finish: Finish | None = None,
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Train on `dataset`, write the bundle to `out`, and return the metrics in its manifest.

    `command` is recorded as the way to make the bundle again. `protected_inputs` names protected profile fields to use.
    `lender_time_zone` is that of the lender's days, by default UTC, and with `start` that bundle's.
    `alert_budget` is (medium, high) alerts per 1,000 users and 30 days; `batch_users` is by default chosen by the size
    of the training part. With `start`, a bundle, that bundle is trained further: its vocabularies, winsor bounds and
    scales stay, calibration and thresholds are fitted again. `learning_rate` is by default 1e-3, and 3e-4 from a
    bundle; `dropout` is by default the architecture's. `start_public_key` is for `Bundle.load`. The data set's recipe
    (`model.datasets.recipe`) decides what no argument does, for a new model.

    A checkpoint is written beside `out` after every epoch, and deleted when the bundle is complete; a run that finds
    one of the same settings continues from there, unless `restart`. `tensorboard` is a folder for logs.

    With `feedback` a second model is trained, whose examples have weights (`model.training.feedback`), and kept if it
    ranks later months better; the metrics hold both figures as `feedback`.

    With `scratch`, a folder, the columns of the events are kept in files there while the run lasts, and not in memory.
    The result is the same.

    `finish` takes the complete bundle, may add to its manifest, and returns the bundle as it then is. The drift
    reference and the card, which are beside the manifest, are made afterwards.

    Equal arguments on the same machine's processor give equal weights, interrupted or not. Raises `TrainingError` when
    the data contain no examples or the arguments contradict each other, `CheckpointError` for a checkpoint of another
    run, `ExportError` when the result must not be served, `ValueError` for a value that does not exist.
    """
    started = time.monotonic()
    protected = sorted(set(protected_inputs))
    _check(protected, architecture, dropout, rules, start)
    place = device_of(device)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    with progress_bars(progress) as bars:
        base = None if start is None else Bundle.load(start, start_public_key)
        zone = lender_time_zone or (base.manifest.lender_time_zone if base is not None else UTC.time_zone)
        material = read(
            dataset, bars, max_users=max_users, grace_days=grace_days, calendar=Calendar(zone), scratch=scratch
        )
        recipe = recipe_of(dataset) if base is None else Recipe()
        prepared = _prepared(base, recipe, material, architecture, dropout, protected, rules)
        asked = Schedule(
            epochs=epochs,
            batch_users=batch_users or default_batch_users(material.parts.train),
            alert_budget=alert_budget,
            weight_decay=weight_decay,
            learning_rate=learning_rate or (LEARNING_RATE if base is None else FINE_TUNING_RATE),
            augmentation=augmentation or Augmentation(),
        )
        schedule = asked.following(recipe)
        options = {
            **_chosen(base, schedule, rules, protected),
            "grace_days": grace_days,
            **({} if zone == UTC.time_zone else {"lender_time_zone": zone}),
            "device": place.type,
            "threads": threads,
        }
        if feedback is not None:
            _require_later_months(material.parts, prepared[0])
        # The networks that are compared begin alike.
        begun = None if feedback is None else copy.deepcopy(prepared)
        trainer = _trainer(dataset, material, prepared, schedule, seed, place, fine_tuning=base is not None)
        checkpoints = Checkpoints(folder_beside(out), _settings(trainer, material.truth, seed, options))
        if restart:
            checkpoints.clear()
        history = trainer.fit(bars, checkpoints, _told(checkpoints.folder / CURVES_FILE, tensorboard))
        found: dict[str, Any] | None = None
        if feedback is not None and begun is not None:

            def unfitted(seed: int) -> Trainer:
                own = copy.deepcopy(begun)
                return _trainer(dataset, material, own, schedule, seed, place, fine_tuning=base is not None)

            found, trainer, history = _with_feedback(unfitted, (trainer, history), feedback, seed, bars)
        add_trees(trainer, seed, bars)
        thresholds = trainer.calibrate()
        seconds = round(time.monotonic() - started, 1)
        description = Description(
            dataset.name,
            trainer.headline_days,
            trainer.sequences.vocabularies,
            thresholds,
            _provenance(dataset.name, command, seed, trainer.sequences, len(history), seconds),
            lender_time_zone=zone,
        )
        metrics = _write_bundle(trainer, description, material, options, history, out, bars, finish, found)
        checkpoints.clear()
    return metrics


def default_batch_users(part: Part) -> int:
    """Users per batch that suit the size of a training part and the length of its histories."""
    users = max(len(part.users), 1)
    by_length = int(np.clip(BATCH_EVENTS * users // max(1, int(part.counts.sum())), BATCH_USERS, MOST_BATCH_USERS))
    return max(8, min(users // LEAST_BATCHES, by_length))


def device_of(name: Device) -> torch.device:
    """The device of a name; "auto" takes a GPU if there is one. On a GPU a seed fixes all random numbers, but not the
    last bits of sums. Raises `TrainingError` when no GPU is found."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise TrainingError("PyTorch sees no CUDA device here; leave --device out, or give --device cpu")
    if name == "cpu" or not there:
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")


def peak_memory_mib() -> int:
    """The most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _check(
    protected: list[str],
    architecture: Architecture | None,
    dropout: float | None,
    rules: InputRules | None,
    start: Path | None,
) -> None:
    unknown = set(protected) - PROTECTED_FIELDS
    if unknown:
        raise ValueError(f"protected_inputs: {sorted(unknown)} are none of {sorted(PROTECTED_FIELDS)}")
    if start is None:
        return
    given: dict[str, Any] = {"protected inputs": protected, "an architecture": architecture, "dropout": dropout}
    given["rules for inputs"] = rules
    fixed = [name for name, value in given.items() if value is not None and value != []]
    if fixed:
        raise TrainingError(
            f"{start} fixes its inputs and its network, but {' and '.join(fixed)} were given; leave them out"
        )


def _prepared(
    base: Bundle | None,
    recipe: Recipe,
    material: Material,
    architecture: Architecture | None,
    dropout: float | None,
    protected: list[str],
    rules: InputRules | None,
) -> tuple[RiskModel, Sequences]:
    """The network to train, that of the bundle `base` or a new one, and the histories as it takes them."""
    if base is not None:
        return from_bundle(base, material.sequences)
    network = recipe.shaped(architecture or Architecture())
    if dropout is not None:
        network = replace(network, dropout=dropout)
    return _prepare(material.sequences, material.parts, network, protected, rules)


def _chosen(base: Bundle | None, schedule: Schedule, rules: InputRules | None, protected: list[str]) -> dict[str, Any]:
    """What a run was asked for, as the manifest has it; a bundle that is trained further brings its own rules."""
    return {
        "schedule": asdict(schedule),
        "rules": None if base is not None else asdict(rules or InputRules()),
        "protected_inputs": protected,
        "started_from": None if base is None else base.fingerprint_hex,
    }


def _write_bundle(
    trainer: Trainer,
    description: Description,
    material: Material,
    options: Mapping[str, Any],
    history: list[EpochRecord],
    out: Path,
    bars: Progress,
    finish: Finish | None,
    feedback: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Export the trained network to `out` with all that lies beside its manifest; returns the metrics in that.

    `feedback` is what came of a comparison with a model that heeds it."""
    bars.add_task("exporting", total=None)
    bundle = export_bundle(trainer.model.cpu(), description, out)
    metrics = _metrics(trainer, bundle, material, options, history)
    if feedback is not None:
        metrics["feedback"] = dict(feedback)
    bundle = record_metrics(bundle, metrics)
    if finish is not None:
        bundle = finish(bundle, bars)
    bars.add_task("reference and model card", total=None)
    _write_companions(bundle, material, trainer.judged)
    (out / CURVES_FILE).write_text(curves(history), encoding="utf-8")
    return metrics


def _trainer(
    dataset: Dataset,
    material: Material,
    prepared: tuple[RiskModel, Sequences],
    schedule: Schedule,
    seed: int,
    device: torch.device,
    *,
    fine_tuning: bool,
) -> Trainer:
    model, sequences = prepared
    headline, horizons = dataset.headline_horizon_days, model.architecture.horizons_days
    if headline not in horizons:
        raise TrainingError(f"{dataset.name}'s horizon of {headline} days is none of {horizons}")
    return Trainer(
        model,
        sequences,
        material.parts,
        _labels(sequences, material.outcomes),
        schedule,
        seed,
        headline,
        device=device,
        fine_tuning=fine_tuning,
        judged=judged_events(dataset, sequences),
    )


def _require_later_months(parts: Split, model: RiskModel) -> None:
    """Raises `TrainingError` where feedback could not be judged."""
    if parts.by != "time":
        raise TrainingError(
            "feedback is judged on months after those that a model is trained on, and this source is split by client; "
            "train it without --feedback"
        )
    if model.architecture.boosted:
        raise TrainingError("trees beside a network take no weights; train with another --architecture, or no feedback")


def _with_feedback(
    unfitted: Callable[[int], Trainer],
    plain: tuple[Trainer, list[EpochRecord]],
    feedback: Sequence[Feedback],
    seed: int,
    bars: Progress,
) -> tuple[dict[str, Any], Trainer, list[EpochRecord]]:
    """Fit a model with feedback and compare; returns what the manifest says of it, and the trainer that is kept, with
    its history. `unfitted` makes trainers by their seed.

    The interval of the gain says how it varies with the borrowers, not with the draws of a training. So a gain must
    be there again with another seed, of both models. This half keeps no checkpoint: interrupted, it begins anew.
    """
    trainer, history = plain
    made = weights_of(trainer.sequences, feedback, trainer.headline_days)

    def fitted(own_seed: int, weights: NDArray[np.float32] | None) -> tuple[Trainer, list[EpochRecord]]:
        torch.manual_seed(own_seed)
        one = unfitted(own_seed)
        one.weights = weights
        return one, one.fit(bars)

    weighted, weighted_history = fitted(seed, made.weights)
    found = _compared(trainer, weighted, made.weights)
    again: Verdict | None = None
    if found.wins:
        other = seed + 1
        again = _compared(fitted(other, None)[0], fitted(other, made.weights)[0], made.weights)
    used = again is not None and again.wins
    gain_again = None if again is None else again.gain
    told = {**made.described(), **asdict(found), "gain_again": gain_again, "used": used}
    return (told, weighted, weighted_history) if used else (told, trainer, history)


def _compared(plain: Trainer, weighted: Trainer, weights: NDArray[np.float32]) -> Verdict:
    """Two fitted models on the validation part."""
    part = plain.parts.validation
    rows, logits = plain.judged_logits(part)
    without, with_feedback = (
        cumulative(torch.from_numpy(one))[:, plain.headline].numpy()
        for one in (logits, weighted.judged_logits(part)[1])
    )
    return verdict(plain.sequences, part, rows, (without, with_feedback), weights, plain.horizons_days, plain.headline)


def _settings(trainer: Trainer, truth: Truth, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that a run's result depends on; a checkpoint of other settings is refused."""
    judged = trainer.judged
    return {
        **options,
        **({} if judged is None else {"judged_events": int(judged.sum())}),
        "seed": seed,
        "architecture": trainer.model.architecture.as_manifest(),
        "data": trainer.sequences.fingerprint,
        "outcomes": truth.fingerprint(),
        "torch": torch.__version__,
    }


def _provenance(source: str, command: str, seed: int, sequences: Sequences, epochs: int, seconds: float) -> Training:
    return Training(
        source=source,
        command=command,
        seed=seed,
        data_fingerprint=sequences.fingerprint,
        users=sequences.users,
        events=len(sequences.kinds),
        epochs=epochs,
        seconds=seconds,
    )


def _told(picture: Path, tensorboard: Path | None) -> OnEpoch:
    """Draws the learning curves after every epoch, and logs them to `tensorboard` if given."""
    board = None if tensorboard is None else TensorBoard(tensorboard)

    def told(history: list[EpochRecord]) -> None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(curves(history), encoding="utf-8")
        if board is not None:
            board.add(history)

    return told


def _write_companions(bundle: Bundle, material: Material, judged: NDArray[np.bool_] | None) -> None:
    """Write `reference.json` and `MODEL_CARD.md` beside the manifest; they describe the bundle and are no part of
    it."""
    parts = material.parts
    users = np.union1d(parts.validation.users, parts.test.users)
    name = bundle.manifest.training.source
    source = scored(bundle, name, material.sequences, material.outcomes, users, judged=judged)
    write_drift_reference(
        take_drift_reference(source, parts.validation, "the validation part of the training run"), bundle.path
    )
    tested = scored_users(source, parts.test.users)
    from_ms = parts.until_ms if parts.by == "time" else 0
    write_card(bundle, card_figures(tested, "the run's test part", from_ms))


def _metrics(
    trainer: Trainer, bundle: Bundle, material: Material, options: Mapping[str, Any], history: list[EpochRecord]
) -> dict[str, Any]:
    """The metrics in the manifest, as values that JSON preserves."""
    share = trainer.padding_share
    return {
        "split": _describe(material.parts, trainer.sequences, trainer.truncated),
        "options": json.loads(json.dumps(options)),
        "history": history,
        "padding_share": None if share is None else round(share, 4),
        "test": _test_metrics(bundle, trainer, material),
        "peak_memory_mib": peak_memory_mib(),
    }


def _test_metrics(bundle: Bundle, trainer: Trainer, material: Material) -> dict[str, Any]:
    """Metrics on the test part, computed with the exported graphs that serving runs."""
    parts, sequences = material.parts, trainer.sequences
    scores = score_sequences(bundle, sequences, parts.test.users)
    from_ms = parts.until_ms if parts.by == "time" else 0
    judged = judge(bundle, sequences, material.truth, scores, parts.test.users, from_ms, trainer.judged)
    labels = {user_id: outcome.label for user_id, outcome in material.outcomes.items()}
    return {**judged, **label_metrics(bundle, sequences, scores, labels, parts.test.users)}


def _describe(parts: Split, sequences: Sequences, truncated: int) -> dict[str, Any]:
    described: dict[str, Any] = {"by": parts.by, "truncated_users": truncated}
    if parts.by == "time":
        first = int(sequences.times_ms.min())
        described["train_until_day"] = round((parts.from_ms - first) / DAY_MS)
        described["validate_until_day"] = round((parts.until_ms - first) / DAY_MS)
    for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        described[f"{name}_users"] = len(part.users)
        described[f"{name}_events"] = int((part.counts - np.minimum(part.skips, part.counts)).sum())
    return described
