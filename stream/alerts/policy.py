"""The numbers of an alert policy, their checks, and the version that each alert carries.

Holds no state and does no arithmetic on events (see `stream.alerts.state_machine`) and no I/O.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol

RULES_VERSION = 2
"""Increased when `stream.alerts.state_machine` changes its decisions; part of every policy version."""

LARGEST_RELATIVE_RISE = 1_000_000

DAY_MS = 86_400_000


class Thresholds(Protocol):
    """Scores (probabilities at the headline horizon) at which a user is MEDIUM or HIGH, as a bundle carries them."""

    @property
    def medium(self) -> float: ...

    @property
    def high(self) -> float: ...


class PolicyError(ValueError):
    """A policy's number is out of range; the message names it, its value and what is expected."""


@dataclass(frozen=True, kw_only=True)
class AlertPolicy:
    """The numbers of the alert state machine, all part of `version`. `docs/alerts.md` describes each.

    Scores and rises are probabilities at the headline horizon. The last four fields are not settings: they are bound
    to how `stream.alerts.state_machine` works and change with its rules.
    """

    medium: float
    high: float
    relative_rise: float
    absolute_rise: float
    sticky_events: int
    extreme_score: float
    cure_days: float
    cooldown_days: float
    dpd_backstop: float
    baseline_half_life_events: float
    baseline_min_events: int = 8
    deterioration_floor_share: float = 0.5
    hysteresis: float = 0.8
    high_backstop_multiple: float = 2.0

    def __post_init__(self) -> None:
        expectations: tuple[tuple[str, bool, str], ...] = (
            ("medium", 0 < self.medium <= 1, "a probability above 0"),
            ("high", self.medium <= self.high <= 1, f"a probability not below medium ({self.medium})"),
            ("relative_rise", 0 <= self.relative_rise <= LARGEST_RELATIVE_RISE, f"0 to {LARGEST_RELATIVE_RISE}"),
            ("absolute_rise", 0 <= self.absolute_rise <= 1, "0 to 1"),
            ("sticky_events", 1 <= self.sticky_events <= 255, "1 to 255"),
            ("extreme_score", 0 < self.extreme_score <= 1, "a probability above 0"),
            ("cure_days", 0 <= self.cure_days <= 3_650, "0 to 3650 days"),
            ("cooldown_days", 0 <= self.cooldown_days <= 3_650, "0 to 3650 days"),
            ("dpd_backstop", 0 < self.dpd_backstop <= 3_650, "more than 0, at most 3650 days"),
            ("baseline_half_life_events", 0 < self.baseline_half_life_events < math.inf, "more than 0 events"),
            ("baseline_min_events", self.baseline_min_events >= 1, "1 or more events"),
            ("deterioration_floor_share", 0 <= self.deterioration_floor_share <= 1, "0 to 1"),
            ("hysteresis", 0 < self.hysteresis <= 1, "above 0, at most 1"),
            ("high_backstop_multiple", 1 <= self.high_backstop_multiple < math.inf, "1 or more"),
        )
        for name, holds, expected in expectations:
            if not holds:
                raise PolicyError(f"alert policy: {name} is {getattr(self, name)!r}; expected {expected}")

    @cached_property
    def version(self) -> str:
        """12 hex digits of the SHA-256 over the rules' version and every number; equal policies have equal versions."""
        numbers = {name: float(value) for name, value in asdict(self).items()}
        text = json.dumps({"rules": RULES_VERSION, **numbers}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def deterioration_floor(self) -> float:
        """Least score that can be a deterioration, whatever the baseline."""
        return self.deterioration_floor_share * self.medium

    @property
    def high_backstop(self) -> float:
        """Days past due that always mean HIGH."""
        return self.high_backstop_multiple * self.dpd_backstop

    @property
    def baseline_weight(self) -> float:
        """Weight of the newest score in the baseline once that is no longer a plain mean: `1 - 2^(-1/half-life)`."""
        return -math.expm1(-math.log(2) / self.baseline_half_life_events)

    @property
    def cure_ms(self) -> int:
        return round(self.cure_days * DAY_MS)

    @property
    def cooldown_ms(self) -> int:
        return round(self.cooldown_days * DAY_MS)
