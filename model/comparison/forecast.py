"""How long a comparison will take, said before it begins and again after each trial.

From seconds that were measured once per candidate, the speed of this machine, and what trials have taken so far. Pure
arithmetic but for `slowness`, which times a training step. Decides nothing about the trials themselves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from model.comparison.problem import Problem

REFERENCE_EPOCHS = 30
REFERENCE_STEP_S = 0.0065
"""The step that `slowness` times, on the machine that `COSTS` are of: one thread of an Intel Xeon at 2.8 GHz."""
STEPS = 5
FEWEST_FOR_CORRECTION_S = 5.0
"""Trials that were expected to take less, all together, say nothing of the others."""
MINUTE_S, HOUR_S = 60, 3600


@dataclass(frozen=True)
class Cost:
    """Seconds of a trial: `base` whatever the data, `per_million` for a million events of the training part; of a
    served model those are of `REFERENCE_EPOCHS` epochs, `by_epoch`."""

    base: float
    per_million: float
    by_epoch: bool = False


COSTS: dict[str, Cost] = {
    "lstm-attention": Cost(15, 620, by_epoch=True),
    "gru-attention": Cost(15, 640, by_epoch=True),
    "causal-transformer": Cost(15, 4_200, by_epoch=True),
    "repayment-lstm": Cost(15, 400, by_epoch=True),
    "three-branch": Cost(15, 600, by_epoch=True),
    "hybrid": Cost(15, 450, by_epoch=True),
    "time-decay": Cost(15, 800, by_epoch=True),
    "boosted-readout": Cost(60, 900, by_epoch=True),
    "lightgbm": Cost(20, 600),
    "lightgbm-smote": Cost(20, 600),
    "logistic-regression": Cost(2, 60),
    "mlp": Cost(3, 80),
    "1d-cnn": Cost(10, 250),
    "autoencoder": Cost(5, 150),
    "3-sigma": Cost(1, 1),
    "30-days-past-due": Cost(1, 1),
    "pd-doubling": Cost(3, 50),
    "oracle": Cost(1, 10),
    "attainable": Cost(60, 2_500),
}
"""By candidate, rounded. Their measure is the reports in docs/models, whose seconds vary by a factor of two with what
else the machine did."""
UNKNOWN = Cost(30, 600)


def expected_seconds(name: str, problem: Problem, epochs: int) -> float:
    """Seconds of a trial on the machine that `COSTS` are of."""
    cost = COSTS.get(name, UNKNOWN)
    millions = float(problem.parts.train.counts.sum()) / 1e6
    share = epochs / REFERENCE_EPOCHS if cost.by_epoch else 1.0
    return cost.base + cost.per_million * millions * share


@dataclass
class Forecast:
    """What the trials that are left will take. `slowness` is this machine's, 1 for one like that of `COSTS`; trials
    that have ended replace it by what they took over what was expected of them."""

    left: list[float]
    slowness: float = 1.0
    expected: float = 0.0
    taken: float = 0.0

    @classmethod
    def of(cls, trials: Sequence[tuple[str, Problem]], epochs: int, slowness: float) -> Forecast:
        """For trials in their order: candidate and problem."""
        return cls([expected_seconds(name, problem, epochs) for name, problem in trials], slowness)

    @property
    def seconds(self) -> float:
        """Seconds that the trials which are left will take."""
        known = self.expected >= FEWEST_FOR_CORRECTION_S
        return sum(self.left) * (self.taken / self.expected if known else self.slowness)

    def ended(self, seconds: float) -> None:
        """The first trial of those left took so long."""
        self.expected += self.left.pop(0)
        self.taken += seconds

    def line(self) -> str:
        """What is to come, in words."""
        trials = len(self.left)
        return f"{trials} trial{'' if trials == 1 else 's'} to run, {duration(self.seconds)}"


def duration(seconds: float) -> str:
    """A rough length of time: `about 40 seconds`, `about 25 minutes`, `about 3 h 20 min`."""
    if seconds < 1.5 * MINUTE_S:
        return f"about {max(10 * round(seconds / 10), 10)} seconds"
    if seconds < 1.5 * HOUR_S:
        return f"about {round(seconds / MINUTE_S)} minutes"
    hours, minutes = divmod(10 * round(seconds / MINUTE_S / 10), 60)
    return f"about {hours} h {minutes} min"


def slowness() -> float:
    """Time of a training step of a small recurrent network over that of the machine of `COSTS`, the best of some."""
    import torch

    generator = torch.Generator().manual_seed(1)
    values = torch.randn(64, 40, 64, generator=generator)
    network = torch.nn.LSTM(64, 64, batch_first=True)
    best = float("inf")
    for _ in range(STEPS):
        started = time.perf_counter()
        network(values)[0].sum().backward()
        best = min(best, time.perf_counter() - started)
    return best / REFERENCE_STEP_S
