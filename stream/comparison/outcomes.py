"""What came true of alerts: defaults within a horizon, as the borrower's own scores tell of them. Pure.

A borrower's default date is that of the first score with as many days past due as the model calls default, or with a
contract that is written off. An opening is right where the default follows within the horizon, wrong where none does,
and not known yet where the borrower was not seen for that long. A default is missed where no alert opened within the
horizon before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from stream.comparison.alerts import DAY_MS


class Seen(NamedTuple):
    """Of one borrower: the default date, None where there is none, and the latest event; both in ms."""

    default_ms: int | None
    latest_ms: int


@dataclass
class Confusion:
    """Alerts and defaults of many borrowers.

    `warned` defaults had an alert before them, within the horizon; `missed` had none. `right` and `wrong` openings,
    `after_default` opened on who was in default already, `not_known` those whose horizon has not passed.
    """

    defaults: int = 0
    warned: int = 0
    right: int = 0
    wrong: int = 0
    after_default: int = 0
    not_known: int = 0
    _lead_days: list[float] = field(default_factory=list)

    @property
    def missed(self) -> int:
        return self.defaults - self.warned

    @property
    def precision(self) -> float | None:
        """Share of right openings among those of which it is known."""
        known = self.right + self.wrong
        return self.right / known if known else None

    @property
    def recall(self) -> float | None:
        """Share of defaults that an alert came before."""
        return self.warned / self.defaults if self.defaults else None

    @property
    def median_lead_days(self) -> float | None:
        """From the first alert within the horizon to the default."""
        ordered = sorted(self._lead_days)
        return ordered[len(ordered) // 2] if ordered else None

    def as_report(self) -> dict[str, float | None]:
        """JSON-ready figures."""
        counts = {name: count for name, count in asdict(self).items() if not name.startswith("_")}
        return {
            **counts,
            "missed": self.missed,
            "precision": self.precision,
            "recall": self.recall,
            "median_lead_days": self.median_lead_days,
        }


@dataclass
class Outcomes:
    """Collects from scores when borrowers defaulted, and how long they were seen."""

    delinquency_days: float
    _seen: dict[str, Seen] = field(default_factory=dict)

    def add(self, user_id: str, at_ms: int, days_past_due: float | None, status: str | None) -> None:
        """Add one score of a borrower, in any order."""
        default_ms, latest_ms = self._seen.get(user_id, (None, at_ms))
        if status == "written_off" or (days_past_due is not None and days_past_due >= self.delinquency_days):
            default_ms = at_ms if default_ms is None else min(default_ms, at_ms)
        self._seen[user_id] = Seen(default_ms, max(latest_ms, at_ms))

    def confusion(
        self, opened_ms: Mapping[str, Iterable[int]], horizon_days: float, from_ms: int, to_ms: int
    ) -> Confusion:
        """Judge the openings by user; defaults from `from_ms` up to before `to_ms` count."""
        found, horizon_ms = Confusion(), horizon_days * DAY_MS
        for user_id, (default_ms, latest_ms) in self._seen.items():
            opened = sorted(opened_ms.get(user_id, ()))
            for at_ms in opened:
                if default_ms is not None and at_ms >= default_ms:
                    found.after_default += 1
                elif default_ms is not None and default_ms - at_ms <= horizon_ms:
                    found.right += 1
                elif default_ms is not None or latest_ms - at_ms >= horizon_ms:
                    found.wrong += 1
                else:
                    found.not_known += 1
            if default_ms is not None and from_ms <= default_ms < to_ms:
                found.defaults += 1
                before = [at_ms for at_ms in opened if 0 < default_ms - at_ms <= horizon_ms]
                if before:
                    found.warned += 1
                    found._lead_days.append((default_ms - before[0]) / DAY_MS)
        return found
