"""A tally: what is counted of one kind's events, as numbers that each event changes by one multiplication and addition.

Decayed sums and maxima of amounts, days and counts at several half-lives, and the latest values. They are what trees
take beside the readouts of the encoders. Training and serving run the same `Tally.after`. Reads no events and no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from events.columns import COLUMNS, CONTRACT_COLUMNS, FIRST_CATEGORY_CODE
from events.reasons import speaks_of_cash
from events.types import Kind

HALF_LIVES_DAYS = (7, 30, 90, 365)
PEAK_HALF_LIVES_DAYS = (90, 365)
CATEGORY_HALF_LIVES_DAYS = (30, 90)
LAGS = 6
"""Latest values of an input that are kept, for instance those of six monthly statements."""
MOST_CATEGORIES = 16
"""Categories of a field that are counted one by one; a field with more is not."""
MISSING = -1e30
"""A latest value that was not known. Smaller than any value that an event may carry."""
LARGEST_SHARE = 100.0
"""Quotients of two amounts are clipped here, on both sides."""
LARGEST_AMOUNT = 1e13
TINY = 1e-6

ONE = "one"
"""The column of ones: its sum is a count."""

Codes: TypeAlias = Mapping[str, Mapping[str, int]]
"""Category to code, per categorical field of a kind."""

DERIVED: dict[Kind, tuple[str, ...]] = {
    "repayments": (),
    "transactions": ("inflow", "outflow", "inflows", "outflows", "used"),
    "activity": (),
    "profiles": (),
}
"""Columns that follow from the numeric inputs: amounts in and out and their counts, and the share of the limit."""


@dataclass(frozen=True)
class Channel:
    """What is added up: `column`, of events whose `field` has one of `categories`; of all events without a field."""

    column: str
    field: str | None = None
    categories: tuple[str, ...] = ()


CHANNELS: dict[Kind, dict[str, Channel]] = {
    "repayments": {
        "events": Channel(ONE),
        "gap_days": Channel("gap_days"),
        "due": Channel("amount_due", "kind", ("due",)),
        "paid": Channel("amount_paid", "kind", ("paid",)),
        "reversed": Channel("amount_paid", "kind", ("reversed",)),
        "late_days": Channel("days_after_due_date", "kind", ("paid",)),
        "past_due_days": Channel("days_past_due"),
    },
    "transactions": {
        "events": Channel(ONE),
        "gap_days": Channel("gap_days"),
        "inflow": Channel("inflow"),
        "outflow": Channel("outflow"),
        "inflows": Channel("inflows"),
        "outflows": Channel("outflows"),
        "cash": Channel("outflow", "cash"),
        "cash_count": Channel(ONE, "cash"),
        "balance": Channel("balance_after"),
        "used": Channel("used"),
    },
    "activity": {
        "events": Channel(ONE),
        "gap_days": Channel("gap_days"),
        "sessions": Channel("count", "kind", ("session",)),
        "inquiries": Channel("count", "kind", ("inquiry",)),
        "device_changes": Channel("count", "kind", ("device_change",)),
        "duration_s": Channel("duration_s"),
    },
    "profiles": {},
}
"""Sums of each kind by name. `cash` stands for the categories of any field that tell of cash."""

PEAKS: dict[Kind, tuple[str, ...]] = {
    "repayments": ("late_days", "past_due_days"),
    "transactions": ("outflow", "inflow", "used"),
    "activity": ("duration_s",),
    "profiles": (),
}
"""Channels of which the decayed maximum is kept, too."""

COUNTED: dict[Kind, tuple[str, ...]] = {
    "repayments": ("kind",),
    "transactions": ("category", "channel", "counterparty_type"),
    "activity": ("kind",),
    "profiles": (),
}
"""Fields whose categories are counted one by one."""

LATEST: dict[Kind, dict[str, int]] = {
    "repayments": {
        **dict.fromkeys(("amount_due", "amount_paid", "days_past_due", "days_after_due_date", "balance"), LAGS),
        "kind_code": LAGS,
        "gap_days": 3,
        **dict.fromkeys(CONTRACT_COLUMNS, 1),
        "day_of_month": 1,
    },
    "transactions": {
        **dict.fromkeys(("amount", "balance_after"), LAGS),
        "gap_days": 3,
        **dict.fromkeys(("used", "credit_limit", "category_code", "channel_code", "counterparty_type_code"), 1),
    },
    "activity": {"gap_days": 3, "kind_code": 1},
    "profiles": {
        **dict.fromkeys(COLUMNS["profiles"].numeric, 1),
        **{f"{field}_code": 1 for field in COLUMNS["profiles"].categorical},
    },
}
"""Columns of which the latest values are kept, and how many."""

MEANS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "repayments": (
        ("paid", "due"),
        ("late_days", "kind:paid"),
        ("past_due_days", "events"),
        ("kind:missed", "kind:due"),
    ),
    "transactions": (
        ("outflow", "inflow"),
        ("outflow", "outflows"),
        ("inflow", "inflows"),
        ("cash", "outflow"),
        ("balance", "events"),
        ("used", "events"),
    ),
    "activity": (("duration_s", "events"), ("inquiries", "events")),
    "profiles": (),
}
"""Channels whose sums of the same half-life are divided by one another."""


LATEST_QUOTIENTS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "repayments": (("amount_paid", "amount_due"), ("amount_paid", "balance")),
    "transactions": (("balance_after", "credit_limit"), ("amount", "credit_limit")),
    "activity": (),
    "profiles": (),
}
"""Columns whose latest values are divided by one another, event by event; by the latest value of all where the second
column has no more."""


def slots(kind: Kind, inputs: Sequence[str], vocabulary: Codes) -> tuple[str, ...]:
    """Names of all numbers that the tally of a kind can hold: `CHANNEL/DAYSd` for a decayed sum, `CHANNEL/total`,
    `CHANNEL/maxDAYSd`, and `COLUMN/lagN`. `inputs` are the numeric inputs of the model."""
    columns = set(_columns(kind, inputs))
    sums, peaks, latest = list[str](), list[str](), list[str]()
    for name, channel in CHANNELS[kind].items():
        if channel.column in columns:
            sums += [f"{name}/total" if name == "gap_days" else f"{name}/{days}d" for days in HALF_LIVES_DAYS]
    for field in COUNTED[kind]:
        listed = vocabulary.get(field, {})
        for category in sorted(listed) if len(listed) <= MOST_CATEGORIES else ():
            sums += [f"{field}:{category}/{days}d" for days in CATEGORY_HALF_LIVES_DAYS]
    for name in PEAKS[kind]:
        if CHANNELS[kind][name].column in columns:
            peaks += [f"{name}/max{days}d" for days in PEAK_HALF_LIVES_DAYS]
    for column, count in LATEST[kind].items():
        of_code = column.removesuffix("_code")
        if column in columns and (of_code == column or of_code in vocabulary):
            latest += [f"{column}/lag{back}" for back in range(count)]
    return tuple(dict.fromkeys((*sums, *peaks, *latest)))


def with_needed(kept: Sequence[str]) -> tuple[str, ...]:
    """`kept` with the newer latest values that each latest value comes from."""
    needed = dict.fromkeys(kept)
    for name in kept:
        channel, _, what = name.rpartition("/")
        if what.startswith("lag"):
            needed |= dict.fromkeys(f"{channel}/lag{back}" for back in range(int(what.removeprefix("lag"))))
    order = {"s": 0, "m": 1, "l": 2}
    return tuple(sorted(needed, key=lambda name: (order[_block(name)], name)))


def _block(name: str) -> str:
    what = name.rpartition("/")[2]
    return "m" if what.startswith("max") else "l" if what.startswith("lag") else "s"


def _columns(kind: Kind, inputs: Sequence[str]) -> tuple[str, ...]:
    """Every column that can be tallied: the ones, numeric inputs, derived ones, codes."""
    derived = DERIVED[kind] if "amount" in inputs else ()
    if not {"balance_after", "credit_limit"} <= set(inputs):
        derived = tuple(name for name in derived if name != "used")
    return (ONE, *inputs, *derived, *(f"{field}_code" for field in COLUMNS[kind].categorical))


def marked(field: str, channel: str, chosen: Channel | None) -> tuple[bool, frozenset[str] | None]:
    """Whether a channel looks at `field`, and the categories of it that count; None for those that tell of cash."""
    if chosen is None:
        of_field, _, category = channel.partition(":")
        return of_field == field, frozenset({category})
    if chosen.field == "cash":
        return True, None
    return chosen.field == field, frozenset(chosen.categories)


class Tally(nn.Module):
    """The numbers `names` (see `slots`) of one kind, as state `[…, width]`: sums, maxima, latest values, and the count
    of events.

    `inputs` are the numeric inputs that the model takes; `vocabulary_sizes` as for `model.networks.features`.
    """

    picked: Tensor
    rates: Tensor
    marks: Tensor
    unmarked: Tensor
    offsets: Tensor
    shifted: Tensor
    newest: Tensor
    depth: Tensor

    def __init__(
        self, kind: Kind, inputs: Sequence[str], vocabulary_sizes: Sequence[int], names: Sequence[str]
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.names = with_needed(names)
        self.inputs = tuple(inputs)
        self.gap = self.inputs.index("gap_days")
        blocks = [_block(name) for name in self.names]
        self.sizes = [blocks.count("s"), blocks.count("m"), blocks.count("l"), 1]
        self.width = sum(self.sizes)
        added = self.sizes[0] + self.sizes[1]
        columns = _columns(kind, self.inputs)
        picked = torch.zeros(len(self.names), len(columns))
        rates = torch.zeros(added)
        newest = torch.zeros(self.sizes[2])
        shifted = torch.zeros(self.sizes[2], self.sizes[2])
        depth = torch.zeros(self.sizes[2])
        for number, name in enumerate(self.names):
            channel, _, what = name.rpartition("/")
            column = channel if number >= added else self._channel(channel).column
            picked[number, columns.index(column)] = 1.0
            if number < added:
                days = what.removeprefix("max").removesuffix("d")
                rates[number] = 0.0 if days == "total" else -math.log(2.0) / float(days)
                continue
            back = int(what.removeprefix("lag"))
            depth[number - added] = back
            if back:
                shifted[number - added, self.names.index(f"{channel}/lag{back - 1}") - added] = 1.0
            else:
                newest[number - added] = 1.0
        sizes = [size + FIRST_CATEGORY_CODE for size in vocabulary_sizes]
        fixed = {"picked": picked, "rates": rates, "newest": newest, "shifted": shifted, "depth": depth}
        for label, value in fixed.items():
            self.register_buffer(label, value, persistent=False)
        offsets = torch.tensor([sum(sizes[:position]) for position in range(len(sizes))], dtype=torch.int64)
        self.register_buffer("offsets", offsets, persistent=False)
        # Which codes a number counts depends on the vocabulary, so it is kept with the weights.
        self.register_buffer("marks", torch.zeros(sum(sizes), len(self.names)))
        self.register_buffer("unmarked", torch.ones(len(self.names)))

    def _channel(self, name: str) -> Channel:
        return CHANNELS[self.kind].get(name) or Channel(ONE, name.partition(":")[0])

    def learn(self, vocabulary: Codes) -> None:
        """Set which codes each number counts."""
        self.marks.zero_()
        added = self.sizes[0] + self.sizes[1]
        for number, name in enumerate(self.names[:added]):
            channel = name.rpartition("/")[0]
            chosen = CHANNELS[self.kind].get(channel)
            self.unmarked[number] = float(chosen is not None and chosen.field is None)
            for position, field in enumerate(COLUMNS[self.kind].categorical):
                looked_at, categories = marked(field, channel, chosen)
                for category, code in vocabulary.get(field, {}).items() if looked_at else ():
                    if speaks_of_cash(category) if categories is None else category in categories:
                        self.marks[int(self.offsets[position]) + code, number] = 1.0

    def told(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What an event adds `[…, sums and maxima]`, its latest values `[…, lags]`, and the gap before it `[…, 1]`."""
        missing = torch.isnan(numeric)
        clean = torch.clamp(torch.where(missing, 0.0, numeric), -LARGEST_AMOUNT, LARGEST_AMOUNT)
        known = 1.0 - missing.to(numeric.dtype)
        ones = torch.ones_like(numeric[..., :1])
        derived, derived_known = self._derived(clean, known)
        codes = categorical.to(numeric.dtype)
        values = torch.cat([ones, clean, *derived, codes], -1)
        sure = torch.cat([ones, known, *derived_known, (codes > 0).to(numeric.dtype)], -1)
        chosen = nn.functional.linear(values, self.picked)
        certain = nn.functional.linear(sure, self.picked)
        rows = categorical + self.offsets
        marks = nn.functional.embedding(rows, self.marks).sum(-2) + self.unmarked
        added = self.sizes[0] + self.sizes[1]
        gained = chosen[..., :added] * torch.clamp(marks[..., :added], max=1.0)
        latest = torch.where(certain[..., added:] > 0, chosen[..., added:], MISSING)
        return gained, latest, torch.relu(clean[..., self.gap : self.gap + 1])

    def _derived(self, clean: Tensor, known: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if "amount" not in self.inputs or not DERIVED[self.kind]:
            return [], []
        at = self.inputs.index("amount")
        amount, sure = clean[..., at : at + 1], known[..., at : at + 1]
        kind = clean.dtype
        values = [torch.relu(amount), torch.relu(-amount), (amount > 0).to(kind), (amount < 0).to(kind)]
        flags = [sure] * len(values)
        if {"balance_after", "credit_limit"} <= set(self.inputs):
            balance, limit = (
                (clean[..., place : place + 1], known[..., place : place + 1])
                for place in (self.inputs.index("balance_after"), self.inputs.index("credit_limit"))
            )
            share = torch.clamp(balance[0] / torch.clamp(limit[0], min=1e-3), -LARGEST_SHARE, LARGEST_SHARE)
            sure = balance[1] * limit[1] * (limit[0] > 0).to(kind)
            values.append(share * sure)
            flags.append(sure)
        return values, flags

    def after(self, gained: Tensor, latest: Tensor, gap_days: Tensor, held: Tensor) -> Tensor:
        """The tally `[…, width]` after an event, from what it tells (see `told`) and the tally before it."""
        sums, peaks, lags, count = torch.split(held, self.sizes, -1)
        decay = torch.exp(gap_days * self.rates)
        of_sums, of_peaks = self.sizes[0], self.sizes[1]
        parts = [sums * decay[..., :of_sums] + gained[..., :of_sums]]
        if of_peaks:
            parts.append(torch.maximum(peaks * decay[..., of_sums:], gained[..., of_sums:]))
        if self.sizes[2]:
            parts.append(nn.functional.linear(lags, self.shifted) + latest * self.newest)
        return torch.cat([*parts, torch.clamp(count + 1.0, max=1e6)], -1)

    def sequence(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The tally after every event, `[users, events, width]`."""
        gained, latest, gaps = self.told(numeric, categorical)
        held = numeric.new_zeros(len(numeric), self.width)
        found = numeric.new_empty((*numeric.shape[:2], self.width))
        for event in range(numeric.shape[1]):
            held = self.after(gained[:, event], latest[:, event], gaps[:, event], held)
            found[:, event] = held
        return found

    def features(self, held: Tensor, age_days: Tensor) -> Tensor:
        """What trees take of a tally `[n, width]` that is `age_days` `[n, 1]` old, float `[n, len(feature_names)]`: NaN
        where nothing is known, and everything for a user without any event of the kind."""
        sums, peaks, lags, count = torch.split(held, self.sizes, -1)
        added = torch.cat([sums, peaks], -1) * torch.exp(torch.clamp(age_days, min=0.0) * self.rates)
        # NaN by division: 0 / 0 where the value is missing, which every runtime agrees on.
        nothing = torch.zeros_like(count) / torch.zeros_like(count)
        lags = torch.where((lags > MISSING / 2) & (count > self.depth), lags, nothing)
        parts = [added, lags]
        pairs = self._pairs()
        if pairs:
            told = torch.cat(parts, -1)
            tops, bases = told[..., [top for top, _ in pairs]], told[..., [base for _, base in pairs]]
            parts.append(torch.where(torch.abs(bases) > TINY, tops / bases, nothing))
        return torch.where(count > 0, torch.cat(parts, -1), nothing)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of `features`, each with the kind before it."""
        quotients = [f"{self.names[top]} : {self.names[base]}" for top, base in self._pairs()]
        return tuple(f"{self.kind}.{name}" for name in (*self.names, *quotients))

    def _pairs(self) -> list[tuple[int, int]]:
        """Positions of the numbers of which a quotient is a feature: means, a shorter half-life by the next longer, and
        latest values by one another."""
        at = {name: number for number, name in enumerate(self.names)}
        pairs = [(f"{top}/{days}d", f"{base}/{days}d") for top, base in MEANS[self.kind] for days in HALF_LIVES_DAYS]
        channels = dict.fromkeys(name.rpartition("/")[0] for name in self.names[: self.sizes[0]])
        pairs += [
            (f"{channel}/{short}d", f"{channel}/{long}d")
            for channel in channels
            for short, long in pairwise(HALF_LIVES_DAYS)
        ]
        for top, base in LATEST_QUOTIENTS[self.kind]:
            deepest = LATEST[self.kind][base] - 1
            pairs += [(f"{top}/lag{back}", f"{base}/lag{min(back, deepest)}") for back in range(LATEST[self.kind][top])]
        return [(at[top], at[base]) for top, base in pairs if top in at and base in at]

    def needed_for(self, features: Sequence[str]) -> tuple[str, ...]:
        """The numbers of this tally that `features`, some of `feature_names`, are made of."""
        wanted = {name.removeprefix(f"{self.kind}.") for name in features if name.startswith(f"{self.kind}.")}
        parts = {part for name in wanted for part in name.split(" : ")}
        return with_needed([name for name in self.names if name in parts])
