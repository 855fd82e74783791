"""Trains the model on a data set and writes a bundle: the whole of `foreshock train`.

Reads events and outcomes through `model.datasets`; held-out clients take no part in weights, calibration or thresholds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from events.columns import DAY_MS, FIRST_CATEGORY_CODE, PROTECTED_FIELDS, UNSEEN_CODE
from events.types import KINDS, Kind
from model.batches import Batch, by_length, pad
from model.bundle import Bundle, Thresholds, Training
from model.calibration import fit_calibration
from model.card import card_figures, write_card
from model.datasets import Dataset, Outcome
from model.evaluate import GRACE_DAYS, judge, label_metrics, load_sequences, progress_bars
from model.export import Description, export_bundle, record_metrics
from model.history import vocabulary_sizes
from model.labels import Targets, Truth, targets, truth_of, within_horizons
from model.likelihood import hazard_loss
from model.metrics import roc_auc
from model.networks import Architecture, RiskModel, cumulative
from model.playback import score_sequences
from model.reference import take_reference, write_reference
from model.scored import scored, scored_users
from model.sequences import Sequences, learn_vocabularies
from model.splits import Part, Split, split
from model.thresholds import fit_thresholds

LEARNING_RATE = 1e-3
GRADIENT_NORM = 1.0
WINSOR_TAIL = 0.0005
LEAST_CATEGORY_COUNT = 20
UNSEEN_RATE = 0.01
"""Share of known categories shown as unseen in training, so that the unseen code means "something else", not noise."""
BLANK_RATE = 0.1
"""Share of (user, kind) blanked in training: the model must cope with, and can be asked about, a kind never seen."""
SEASONAL_DAYS = 730
LONGEST_HISTORY = 4_096
"""Events per user that training reads; a longer history's later events are left out (and counted in the metrics)."""
BOUND_ROWS = 500_000
SELECTION_USERS = 1_500
"""Users that early stopping looks at; calibration and thresholds use all of the validation part."""

EPOCHS = 30
ALERT_BUDGET = (40.0, 15.0)
"""Alerts per 1,000 users and 30 days, (medium, high). In the simulated portfolio about 12 of 1,000 reach 60 days past
due each month: high is a little above that, medium is what a team can look at for a glance each."""
MOST_BATCH_USERS = 64
LEAST_BATCHES = 50
"""Small data sets get smaller batches, so that an epoch has about this many steps."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Schedule:
    """How long and in what portions to train. Stops early after `patience` epochs without a better validation score.

    `weight_decay` is Adam's L2 penalty. It damps recurrences that amplify what is small: noise, and rounding.
    """

    epochs: int = EPOCHS
    patience: int = 4
    batch_users: int = 64
    alert_budget: tuple[float, float] = ALERT_BUDGET
    weight_decay: float = 0.0


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
    threads: int = 1,
    batch_users: int | None = None,
    architecture: Architecture | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train on `dataset`, write the bundle to `out`, and return the metrics that stand in its manifest.

    `command` is recorded as the way to make the bundle again. `protected_inputs` names protected profile fields to use.
    `alert_budget` is (medium, high) alerts per 1,000 users and 30 days; `batch_users` is by default chosen by the size
    of the training part. Equal arguments on the same machine give equal
    weights. Raises `TrainingError` when the data hold nothing to learn from, `ExportError` when the result must not be
    served, `ValueError` for a protected input that does not exist.
    """
    started = time.monotonic()
    unknown = set(protected_inputs) - PROTECTED_FIELDS
    if unknown:
        raise ValueError(f"protected_inputs: {sorted(unknown)} are none of {sorted(PROTECTED_FIELDS)}")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    architecture = architecture or Architecture()
    if dataset.headline_horizon_days not in architecture.horizons_days:
        raise TrainingError(
            f"{dataset.name}'s horizon of {dataset.headline_horizon_days} days is none of {architecture.horizons_days}"
        )
    with progress_bars(progress) as bars:
        provisional = load_sequences(dataset, bars, max_users=max_users, grace_days=grace_days)
        if not provisional.users:
            raise TrainingError(f"{dataset.name} has no events; check its options or its file")
        outcomes = dataset.outcomes()
        truth = truth_of(provisional, outcomes)
        parts = split(provisional, dataset, truth)
        if batch_users is None:
            batch_users = int(np.clip(len(parts.train.users) // LEAST_BATCHES, 8, MOST_BATCH_USERS))
        schedule = Schedule(
            epochs=epochs, batch_users=batch_users, alert_budget=alert_budget, weight_decay=weight_decay
        )
        model, sequences = _prepare(provisional, parts, architecture, protected_inputs)
        labels = _labels(sequences, outcomes)
        trainer = Trainer(model, sequences, parts, labels, schedule, seed, dataset.headline_horizon_days)
        history = trainer.fit(bars)
        thresholds = trainer.calibrate()
        training = Training(
            source=dataset.name,
            command=command,
            seed=seed,
            data_fingerprint=sequences.fingerprint,
            users=sequences.users,
            events=len(sequences.kinds),
            epochs=len(history),
            seconds=round(time.monotonic() - started, 1),
        )
        description = Description(
            name=dataset.name,
            headline_horizon_days=dataset.headline_horizon_days,
            vocabularies=sequences.vocabularies,
            thresholds=thresholds,
            training=training,
        )
        bars.add_task("exporting", total=None)
        bundle = export_bundle(model, description, out)
        metrics = {
            "split": _describe(parts, sequences, trainer.truncated),
            "history": history,
            "test": _test_metrics(bundle, sequences, parts, truth, outcomes),
        }
        bars.add_task("reference and model card", total=None)
        _write_companions(record_metrics(bundle, metrics), provisional, parts, outcomes)
    return metrics


def _write_companions(bundle: Bundle, provisional: Sequences, parts: Split, outcomes: Mapping[str, Outcome]) -> None:
    """`reference.json` and `MODEL_CARD.md` beside the manifest: of the finished bundle, and no part of it."""
    users = np.union1d(parts.validation.users, parts.test.users)
    source = scored(bundle, bundle.manifest.training.source, provisional, outcomes, users)
    write_reference(take_reference(source, parts.validation, "the validation part of the training run"), bundle.path)
    tested = scored_users(source, parts.test.users)
    from_ms = parts.until_ms if parts.by == "time" else 0
    write_card(bundle, card_figures(tested, "the run's test part", from_ms))


def _test_metrics(
    bundle: Bundle, sequences: Sequences, parts: Split, truth: Truth, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Metrics of the exported graphs on the test part, through the same step functions that serve."""
    scores = score_sequences(bundle, sequences, parts.test.users)
    from_ms = parts.until_ms if parts.by == "time" else 0
    judged = judge(bundle, sequences, truth, scores, parts.test.users, from_ms)
    labels = {user_id: outcome.label for user_id, outcome in outcomes.items()}
    return {**judged, **label_metrics(bundle, sequences, scores, labels, parts.test.users)}


def _prepare(
    provisional: Sequences, parts: Split, architecture: Architecture, protected_inputs: Iterable[str]
) -> tuple[RiskModel, Sequences]:
    """A fresh model whose vocabularies, winsor bounds and scales come from the training part alone."""
    counts = np.zeros(provisional.users, dtype=np.int64)
    counts[parts.train.users] = parts.train.counts
    rows = {kind: provisional.rows_of(kind, counts) for kind in KINDS}
    if not any(len(part) for part in rows.values()):
        raise TrainingError("the training part holds no event; take more users or months")
    vocabularies = learn_vocabularies(provisional, rows, LEAST_CATEGORY_COUNT, protected_inputs)
    sequences = provisional.recoded(vocabularies)
    model = RiskModel(architecture, vocabulary_sizes(vocabularies))
    trained = parts.train.users[parts.train.counts > 0]
    starts = sequences.merged_starts[trained]
    span_ms = sequences.times_ms[starts + counts[trained] - 1].max() - sequences.times_ms[starts].min()
    for kind in KINDS:
        stride = max(1, len(rows[kind]) // BOUND_ROWS)
        model.encoder(kind).features.set_bounds(
            sequences.numeric[kind][rows[kind][::stride]], WINSOR_TAIL, seasonal=bool(span_ms >= SEASONAL_DAYS * DAY_MS)
        )
    return model, sequences


class Trainer:
    """Fits a prepared model to the training part and calibrates it on the validation part."""

    def __init__(
        self,
        model: RiskModel,
        sequences: Sequences,
        parts: Split,
        labels: NDArray[np.int8],
        schedule: Schedule,
        seed: int,
        headline_days: int,
    ) -> None:
        self.model = model
        self.sequences = sequences
        self.parts = parts
        self.labels = labels
        self.schedule = schedule
        self.horizons_days = model.architecture.horizons_days
        self.headline = self.horizons_days.index(headline_days)
        self.random = np.random.default_rng(seed)
        self.counts = np.minimum(parts.train.counts, LONGEST_HISTORY)
        self.truncated = int((parts.train.counts > LONGEST_HISTORY).sum())
        self.targets = self._targets(parts.train.truth)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=schedule.weight_decay)
        self._open_at_base_rate()

    def fit(self, bars: Progress) -> list[dict[str, float | None]]:
        """Train until the schedule ends or validation stops improving; the model keeps its best weights.

        Returns one record per epoch: mean training loss and validation AUC.
        """
        best_score, best_weights, best_epoch = -np.inf, copy.deepcopy(self.model.state_dict()), -1
        history: list[dict[str, float | None]] = []
        selection = self._selection()
        task = bars.add_task("training", total=None)
        for epoch in range(self.schedule.epochs):
            loss = self._epoch(bars, task, epoch)
            score = self._validation_auc(selection)
            history.append({"loss": round(loss, 6), "validation_auc": None if score is None else round(score, 5)})
            shown = "unknown" if score is None else f"{score:.4f}"
            bars.update(task, description=f"epoch {epoch + 1}: loss {loss:.5f}, validation AUC {shown}")
            # Without both outcomes in validation there is no AUC; the training loss must then do.
            judged = -loss if score is None else score
            if judged > best_score:
                best_score, best_epoch, best_weights = judged, epoch, copy.deepcopy(self.model.state_dict())
            elif epoch - best_epoch >= self.schedule.patience:
                break
        self.model.load_state_dict(best_weights)
        return history

    def calibrate(self) -> Thresholds:
        """Set the calibration of the score graph and return thresholds, both from the validation part."""
        part = self.parts.validation
        rows, logits = self._logits(part)
        owner = self.sequences.user_of_event[rows]
        found = targets(self.sequences.times_ms[rows], owner, part.truth, self.horizons_days)
        calibration = fit_calibration(logits, found)
        fusion = self.model.fusion
        fusion.slope.copy_(torch.tensor(calibration.slope))
        fusion.intercept.copy_(torch.tensor(calibration.intercept))
        calibrated = torch.from_numpy(logits) * fusion.slope + fusion.intercept
        scores = cumulative(calibrated)[:, self.headline].numpy()
        at_risk = self.sequences.times_ms[rows] < part.truth.onset_ms[owner]
        times = self.sequences.times_ms[rows]
        return fit_thresholds(times[at_risk], owner[at_risk], scores[at_risk], self.schedule.alert_budget)

    def _targets(self, truth: Truth) -> Targets:
        sequences = self.sequences
        return targets(sequences.times_ms, sequences.user_of_event, truth, self.horizons_days)

    def _open_at_base_rate(self) -> None:
        """Start from the training part's mean hazards; else the first epochs only learn that onsets are rare."""
        counts = np.zeros(self.sequences.users, dtype=np.int64)
        counts[self.parts.train.users] = self.counts
        position = np.arange(len(self.sequences.times_ms)) - np.repeat(
            self.sequences.merged_starts[:-1], np.diff(self.sequences.merged_starts)
        )
        mine = position < np.repeat(counts, np.diff(self.sequences.merged_starts))
        onsets = self.targets.happened[mine].sum(0)
        watched = self.targets.exposure[mine].sum(0)
        if not onsets.any():
            raise TrainingError("no onset is known in the training part; take more users or months")
        rate = np.clip((onsets + 0.5) / (watched + 1.0), 1e-6, 0.9)
        with torch.no_grad():
            self.model.fusion.logits_.bias.copy_(torch.from_numpy(np.log(rate / (1 - rate))))

    def _epoch(self, bars: Progress, task: Any, epoch: int) -> float:
        self.model.train()
        batches = list(by_length(self.counts, self.schedule.batch_users, self.random))
        bars.reset(task, total=len(batches), description=f"epoch {epoch + 1}")
        total, weight = 0.0, 0
        for positions in batches:
            batch = pad(self.sequences, self.parts.train.users[positions], self.counts[positions])
            exposure = torch.from_numpy(self.targets.exposure[batch.rows])
            happened = torch.from_numpy(self.targets.happened[batch.rows]).float()
            logits = self.model(batch.numeric, self._corrupted(batch), batch.latest, self._keep(len(positions)))
            loss = hazard_loss(logits, exposure, happened)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
            self.optimiser.step()
            total += float(loss.detach()) * len(batch.rows)
            weight += len(batch.rows)
            bars.advance(task)
        mean = total / max(weight, 1)
        if not np.isfinite(mean):
            raise TrainingError(f"the loss of epoch {epoch + 1} is not finite; look for broken amounts in the source")
        return mean

    def _corrupted(self, batch: Batch) -> dict[Kind, Tensor]:
        corrupted = {}
        for kind, codes in batch.categorical.items():
            hide = (torch.rand(codes.shape) < UNSEEN_RATE) & (codes >= FIRST_CATEGORY_CODE)
            corrupted[kind] = torch.where(hide, UNSEEN_CODE, codes)
        return corrupted

    def _keep(self, users: int) -> Tensor:
        return (torch.rand(users, len(KINDS)) >= BLANK_RATE).float()

    def _selection(self) -> Part:
        part = self.parts.validation
        if len(part.users) <= SELECTION_USERS:
            return part
        chosen = np.sort(np.random.default_rng(0).choice(len(part.users), SELECTION_USERS, replace=False))
        return Part(part.users[chosen], part.counts[chosen], part.skips[chosen], part.truth)

    def _validation_auc(self, part: Part) -> float | None:
        """AUC at the headline horizon: of each client's last score where the source has labels, else of every event."""
        rows, logits = self._logits(part)
        if not len(rows):
            return None
        score = cumulative(torch.from_numpy(logits))[:, self.headline].numpy()
        owner = self.sequences.user_of_event[rows]
        if (self.labels[part.users] >= 0).all():
            order = np.argsort(rows)
            rows, owner, score = rows[order], owner[order], score[order]
            last = np.append(owner[1:] != owner[:-1], True)
            return roc_auc(self.labels[owner[last]] > 0, score[last])
        happened, known = within_horizons(self.sequences.times_ms[rows], owner, part.truth, self.horizons_days)
        usable = known[:, self.headline]
        return roc_auc(happened[usable, self.headline], score[usable])

    @torch.no_grad()
    def _logits(self, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of a part's examples in merged order, and their hazard logits `[rows, intervals]`."""
        self.model.eval()
        rows = [np.zeros(0, dtype=np.int64)]
        logits = [np.zeros((0, len(self.horizons_days)), dtype=np.float32)]
        for positions in by_length(part.counts, 4 * self.schedule.batch_users):
            batch = pad(self.sequences, part.users[positions], part.counts[positions], part.skips[positions])
            rows.append(batch.rows)
            logits.append(self.model(batch.numeric, batch.categorical, batch.latest).numpy())
        found = np.concatenate(rows)
        order = np.argsort(found)
        return found[order], np.concatenate(logits)[order]


def _labels(sequences: Sequences, outcomes: Mapping[str, Outcome]) -> NDArray[np.int8]:
    """The source's own label per user, -1 where it has none."""
    labels = (getattr(outcomes.get(user_id), "label", None) for user_id in sequences.user_ids)
    return np.array([-1 if label is None else label for label in labels], dtype=np.int8)


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
