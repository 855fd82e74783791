"""The reasons of an alert: which entries of the catalogue apply to it, and how much each contributes.

A branch's contribution is the part of the score that comes from one kind of event; the user's running facts
(`stream.alerts.facts`) show which causes of that kind apply. Does no I/O; must not decide whether an alert is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.contracts import ENDED, NO_CONTRACT, contract_days, contract_id_of
from events.reasons import CATALOGUE, Catalogued, cause_of
from events.types import KINDS, Kind
from stream.alerts.effects import Effects
from stream.alerts.facts import FACTS, RECENT, SLOW, Marks, initial_facts, update_facts
from stream.outputs import Reason

__all__ = [
    "CATALOGUE",
    "FACTS",
    "Catalogued",
    "Finding",
    "Marks",
    "all_findings",
    "initial_facts",
    "reasons_of",
    "update_facts",
]

MOST_REASONS = 4
LEAST_CONTRIBUTION = 0.05
"""Log-odds below which a branch is not named: 0.05 moves a probability by about a twentieth of itself at most."""

ALWAYS_NAMED = ("overdue", "late_payment")
"""Codes of the days-past-due backstop: named even where the branch adds nothing, at most one, and before others."""

SURE_AFTER_DAYS = 60
"""Days of history that a usual level needs."""


UNKNOWN_EFFECTS = Effects({})

_ORDER = {code: number for number, code in enumerate(CATALOGUE)}
_GENERAL: dict[Kind, str] = {
    "repayments": "repayment_pattern",
    "transactions": "spending_pattern",
    "activity": "activity_pattern",
    "profiles": "profile_risk",
}


@dataclass(frozen=True)
class Finding:
    """A fact that applies: its code, how strongly (above 0, at most 1), and its sentence."""

    code: str
    strength: float
    text: str


def reasons_of(
    contributions: NDArray[np.float32],
    facts: NDArray[np.void],
    standing: NDArray[np.void],
    today: NDArray[np.int64],
    log_odds: NDArray[np.float64] | None = None,
    effects: Effects = UNKNOWN_EFFECTS,
) -> list[list[Reason]]:
    """At most four reasons for each of `n` alerts, largest contribution first.

    `contributions` float32 `[n, 4]`, kinds in the order of KINDS: log-odds of the score minus its log-odds with that
    branch's readout at zero. `facts` FACTS and `standing` STANDING `[n]` right after the event that raised the alert,
    on the day `today` int64 `[n]`; `log_odds` `[n]` of the score. A reason's contribution is the log-odds that the
    score would lose without its cause, as `effects` estimates it; the rest of a branch's contribution goes to the
    branch's general code. Without estimates the branch's contribution is divided among its causes in proportion to
    their strengths. Loops over rows, which are few: those whose alert opened or escalated.
    """
    scores = np.zeros(len(facts)) if log_odds is None else log_odds
    return [
        _reasons(parts, findings, score, effects)
        for parts, findings, score in zip(
            contributions.tolist(), all_findings(facts, standing, today), scores.tolist(), strict=True
        )
    ]


def all_findings(
    facts: NDArray[np.void], standing: NDArray[np.void], today: NDArray[np.int64]
) -> list[dict[Kind, list[Finding]]]:
    """For each user the facts that apply, by branch; arguments as for `reasons_of`."""
    days = contract_days(standing, today)
    return [_findings(*user) for user in zip(facts, standing, days, today.tolist(), strict=True)]


def _findings(facts: np.void, standing: np.void, days: NDArray[np.float64], today: int) -> dict[Kind, list[Finding]]:
    """One user's facts that apply; of codes with the same cause, the first of the catalogue, and of contracts the one
    of which it applies most."""
    snapshot = _Snapshot(facts)
    found: dict[Kind, list[Finding]] = {kind: list(_FINDERS[kind](snapshot)) for kind in KINDS if kind in _FINDERS}
    found["repayments"] = _of_contracts(facts["repayments"], standing, days, today)
    return {kind: list(_by_cause(found.get(kind, []))) for kind in KINDS}


def _by_cause(findings: list[Finding]) -> Iterator[Finding]:
    causes = set()
    for finding in sorted(findings, key=lambda finding: _ORDER[finding.code]):
        cause = cause_of(finding.code)
        if cause not in causes:
            causes.add(cause)
            yield finding


def _of_contracts(facts: NDArray[np.void], standing: np.void, days: NDArray[np.float64], today: int) -> list[Finding]:
    """Of each code the finding on the contract where it is strongest; it names the contract if it has a name."""
    strongest: dict[str, Finding] = {}
    for place, phase in enumerate(standing["phase"].tolist()):
        if phase in (NO_CONTRACT, ENDED):
            continue
        name = contract_id_of(standing["contract_id"][place])
        contract = _Contract(facts[place], float(days[place]), today)
        for finding in _repayment_findings(contract):
            if finding.code not in strongest or finding.strength > strongest[finding.code].strength:
                text = finding.text if name is None else f"{name}: {finding.text}"
                strongest[finding.code] = Finding(finding.code, finding.strength, text)
    return list(strongest.values())


def _reasons(
    contributions: list[float], found: dict[Kind, list[Finding]], log_odds: float, effects: Effects
) -> list[Reason]:
    named: list[Reason] = []
    must_hear: Reason | None = None
    for (kind, findings), contribution in zip(found.items(), contributions, strict=True):
        weighed = _weighed(kind, findings, contribution, log_odds, effects)
        if findings and findings[0].code in ALWAYS_NAMED:
            must_hear = weighed[0]
        named += [reason for reason in weighed if reason.contribution >= LEAST_CONTRIBUTION]
    named.sort(key=lambda reason: (-reason.contribution, _ORDER[reason.code]))
    named = named[:MOST_REASONS]
    if must_hear is not None and must_hear not in named:
        named = [*named[: MOST_REASONS - 1], must_hear]
    return named or [Reason(code="combination", text=CATALOGUE["combination"].text, contribution=0.0)]


def _weighed(
    kind: Kind, findings: list[Finding], contribution: float, log_odds: float, effects: Effects
) -> list[Reason]:
    """A reason for each finding, in order, and the branch's general code if it contributes more than they do."""
    known = contribution if contribution == contribution else 0.0
    shares = _shares(findings, known)
    weights = [
        share if (effect := effects.estimate(finding.code, known, finding.strength, log_odds)) is None else effect
        for finding, share in zip(findings, shares, strict=True)
    ]
    reasons = [
        Reason(code=finding.code, text=finding.text, contribution=round(max(weight, 0.0), 4))
        for finding, weight in zip(findings, weights, strict=True)
    ]
    rest = known - sum(reason.contribution for reason in reasons)
    general = CATALOGUE[_GENERAL[kind]]
    return [*reasons, Reason(code=general.code, text=general.text, contribution=round(max(rest, 0.0), 4))]


def _shares(findings: list[Finding], contribution: float) -> list[float]:
    """The contribution divided by strength; zeros for one below `LEAST_CONTRIBUTION`."""
    if contribution < LEAST_CONTRIBUTION:
        return [0.0] * len(findings)
    whole = sum(finding.strength for finding in findings)
    return [contribution * finding.strength / whole for finding in findings]


class _Snapshot:
    """One user's facts as numbers, decayed to the day of the user's latest event."""

    def __init__(self, row: np.void) -> None:
        # All fields as Python numbers at once: that takes as long as reading a few of them from a numpy row.
        self._row: dict[str, Any] = dict(zip(FACTS.names or (), row.item(), strict=True))
        latest = self._row["latest_day"].tolist()
        first = self._row["first_day"].tolist()
        self.today: int = max(latest)
        self._idle = {kind: self.today - day for kind, day in zip(KINDS, latest, strict=False)}
        self._age = {kind: self.today - day if day else -1 for kind, day in zip(KINDS, first, strict=False)}

    def number(self, name: str) -> float:
        """A fact as it is; NaN where nothing is known."""
        return float(self._row[name])

    def days_since(self, name: str) -> int | None:
        """Days from the day that `name` holds to today, None when it holds none."""
        day = int(self._row[name])
        return self.today - day if day else None

    def recent(self, kind: Kind, name: str) -> float:
        """A recent sum or count, decayed to today."""
        return self.number(name) * RECENT.over(self._idle[kind])

    def times_usual(self, kind: Kind, name: str) -> float:
        """How many times its usual level the recent level of `name` is; NaN when too little is known.

        Each level is a decayed sum divided by the sum that one unit a day since the first event would give, so that a
        short history is not mistaken for a rise.
        """
        age = self._age[kind]
        if age < SURE_AFTER_DAYS:
            return float("nan")
        recent = self.recent(kind, f"{name}_recent") / RECENT.of_steady(age)
        usual = self.number(f"{name}_slow") * SLOW.over(self._idle[kind]) / SLOW.of_steady(age)
        return recent / usual if usual > 0 else float("nan")


class _Contract:
    """One contract's facts as numbers on the day `today`; `days_past_due` NaN when not known."""

    def __init__(self, facts: np.void, days_past_due: float, today: int) -> None:
        self._facts: dict[str, Any] = dict(zip(facts.dtype.names or (), facts.item(), strict=True))
        self._today = today
        self.days_past_due = days_past_due

    def number(self, name: str) -> float:
        """A fact as it is; NaN where nothing is known."""
        return float(self._facts[name])

    def recent(self, name: str) -> float:
        """A recent count, decayed to today."""
        return self.number(name) * RECENT.over(max(self._today - int(self._facts["latest_day"]), 0))

    def days_since_payment(self) -> int | None:
        """Days from the latest payment to today, None when there was none."""
        day = int(self._facts["paid_day"])
        return max(self._today - day, 0) if day else None


def _found(code: str, strength: float, **values: object) -> Finding:
    return Finding(code, min(max(strength, 0.01), 1.0), CATALOGUE[code].text.format(**values))


def _count(number: float, noun: str) -> str:
    whole = round(number)
    return f"{whole} {noun}" if whole == 1 else f"{whole} {noun}s"


def _repayment_findings(user: _Contract) -> Iterator[Finding]:
    past_due = user.days_past_due
    if past_due >= 1:
        yield _found("overdue", past_due / 30, days=_count(past_due, "day"))
    last, usual = user.number("late_last"), user.number("late_slow")
    if last >= 15 and not past_due >= 1:
        yield _found("late_payment", last / 60, days=_count(last, "day"))
    if last > user.number("late_previous") and last >= usual + 2:
        yield _found("paying_later", (last - usual) / 10, last=_count(last, "day"), usual=_count(usual, "day"))
    missed = user.recent("missed")
    if missed >= 0.5:
        yield _found("missed_payments", missed / 2, what="a payment was" if missed < 1.5 else "several payments were")
    covered = user.number("paid_share")
    if covered < 0.9:
        yield _found("part_payments", 1 - covered, percent=round(100 * covered))
    returned = user.recent("reversed")
    if returned >= 0.5:
        yield _found("reversed_payment", returned)
    silent = user.days_since_payment()
    if silent is not None and silent >= 45:
        yield _found("no_payment", (silent - 30) / 60, days=_count(silent, "day"))


def _transaction_findings(user: _Snapshot) -> Iterator[Finding]:
    near = user.days_since("near_limit_day")
    if near is not None:
        time = "a few days" if near < 7 else _count(near // 7, "week")
        yield _found("near_limit", 0.5 + near / 56, time=time)
    cash, spent = user.times_usual("transactions", "cash"), user.times_usual("transactions", "spent")
    of_spending = 0.1 * user.recent("transactions", "spent_recent")
    if cash >= 1.5 and user.recent("transactions", "cash_recent") >= of_spending:
        yield _found("cash_out", (cash - 1) / 2, times=f"{cash:.1f}")
    income = user.times_usual("transactions", "income")
    if income <= 0.6:
        yield _found("income_down", 1 - income, percent=round(100 * income))
    if spent >= 1.5:
        yield _found("spending_up", (spent - 1) / 2, times=f"{spent:.1f}")
    elif spent <= 0.4:
        yield _found("spending_down", (1 - spent) / 2, percent=round(100 * spent))


def _activity_findings(user: _Snapshot) -> Iterator[Finding]:
    inquiries = user.recent("activity", "inquiries")
    if inquiries >= 1.5:
        yield _found("credit_inquiries", inquiries / 4)
    devices = user.recent("activity", "device_changes")
    if devices >= 0.5:
        yield _found("device_change", devices)
    sessions = user.times_usual("activity", "sessions")
    if sessions >= 2:
        yield _found("sessions_up", (sessions - 1) / 2, times=f"{sessions:.1f}")
    elif sessions <= 0.4:
        yield _found("sessions_down", (1 - sessions) / 2)


_FINDERS: dict[Kind, Callable[[_Snapshot], Iterator[Finding]]] = {
    "transactions": _transaction_findings,
    "activity": _activity_findings,
}
