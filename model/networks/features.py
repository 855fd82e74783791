"""From raw columns to a network's features: the same arithmetic in training and in the exported graphs.

Every constant (winsor bounds, scales) is a buffer that is set from training data. Reads no events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import Kind

CALENDAR_COLUMNS = ("day_of_month", "day_of_year")
RATIO_LIMIT = 4.0
"""Ratios are clipped here: a value beyond four times the credit limit or the amount due adds no information."""
EMBEDDING_WIDTH = 6
SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Plan:
    """The values made of a kind's numeric inputs: signed logarithms, plain values, ratios (numerator, denominator)."""

    logarithms: tuple[str, ...]
    linears: tuple[str, ...]
    ratios: tuple[tuple[str, str], ...]
    norms: bool
    """Whether the values are also given as deviations from the user's own running mean."""

    @property
    def width(self) -> int:
        """How many values a row has."""
        return len(self.logarithms) + len(self.linears) + len(self.ratios)

    def of(self, names: Sequence[str]) -> Plan:
        """The values that can be made of the inputs `names`."""
        return Plan(
            logarithms=tuple(name for name in self.logarithms if name in names),
            linears=tuple(name for name in self.linears if name in names),
            ratios=tuple((top, base) for top, base in self.ratios if top in names and base in names),
            norms=self.norms,
        )


PLANS: dict[Kind, Plan] = {
    "repayments": Plan(
        logarithms=(
            "amount_due",
            "amount_paid",
            "balance",
            "days_past_due",
            "days_after_due_date",
            "gap_days",
            "contract_gap_days",
            "contract_days_past_due",
            "worst_days_past_due",
            "contracts_open",
            "contracts_past_due",
            "contracts_restructured",
            "exposure",
        ),
        linears=(
            "days_past_due",
            "days_after_due_date",
            "contract_days_past_due",
            "amount_due_to_usual",
            "amount_paid_to_usual",
            "balance_to_highest",
            "worst_days_past_due",
            "exposure_past_due_share",
        ),
        ratios=(("amount_paid", "amount_due"), ("amount_paid", "balance")),
        norms=True,
    ),
    "transactions": Plan(
        logarithms=("amount", "balance_after", "credit_limit", "gap_days"),
        linears=(),
        ratios=(("balance_after", "credit_limit"), ("amount", "credit_limit")),
        norms=True,
    ),
    "activity": Plan(logarithms=("count", "duration_s", "gap_days"), linears=(), ratios=(), norms=True),
    "profiles": Plan(
        logarithms=("income", "credit_limit"),
        linears=(
            "tenure_months",
            "origination_pd",
            "bureau_score",
            "interest_rate",
            "payment_to_income",
            "loan_to_value",
            "term_months",
        ),
        ratios=(("credit_limit", "income"),),
        norms=False,
    ),
}


class Features(nn.Module):
    """Features of one kind of event, from the numeric inputs `names`, by default all of `events.columns`.

    A row of features holds, in this order: standardised values (0 where missing), one flag per input that may be
    missing, deviations of the values from the user's running mean (where the plan has norms), calendar position,
    embeddings. `vocabulary_sizes` counts the listed categories per categorical field, without the codes for missing and
    unseen.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    scale: Tensor
    season: Tensor
    picked: Tensor
    looked_at: Tensor
    offsets: Tensor

    def __init__(self, kind: Kind, vocabulary_sizes: list[int], names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.names = names = COLUMNS[kind].numeric_inputs if names is None else tuple(names)
        self.plan = PLANS[kind].of(names)
        self.inputs = len(names)
        self.values = self.plan.width
        if names[-len(CALENDAR_COLUMNS) :] != CALENDAR_COLUMNS:
            raise ValueError(f"{kind}: the last inputs must be {CALENDAR_COLUMNS}, found {names}")
        self.flags = self.inputs - len(CALENDAR_COLUMNS)
        ratios = self.plan.ratios
        tops = (*self.plan.logarithms, *self.plan.linears, *(top for top, _ in ratios))
        bases = tuple(base for _, base in ratios)
        sizes = [size + FIRST_CATEGORY_CODE for size in vocabulary_sizes]
        self.register_buffer("low", torch.full((self.inputs,), -3e38))
        self.register_buffer("high", torch.full((self.inputs,), 3e38))
        self.register_buffer("mean", torch.zeros(self.values))
        self.register_buffer("scale", torch.ones(self.values))
        self.register_buffer("season", torch.ones(1))
        self.register_buffer("picked", _selection(names[: self.flags], (*tops, *bases)), persistent=False)
        self.register_buffer("looked_at", -_selection(names[: self.flags], tops), persistent=False)
        self.register_buffer("offsets", torch.tensor(np.cumsum([0, *sizes[:-1]])), persistent=False)
        self.embedding = nn.Embedding(sum(sizes), EMBEDDING_WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.embedded_width = len(sizes) * EMBEDDING_WIDTH
        self.norms_sizes = [self.values, self.values] if self.plan.norms else []
        self.width = self.values + self.flags + sum(self.norms_sizes) // 2 + 4 + self.embedded_width
        self.missing_as_zero = False

    def take_missing_as_zero(self) -> None:
        """From here on, treat a missing value as a known 0: no flags, no masks. Before `set_bounds`.

        The choice is kept among the weights, as a buffer `zeros_for_missing` that exists only if it was made, so that
        it is loaded with them.
        """
        self.missing_as_zero = True
        self.register_buffer("zeros_for_missing", torch.ones(1))

    def silence(self, name: str) -> None:
        """Set the scale of a numeric input to 0, so that its values have no effect. After `set_bounds`."""
        plan = self.plan
        for position, value in enumerate((*plan.logarithms, *plan.linears, *(f"{a}/{b}" for a, b in plan.ratios))):
            if name in value.split("/"):
                self.scale[position] = 0.0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if f"{prefix}zeros_for_missing" in state_dict:
            self.take_missing_as_zero()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def set_bounds(self, numeric: NDArray[np.float32], tail: float, *, seasonal: bool) -> None:
        """Take winsor bounds and scales from training rows, float32 `[n, numeric inputs]` with NaN for missing.

        `tail` is the share of known values clipped at either end. Without `seasonal` the day of the year is no
        input: with less than about two years of data, a model would take the date for a cause.
        """
        names = self.names
        for position, name in enumerate(names):
            known = numeric[:, position][~np.isnan(numeric[:, position])]
            if name in CALENDAR_COLUMNS or not len(known):
                continue
            low, high = np.quantile(known, [tail, 1 - tail])
            if self.missing_as_zero and len(known) < len(numeric):
                low, high = min(low, 0.0), max(high, 0.0)
            self.low[position] = float(low)
            self.high[position] = float(high)
        with torch.no_grad():
            values, valid = self.raw_values(torch.from_numpy(numeric))
            values, valid = values.double(), valid.double()
            count = valid.sum(0).clamp(min=1)
            mean = (values * valid).sum(0) / count
            spread = (((values - mean) ** 2 * valid).sum(0) / count).sqrt()
        self.mean.copy_(mean)
        # A value that never varied in training has no known effect; scale 0 keeps it without effect in serving.
        self.scale.copy_(torch.where(spread > SMALLEST_SPREAD, 1 / spread.clamp(min=SMALLEST_SPREAD), 0.0))
        self.season.fill_(1.0 if seasonal else 0.0)

    def raw_values(self, numeric: Tensor) -> tuple[Tensor, Tensor]:
        """Values before scaling, and 1.0 where they are known; both `[…, values]`."""
        values, valid, _ = self._raw_values(numeric)
        return values, valid

    def _raw_values(self, numeric: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `raw_values`, and the flags of missing inputs.

        Columns are selected by products with matrices of zeros and ones: exact, and in ONNX Runtime far faster than
        gathering single columns of many rows.
        """
        inputs = numeric[..., : self.flags]
        missing = torch.isnan(inputs)
        clipped = torch.minimum(torch.maximum(inputs, self.low[: self.flags]), self.high[: self.flags])
        # After the clipping: a missing denominator must be 0 whatever its bounds.
        clean = torch.where(missing, torch.zeros((), dtype=numeric.dtype), clipped)
        flags = torch.zeros_like(inputs) if self.missing_as_zero else missing.to(numeric.dtype)
        known = nn.functional.linear(flags, self.looked_at, torch.ones_like(self.mean))
        logs, linears, ratios = len(self.plan.logarithms), len(self.plan.linears), len(self.plan.ratios)
        picked = nn.functional.linear(clean, self.picked)
        logarithms, plain, tops, bases = torch.split(picked, [logs, linears, ratios, ratios], -1)
        parts = [torch.sign(logarithms) * torch.log(torch.abs(logarithms) + 1.0)]
        if linears:
            parts.append(plain)
        if ratios:
            parts.append(torch.clamp(tops / torch.clamp(bases, min=1e-3), -RATIO_LIMIT, RATIO_LIMIT))
            known, known_tops = torch.split(known, [logs + linears, ratios], -1)
            known = torch.cat([known, known_tops * (bases > 0).to(numeric.dtype)], -1)
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0], known, flags

    def _pointwise(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Standardised values, their validity, missing flags, and calendar and embeddings."""
        values, valid, flags = self._raw_values(numeric)
        values = (values - self.mean) * self.scale * valid
        # Sine and cosine (a sine a quarter ahead) of the place in the month and in the year; without season sin(0).
        month = torch.full_like(self.season, 2 * math.pi / 31)
        year = self.season * (2 * math.pi / 366)
        none, quarter = torch.zeros_like(self.season), torch.full_like(self.season, math.pi / 2)
        turns = torch.stack([torch.cat([month, month, none, none]), torch.cat([none, none, year, year])], 1)
        ahead = torch.cat([none, quarter, none, quarter * self.season])
        waves = torch.sin(nn.functional.linear(numeric[..., self.flags :], turns, ahead))
        rows = categorical + self.offsets if len(self.offsets) > 1 else categorical
        embedded = self.embedding(rows).reshape(*numeric.shape[:-1], self.embedded_width)
        return values, valid, flags, [waves, embedded]

    def sequence(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Features of whole histories: `[users, events, inputs]` and `[users, events, categories]` to `[…, width]`.

        Events beyond a user's last may be anything: nothing earlier depends on them.
        """
        values, valid, flags, tail = self._pointwise(numeric, categorical)
        if not self.plan.norms:
            return torch.cat([values, flags, *tail], -1)
        # float64: a float32 running sum over thousands of events would drift away from the running mean of `step`.
        count = valid.cumsum(-2, dtype=torch.float64) - valid
        total = values.cumsum(-2, dtype=torch.float64) - values
        mean = (total / count.clamp(min=1)).to(values.dtype)
        deviations = (values - mean) * valid * count.clamp(max=1).to(values.dtype)
        return torch.cat([values, flags, deviations, *tail], -1)

    def step(self, numeric: Tensor, categorical: Tensor, norms: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Features of one event per row and the running means after it.

        `norms` are counts and means, each `[n, values]`, or nothing where the plan has no norms (`norms_sizes`).
        Returns the features in parts, to be put together to `[n, width]` in that order, and the new `norms`.
        """
        values, valid, flags, tail = self._pointwise(numeric, categorical)
        if not self.plan.norms:
            return [values, flags, *tail], []
        count, mean = norms
        difference = (values - mean) * valid
        new_count = count + valid
        new_mean = mean + difference / torch.clamp(new_count, min=1.0)
        deviations = difference * torch.clamp(count, max=1.0)
        return [values, flags, deviations, *tail], [new_count, new_mean]


def _selection(names: tuple[str, ...], chosen: tuple[str, ...]) -> Tensor:
    """Zeros and ones `[chosen, names]`: the weight of a linear map that picks the chosen columns."""
    weight = torch.zeros(len(chosen), len(names))
    weight[torch.arange(len(chosen)), [names.index(name) for name in chosen]] = 1.0
    return weight
