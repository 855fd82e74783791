"""Fits a prepared model to the training part of a split and calibrates it on the validation part.

Takes histories and truths, never a data set; must not use the test part.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from model.bundle import Thresholds
from model.datasets.recipe import Criterion, RateDecay, Recipe
from model.evaluation.thresholds import fit_thresholds
from model.histories.labels import targets, targets_of_all, within_horizons
from model.histories.sequences import Sequences
from model.histories.splits import Part, Split
from model.networks.boosted import BoostedFusion
from model.networks.fusion import cumulative
from model.networks.likelihood import hazard_loss
from model.networks.risk_model import RiskModel
from model.statistics.metrics import roc_auc
from model.training.augmentation import Augmentation
from model.training.batches import by_length, pad
from model.training.calibration import fit_calibration
from model.training.checkpoint import Checkpoints, Snapshot
from model.training.preparation import TrainingError

LEARNING_RATE = 1e-3
GRADIENT_NORM = 1.0
LONGEST_HISTORY = 4_096
"""Events per user that training reads; a longer history's later events are left out (and counted in the metrics)."""
SELECTION_USERS = 1_500
"""Users that early stopping is judged by; calibration and thresholds use all of the validation part."""
EPOCHS = 30
ALERT_BUDGET = (40.0, 15.0)
"""Alerts per 1,000 users and 30 days, (medium, high). In the simulated portfolio about 12 of 1,000 users reach 60 days
past due each month: high is a little above that, medium is what a team can review briefly."""

SLOWEST_SHARE = 0.02
"""Share of the learning rate at the end of a decay; with zero the last steps would change nothing."""

EpochRecord: TypeAlias = dict[str, float | None]
"""Figures of an epoch: `loss` and `validation_loss` (mean over interval examples), `validation_auc` at the headline
horizon; None where the validation part lacks an outcome."""
OnEpoch: TypeAlias = Callable[[list[EpochRecord]], None]
"""Called with all records so far after every epoch; an exception from it ends the training."""


@dataclass(frozen=True)
class Schedule:
    """Epochs, batch size, learning rate and stopping rule. Stops early after `patience` epochs without a better
    validation score.

    `weight_decay` is Adam's L2 penalty. It damps recurrences that amplify noise and rounding errors.

    `compare_by` is the figure of the validation part by which epochs are compared; "last" keeps the last epoch and
    never stops early, because with a few dozen defaults the epoch with the best AUC or loss is best by chance.

    With `rate_decay` "cosine" the learning rate falls along half a cosine from `learning_rate` to a fiftieth of it in
    the last epoch (Loshchilov & Hutter 2017, without restarts), and training does not stop early, because the weights
    converge in the last epochs.
    """

    epochs: int = EPOCHS
    patience: int = 4
    batch_users: int = 64
    alert_budget: tuple[float, float] = ALERT_BUDGET
    weight_decay: float = 0.0
    learning_rate: float = LEARNING_RATE
    augmentation: Augmentation = field(default_factory=Augmentation)
    rate_decay: RateDecay = "constant"
    compare_by: Criterion = "auc"

    def following(self, recipe: Recipe) -> Schedule:
        """The schedule with the choices of a data set's recipe; a weight decay that was set is kept."""
        return replace(
            self,
            rate_decay=recipe.rate_decay,
            compare_by=recipe.compare_by,
            weight_decay=self.weight_decay or recipe.weight_decay,
        )

    def rate_at(self, done: float) -> float:
        """The learning rate after a share `done`, 0 to 1, of all epochs."""
        if self.rate_decay == "constant":
            return self.learning_rate
        falling = (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * (SLOWEST_SHARE + (1 - SLOWEST_SHARE) * falling)


class Trainer:
    """Fits a prepared model to the training part and calibrates it on the validation part.

    With `fine_tuning` the initial weights are kept unless an epoch is better. On the processor, equal arguments and an
    equal `torch.manual_seed` before the model was made give equal weights. `judged` bool `[N]` marks the events that
    the source judges, in merged order (default: all): the model reads the others as history, and they count neither in
    the loss nor in stopping, calibration or thresholds.
    `weights` float32 `[N]` is how often an event counts in the loss, in the order of `judged` (default: once).
    """

    def __init__(
        self,
        model: RiskModel,
        sequences: Sequences,
        parts: Split,
        labels: NDArray[np.int8],
        schedule: Schedule,
        seed: int,
        headline_days: int,
        *,
        device: torch.device | None = None,
        fine_tuning: bool = False,
        judged: NDArray[np.bool_] | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.sequences = sequences
        self.parts = parts
        self.labels = labels
        self.judged = judged
        self.weights = weights
        self.schedule = schedule
        self.horizons_days = model.architecture.horizons_days
        self.headline_days = headline_days
        self.headline = self.horizons_days.index(headline_days)
        self.random = np.random.default_rng(seed)
        self.counts = np.minimum(parts.train.counts, LONGEST_HISTORY)
        self.truncated = int((parts.train.counts > LONGEST_HISTORY).sum())
        self.targets = targets_of_all(sequences, parts.train.truth, self.horizons_days, judged)
        self.padded_events = 0
        self.fine_tuning = fine_tuning
        rates = self._base_rates()
        groups = model.parameter_groups(schedule.weight_decay)
        self.optimiser = torch.optim.Adam(groups, lr=schedule.learning_rate)
        self._best_score, self._best_epoch, self._best = -np.inf, -1, copy.deepcopy(self.model.state_dict())
        self._history: list[EpochRecord] = []
        if not fine_tuning:
            self._open_at(rates)

    @property
    def padding_share(self) -> float | None:
        """Share of the last epoch's padded events, over all kinds, that were padding; None before the first epoch."""
        return 1 - float(self.counts.sum()) / self.padded_events if self.padded_events else None

    def fit(
        self, bars: Progress, checkpoints: Checkpoints | None = None, on_epoch: OnEpoch | None = None
    ) -> list[EpochRecord]:
        """Train until the schedule ends or validation stops improving; the model keeps its best weights.

        With `checkpoints` it continues an earlier run that was stopped, and ends with the same weights, bit for bit, as
        an uninterrupted one. Returns one record per epoch. Raises `CheckpointError` for another run's checkpoint.
        """
        selection = self._selection()
        snapshot = None if checkpoints is None else checkpoints.load()
        if checkpoints is not None and snapshot is not None:
            self._restore(snapshot)
            if not bars.disable:
                line = f"going on after epoch {snapshot.epochs}, from {checkpoints.folder}"
                bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.fine_tuning:
            self._best_score = self._judged(self._validation(selection), np.inf)
            self._best = copy.deepcopy(self.model.state_dict())
        task = bars.add_task("training", total=None)
        while len(self._history) < self.schedule.epochs and not self._has_stalled():
            epoch = len(self._history)
            loss = self._epoch(bars, task, epoch)
            record: EpochRecord = {"loss": loss, **self._validation(selection)}
            score = self._judged(record, loss)
            if score > self._best_score:
                self._best_score, self._best_epoch = score, epoch
                self._best = copy.deepcopy(self.model.state_dict())
            self._history.append({key: None if value is None else round(value, 6) for key, value in record.items()})
            bars.update(task, description=_described(self._history))
            if on_epoch is not None:
                on_epoch(self._history)
            if checkpoints is not None:
                checkpoints.save(self._snapshot())
        self.model.load_state_dict(self._best)
        return self._history

    def calibrate(self) -> Thresholds:
        """Set the calibration of the score graph and return thresholds, both from the validation part."""
        part = self.parts.validation
        rows, logits = self.judged_logits(part)
        owner = self.sequences.owners(rows)
        found = targets(self.sequences.times_ms[rows], owner, part.truth, self.horizons_days)
        calibration = fit_calibration(logits, found)
        fusion = self.model.fusion
        slope, intercept = torch.tensor(calibration.slope), torch.tensor(calibration.intercept)
        fusion.slope.copy_(slope)
        fusion.intercept.copy_(intercept)
        scores = cumulative(torch.from_numpy(logits) * slope + intercept)[:, self.headline].numpy()
        at_risk = self.sequences.times_ms[rows] < part.truth.default_date_ms[owner]
        times = self.sequences.times_ms[rows]
        return fit_thresholds(times[at_risk], owner[at_risk], scores[at_risk], self.schedule.alert_budget)

    @torch.no_grad()
    def logits(self, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of a part's examples in merged order, and their hazard logits `[rows, intervals]`."""
        self.model.eval()
        rows = [np.zeros(0, dtype=np.int64)]
        logits = [np.zeros((0, len(self.horizons_days)), dtype=np.float32)]
        for positions in by_length(part.counts, 4 * self.schedule.batch_users):
            batch = pad(self.sequences, part.users[positions], part.counts[positions], part.skips[positions])
            batch = batch.to(self.device)
            rows.append(batch.rows)
            logits.append(self.model(batch.numeric, batch.categorical, batch.latest, batch.ages).cpu().numpy())
        found = np.concatenate(rows)
        order = np.argsort(found)
        return found[order], np.concatenate(logits)[order]

    def judged_logits(self, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `logits`, of the part's judged events alone."""
        rows, logits = self.logits(part)
        if self.judged is None:
            return rows, logits
        kept = self.judged[rows]
        return rows[kept], logits[kept]

    def _base_rates(self) -> NDArray[np.float64]:
        """Mean hazard of each interval in the training part."""
        intervals = len(self.horizons_days)
        default_counts, observed = np.zeros(intervals), np.zeros(intervals)
        counts = np.zeros(self.sequences.users, dtype=np.int64)
        counts[self.parts.train.users] = self.counts
        for users, rows in self.sequences.runs():
            lengths = np.diff(self.sequences.merged_starts)[users]
            position = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            mine = position < np.repeat(counts[users], lengths)
            default_counts += self.targets.happened[rows][mine].sum(0)
            observed += self.targets.observed_share[rows][mine].sum(0)
        if not default_counts.any():
            raise TrainingError("no default is known in the training part; take more users or months")
        rates: NDArray[np.float64] = np.clip((default_counts + 0.5) / (observed + 1.0), 1e-6, 0.9)
        return rates

    def _open_at(self, rates: NDArray[np.float64]) -> None:
        """Set the last layer to the mean hazards; otherwise the first epochs only learn that defaults are rare."""
        fusion = self.model.fusion
        if isinstance(fusion, BoostedFusion):
            raise TrainingError("a network is trained before trees are put beside it")
        with torch.no_grad():
            fusion.logits_.bias.copy_(torch.from_numpy(np.log(rates / (1 - rates))))

    def _epoch(self, bars: Progress, task: Any, epoch: int) -> float:
        self.model.train()
        batches = list(by_length(self.counts, self.schedule.batch_users, self.random))
        bars.reset(task, total=len(batches), description=f"epoch {epoch + 1}")
        total, weight = 0.0, 0
        self.padded_events = 0
        for number, positions in enumerate(batches):
            rate = self.schedule.rate_at((epoch + number / len(batches)) / self.schedule.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss, events = self._step(positions)
            total += loss * events
            weight += events
            bars.advance(task)
        mean = total / max(weight, 1)
        if not np.isfinite(mean):
            raise TrainingError(f"the loss of epoch {epoch + 1} is not finite; look for broken amounts in the source")
        return mean

    def _step(self, positions: NDArray[np.int64]) -> tuple[float, int]:
        """One step of the optimiser on the users at `positions` of the training part: loss and number of events."""
        batch = pad(self.sequences, self.parts.train.users[positions], self.counts[positions])
        self.padded_events += sum(values.shape[0] * values.shape[1] for values in batch.numeric.values())
        observed_share = torch.from_numpy(self.targets.observed_share[batch.rows]).to(self.device)
        happened = torch.from_numpy(self.targets.happened[batch.rows]).float().to(self.device)
        augmentation = self.schedule.augmentation
        batch = batch.to(self.device)
        numeric, categorical = augmentation.numeric(batch), augmentation.categorical(batch)
        keep = augmentation.keep(len(positions)).to(self.device)
        weight = None if self.weights is None else torch.from_numpy(self.weights[batch.rows]).to(self.device)
        logits = self.model(numeric, categorical, batch.latest, batch.ages, keep)
        loss = hazard_loss(logits, observed_share, happened, weight)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        return float(loss.detach()), len(batch.rows)

    def _selection(self) -> Part:
        part = self.parts.validation
        if len(part.users) <= SELECTION_USERS:
            return part
        chosen = np.sort(np.random.default_rng(0).choice(len(part.users), SELECTION_USERS, replace=False))
        return Part(part.users[chosen], part.counts[chosen], part.skips[chosen], part.truth)

    def _validation(self, part: Part) -> EpochRecord:
        """Loss on a part, and AUC at the headline horizon: of each client's last score where the source has labels,
        else of every event."""
        rows, logits = self.judged_logits(part)
        if not len(rows):
            return {"validation_loss": None, "validation_auc": None}
        owner = self.sequences.owners(rows)
        found = targets(self.sequences.times_ms[rows], owner, part.truth, self.horizons_days)
        loss = hazard_loss(
            torch.from_numpy(logits), torch.from_numpy(found.observed_share), torch.from_numpy(found.happened).float()
        )
        return {"validation_loss": float(loss), "validation_auc": self._auc(part, rows, owner, logits)}

    def _auc(
        self, part: Part, rows: NDArray[np.int64], owner: NDArray[np.int64], logits: NDArray[np.float32]
    ) -> float | None:
        score = cumulative(torch.from_numpy(logits))[:, self.headline].numpy()
        if (self.labels[part.users] >= 0).all():
            last = np.append(owner[1:] != owner[:-1], True)
            return roc_auc(self.labels[owner[last]] > 0, score[last])
        happened, known = within_horizons(self.sequences.times_ms[rows], owner, part.truth, self.horizons_days)
        usable = known[:, self.headline]
        return roc_auc(happened[usable, self.headline], score[usable])

    def _judged(self, record: Mapping[str, float | None], loss: float) -> float:
        """The value by which epochs are compared, see `Schedule`; larger is better. Where the validation part lacks an
        outcome or has no example, minus the training loss."""
        if self.schedule.compare_by == "last":
            return float(len(self._history)) if np.isfinite(loss) else -np.inf  # not finite: before the first epoch
        if self.schedule.compare_by == "loss":
            found = record["validation_loss"]
            return -loss if found is None else -found
        score = record["validation_auc"]
        return -loss if score is None else score

    def _has_stalled(self) -> bool:
        if self.schedule.rate_decay != "constant":
            return False
        return len(self._history) - 1 - self._best_epoch >= self.schedule.patience

    def _snapshot(self) -> Snapshot:
        arrays: dict[str, NDArray[Any]] = {"random/torch": torch.get_rng_state().numpy()}
        if self.device.type == "cuda":
            arrays["random/cuda"] = torch.cuda.get_rng_state(self.device).numpy()
        for group, weights in (("model", self.model.state_dict()), ("best", self._best)):
            arrays |= {f"{group}/{name}": value.cpu().numpy() for name, value in weights.items()}
        for position, state in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser/{position}/{name}": value.cpu().numpy() for name, value in state.items()}
        facts = {
            "history": self._history,
            "best_score": float(self._best_score) if np.isfinite(self._best_score) else None,
            "best_epoch": self._best_epoch,
            "random": self.random.bit_generator.state,
            "padded_events": self.padded_events,
        }
        return Snapshot(len(self._history), arrays, facts)

    def _restore(self, snapshot: Snapshot) -> None:
        def group(name: str) -> dict[str, Tensor]:
            prefix = f"{name}/"
            return {
                key.removeprefix(prefix): torch.from_numpy(value).to(self.device)
                for key, value in snapshot.arrays.items()
                if key.startswith(prefix)
            }

        facts = snapshot.facts
        self.model.load_state_dict(group("model"))
        self._best = group("best")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in snapshot.arrays.items():
            if key.startswith("optimiser/"):
                _, position, name = key.split("/")
                state.setdefault(int(position), {})[name] = torch.from_numpy(value)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        self._history = [dict(record) for record in facts["history"]]
        self._best_score = -np.inf if facts["best_score"] is None else facts["best_score"]
        self._best_epoch = facts["best_epoch"]
        self.padded_events = facts["padded_events"]
        self.random.bit_generator.state = facts["random"]
        torch.set_rng_state(torch.from_numpy(snapshot.arrays["random/torch"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(snapshot.arrays["random/cuda"]), self.device)


def _described(history: list[EpochRecord]) -> str:
    score = history[-1]["validation_auc"]
    shown = "unknown" if score is None else f"{score:.4f}"
    return f"epoch {len(history)}: loss {history[-1]['loss']:.5f}, validation AUC {shown}"
