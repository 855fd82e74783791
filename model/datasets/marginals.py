"""Marginals: figures of a source's events (arrears and roll rates, use of limits, movements, gaps), to compare the
simulator with real borrowers. Reads events only, never outcomes or latent truth.

A month's arrears are counted in instalments: 0, 1 (up to 30 days past due), 2 (31 to 60), 3 (more). An account is a
contract; where a source names none, a borrower has one.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from events.types import Activity, Event, Profile, Repayment, Transaction
from model.datasets.dataset import Dataset

Figures = dict[str, float]
"""Named figures; a name is absent where a source lacks the events for it."""

BUCKETS = 4
DAYS_PER_BUCKET = 30
RELAPSE_MONTHS = 6
_EPOCH_MONTH = 1970 * 12
_WITHIN = 0.01


@dataclass
class _Borrower:
    """The values of one borrower's events that the figures need. Months count from 1970-01."""

    # Contract: month: bucket.
    arrears: dict[str | None, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    use: dict[int, float] = field(default_factory=dict)  # month: last balance over limit
    days: list[float] = field(default_factory=list)  # of movements, in days since 1970-01-01
    amounts: list[float] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)


def marginals(dataset: Dataset) -> Figures:
    """The figures of a source, by name. Shares are of one, rates per month, gaps in days; see docs/simulator.md."""
    borrowers: defaultdict[str, _Borrower] = defaultdict(_Borrower)
    shares: list[float] = []
    gaps: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    states = _ARREARS[dataset.name]
    for event in dataset.events():
        borrower = borrowers[event.user_id]
        borrower.kinds.add(event.KIND)
        _count_gaps(gaps, event)
        if isinstance(event, Repayment):
            if states(event) and event.days_past_due is not None:
                borrower.arrears[event.contract_id][_month(event.occurred_at)] = bucket(event.days_past_due)
            if event.kind == "paid" and event.amount_due and event.amount_paid is not None:
                shares.append(event.amount_paid / event.amount_due)
        elif isinstance(event, Transaction):
            borrower.days.append(event.occurred_at.timestamp() / 86_400)
            borrower.amounts.append(event.amount)
            if event.balance_after is not None and event.credit_limit:
                borrower.use[_month(event.occurred_at)] = event.balance_after / event.credit_limit
    everyone = list(borrowers.values())
    figures = arrears_figures([history for borrower in everyone for history in borrower.arrears.values()])
    figures |= contract_figures([borrower.arrears for borrower in everyone])
    figures |= payment_figures(np.array(shares))
    figures |= use_figures([borrower.use for borrower in everyone])
    if dataset.name in _MOVEMENTS:
        figures |= movement_figures([(np.array(b.days), np.array(b.amounts)) for b in everyone if b.days])
    figures |= {f"without {kind}": 1 - _share(kind in b.kinds for b in everyone) for kind in _KINDS}
    return figures | {f"missing {name}": missing / seen for name, (missing, seen) in sorted(gaps.items())}


def bucket(days_past_due: float) -> int:
    """Instalments in arrears that a number of days past due stands for, at most `BUCKETS - 1`."""
    return int(min(np.ceil(max(days_past_due, 0.0) / DAYS_PER_BUCKET), BUCKETS - 1))


def arrears_figures(histories: Iterable[dict[int, int]]) -> Figures:
    """Share of account-months by bucket, monthly roll rates between buckets, and relapses within half a year of a cure.

    `histories` map months to buckets; a roll is counted where the next month is known too.
    """
    held = np.zeros(BUCKETS)
    rolls = np.zeros((BUCKETS, BUCKETS))
    entries, exposed, cures, at_cure = (np.zeros(12) for _ in range(4))
    relapses = cured = ever = accounts = 0
    for history in histories:
        accounts += bool(history)
        ever += any(history.values())
        for month, now in history.items():
            held[now] += 1
            then = history.get(month + 1)
            if then is None:
                continue
            rolls[now, then] += 1
            place = (month + 1) % 12
            exposed[place] += now == 0
            entries[place] += now == 0 < then
            at_cure[place] += now > 0
            cures[place] += now > then
            after = [history.get(month + 1 + later) for later in range(1, RELAPSE_MONTHS + 1)]
            if now > then == 0 and None not in after:
                cured += 1
                relapses += any(after)
    if not rolls.sum():
        return {}
    figures = {f"months at {name}": float(held[place] / held.sum()) for place, name in enumerate(_BUCKET_NAMES)}
    figures["accounts ever in arrears"] = ever / accounts
    leaving = rolls.sum(axis=1)
    for bucket_now, buckets_then, name in _ROLLS:
        if leaving[bucket_now]:
            figures[name] = float(rolls[bucket_now, buckets_then].sum() / leaving[bucket_now])
    if cured:
        figures["relapse within 6 months of a cure"] = relapses / cured
    if exposed.min() > 0 and at_cure.min() > 0:
        rate, cure = entries / exposed, cures / at_cure
        figures["new arrears, December and January over the year"] = float(rate[[11, 0]].mean() / rate.mean())
        figures["cures, February to April over the year"] = float(cure[1:4].mean() / cure.mean())
    return figures


def contract_figures(borrowers: Sequence[Mapping[str | None, Mapping[int, int]]]) -> Figures:
    """How many contracts borrowers have in a month, on how many of several they are in arrears, and roll rates by type,
    which is the word that a contract's id begins with; nothing for a source that names no contracts.

    `borrowers` map contracts to months and these to buckets.
    """
    counts: list[int] = []
    behind: list[tuple[int, int]] = []  # contracts in arrears and in all, of several in a month of arrears
    by_type: defaultdict[str, list[dict[int, int]]] = defaultdict(list)
    for contracts in borrowers:
        months: defaultdict[int, list[int]] = defaultdict(list)
        for contract_id, history in contracts.items():
            if contract_id is not None:
                by_type[contract_id.partition("-")[0]].append(dict(history))
            for month, held in history.items():
                months[month].append(held)
        counts += [len(held) for held in months.values()]
        late = [(sum(map(bool, held)), len(held)) for held in months.values()]
        behind += [(some, several) for some, several in late if several > 1 and some]
    if not by_type or not behind:
        return {}
    figures = {
        "contracts with a bill in a month, mean": float(np.mean(counts)),
        "months with bills of several contracts": _share(count > 1 for count in counts),
        "of these in arrears, not on all contracts": _share(some < several for some, several in behind),
        "of these in arrears, on one contract": _share(some == 1 for some, several in behind),
    }
    for kind, histories in sorted(by_type.items()):
        found = arrears_figures(histories)
        names = ("roll from none to arrears", "cure from 1 instalment", "roll from 2 to 3 instalments")
        figures |= {f"{name}, {kind}": found[name] for name in names if name in found}
    return figures


def payment_figures(shares: NDArray[np.float64]) -> Figures:
    """How much of what is due a payment covers; `shares` `[payments]`."""
    if not len(shares):
        return {}
    return {
        "payments below the amount due": float((shares < 1 - _WITHIN).mean()),
        "payments of the amount due": float((np.abs(shares - 1) <= _WITHIN).mean()),
        "payments above the amount due": float((shares > 1 + _WITHIN).mean()),
        **_quantiles("payment over amount due", shares, (0.05, 0.5, 0.95)),
    }


def use_figures(histories: Iterable[dict[int, float]]) -> Figures:
    """Use of the limit at the end of each month with a movement, across and within borrowers, and its persistence."""
    values: list[float] = []
    pairs: list[tuple[float, float]] = []
    within: list[float] = []
    for history in histories:
        values += history.values()
        pairs += [(now, history[month + 1]) for month, now in history.items() if month + 1 in history]
        if len(history) >= 4:
            within.append(float(np.std(list(history.values()))))
    if len(pairs) < 2:
        return {}
    used = np.array(values)
    first, second = np.clip(np.array(pairs), -1, 2).T
    return {
        **_quantiles("utilisation", used, (0.1, 0.5, 0.9)),
        "utilisation above 95%": float((used > 0.95).mean()),
        "utilisation, standard deviation within a borrower (median)": float(np.median(within)),
        "utilisation, correlation with the month before": float(np.corrcoef(first, second)[0, 1]),
    }


def movement_figures(movements: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figures:
    """Movements per month, gaps between them and how amounts spread, from days `[n]` and amounts `[n]` per borrower."""
    counts: list[int] = []
    gaps: list[NDArray[np.float64]] = []
    spread, variation, december, dispersion = [], [], [], []
    amounts, incoming = [], []
    for days, values in movements:
        month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        per_month = np.bincount(month - month[0])[1:-1]  # whole months only
        counts += per_month.tolist()
        incoming.append(float((values > 0).mean()))
        amounts.append(np.abs(values))
        if len(per_month) >= 6 and per_month.mean() > 0:
            dispersion.append(float(per_month.var() / per_month.mean()))
        out = np.abs(values[values < 0])
        if len(out) >= 10:
            spread.append(float(np.std(np.log(np.maximum(out, 1e-2)))))
        if len(days) >= 10:
            gap = np.diff(np.floor(days))
            gaps.append(gap)
            variation.append(float(gap.std() / max(gap.mean(), 1e-9)))
        totals = np.bincount(month - month[0], weights=np.maximum(-values, 0))[1:-1]
        place = (np.arange(1, len(totals) + 1) + month[0]) % 12 == 11
        if place.any() and not place.all() and totals[~place].sum() > 0:
            december.append((float(totals[place].mean()), float(totals[~place].mean())))
    if not gaps:
        return {}
    all_gaps, per_month = np.concatenate(gaps), np.array(counts)
    everything = np.concatenate(amounts)
    figures = {
        **_quantiles("movements per month", per_month, (0.1, 0.5, 0.9)),
        "movements per month, variance over mean within an account (median)": float(np.median(dispersion or [np.nan])),
        "movements that bring money in": float(np.mean(incoming)),
        "movements on the day of the one before": float((all_gaps == 0).mean()),
        **_quantiles("days between movements", all_gaps, (0.5, 0.9, 0.99)),
        "gaps, coefficient of variation within an account (median)": float(np.median(variation)),
        "amounts, 95th over 50th percentile": float(np.quantile(everything, 0.95) / np.quantile(everything, 0.5)),
        "money out, standard deviation of its logarithm within an account (median)": float(
            np.median(spread or [np.nan])
        ),
    }
    if december:
        in_december, otherwise = np.sum(december, axis=0)
        figures["money out in December over other months"] = float(in_december / otherwise)
    return figures


def _quantiles(name: str, values: NDArray[np.float64] | NDArray[np.int64], at: tuple[float, ...]) -> Figures:
    return {f"{name}, {100 * q:.0f}th percentile": float(np.quantile(values, q)) for q in at}


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean(list(flags)))


def _month(moment: dt.datetime) -> int:
    return moment.year * 12 + moment.month - 1 - _EPOCH_MONTH


def _count_gaps(gaps: defaultdict[str, list[int]], event: Event) -> None:
    for name in _FIELDS[type(event)]:
        tally = gaps[name]
        tally[0] += getattr(event, name) is None
        tally[1] += 1


def _any(_: Repayment) -> bool:
    return True


def _bill(event: Repayment) -> bool:
    return event.kind == "due"


def _month_end(event: Repayment) -> bool:
    return event.occurred_at.hour >= 12


def _never(_: Repayment) -> bool:
    return False


_KINDS = ("transactions", "activity", "profiles")
_BUCKET_NAMES = ("no arrears", "1 instalment", "2 instalments", "3 or more")
_ROLLS = (
    (0, [1, 2, 3], "roll from none to arrears"),
    (1, [2, 3], "roll from 1 to 2 instalments"),
    (1, [0], "cure from 1 instalment"),
    (2, [3], "roll from 2 to 3 instalments"),
    (2, [0, 1], "improvement from 2 instalments"),
    (3, [0, 1, 2], "improvement from 3 or more"),
)
_ARREARS: dict[str, Callable[[Repayment], bool]] = {
    # Which repayment events state the arrears of a month: the simulator's bills, the end of a month, every status.
    "simulator": _bill,
    "auto-loans": _month_end,
    "taiwan": _any,
    "berka": _never,
}
_MOVEMENTS = frozenset({"simulator", "berka"})
"""Sources whose transactions are single movements and not a month's sum."""
_FIELDS: dict[type[Event], tuple[str, ...]] = {
    Repayment: ("days_past_due", "balance"),
    Transaction: ("category", "channel", "balance_after"),
    Activity: (),
    Profile: ("income", "employment", "bureau_score", "credit_limit"),
}
