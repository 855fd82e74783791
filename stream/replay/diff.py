"""What a replay's comparison with the live outputs says, as figures. Pure but for the call of
`stream.published_outputs`, which reads the topics.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stream.comparison.alerts import ShiftedAlert
from stream.comparison.outcomes import Confusion
from stream.kafka.connection import KafkaConnection
from stream.outputs import moment_of
from stream.published_outputs import Comparison, Definition, OnProgress, Scope, compare_outputs
from stream.replay.range import ReplayRange
from stream.settings import Settings


@dataclass(frozen=True)
class AlertShift:
    """An alert that one side opened and the other did not, or opened at another time. `lead_days` is how much earlier
    the replay warns."""

    user_id: str
    live_opened_at: dt.datetime | None
    replayed_opened_at: dt.datetime | None
    lead_days: float | None = None

    @classmethod
    def of(cls, user_id: str, shifted: ShiftedAlert) -> AlertShift:
        live, replayed = (
            None if opening is None else moment_of(opening.opened_ms) for opening in (shifted.live, shifted.other)
        )
        return cls(user_id, live, replayed, shifted.lead_days)


@dataclass
class ReplayDiff:
    """A comparison under the names of a replay. `identical_scores` counts equal bytes, `moved` changed headline scores,
    `live_expired` scores of events whose live scores retention has taken."""

    found: Comparison
    compared_scores: int = 0
    identical_scores: int = 0
    live_expired: int = 0
    only_live: int = 0
    only_replayed: int = 0
    alerts_gained: list[AlertShift] = field(default_factory=list)
    alerts_lost: list[AlertShift] = field(default_factory=list)
    alerts_earlier: list[AlertShift] = field(default_factory=list)
    alerts_later: list[AlertShift] = field(default_factory=list)

    @classmethod
    def of(cls, found: Comparison) -> ReplayDiff:
        alone = found.not_compared
        shifted: dict[str, list[AlertShift]] = {}
        for user_id, alert in found.moved_alerts:
            shifted.setdefault(alert.shift, []).append(AlertShift.of(user_id, alert))
        return cls(
            found,
            compared_scores=found.scores.scores,
            identical_scores=found.identical,
            live_expired=alone["other_before"],
            only_live=alone["only_live"] + alone["live_before"] + alone["live_after"],
            only_replayed=alone["only_other"] + alone["other_after"],
            alerts_gained=shifted.get("gained", []),
            alerts_lost=shifted.get("lost", []),
            alerts_earlier=shifted.get("earlier", []),
            alerts_later=shifted.get("later", []),
        )

    @property
    def live_alerts(self) -> int:
        return sum(self.found.alerts.live_levels.values())

    @property
    def replayed_alerts(self) -> int:
        return sum(self.found.alerts.other_levels.values())

    @property
    def differs(self) -> bool:
        """Whether anything at all differs."""
        return bool(
            self.compared_scores != self.identical_scores
            or self.only_live
            or self.only_replayed
            or self.found.changed_alert_records
            or self.found.moved_alerts
        )

    def as_report(self) -> dict[str, Any]:
        """JSON-ready figures."""
        found, scores, alerts = self.found, self.found.scores, self.found.alerts
        return {
            "differs": self.differs,
            "compared_scores": self.compared_scores,
            "identical_scores": self.identical_scores,
            "moved": found.moved,
            "level_changed": scores.level_changed,
            "largest_move": scores.largest_shift,
            "mean_move": scores.absolute_shift / found.moved if found.moved else 0.0,
            "population_stability": scores.population_stability(),
            "live_expired": self.live_expired,
            "only_live": self.only_live,
            "only_replayed": self.only_replayed,
            "most_moved": [
                {"score_id": one.score_id, "user_id": one.user_id, "live": one.live, "replayed": one.other}
                for one in found.most_moved
            ],
            "levels": found.levels(),
            "deciles": [asdict(decile) for decile in scores.deciles()],
            "products": found.products(),
            "segments": found.segments(),
            "live_alerts": self.live_alerts,
            "replayed_alerts": self.replayed_alerts,
            "changed_alert_records": found.changed_alert_records,
            "live_alerts_per_1000_borrowers_and_30_days": found.alerts_per_1000(self.live_alerts),
            "replayed_alerts_per_1000_borrowers_and_30_days": found.alerts_per_1000(self.replayed_alerts),
            "median_days_earlier": alerts.median_lead_days("earlier"),
            "median_days_later": alerts.median_lead_days("later"),
            **{name: [asdict(shift) for shift in getattr(self, name)] for name in _SHIFTS},
            "live_outcomes": _outcomes(found.live_confusion),
            "replayed_outcomes": _outcomes(found.other_confusion),
        }

    def as_figures(self) -> dict[str, Any]:
        """`as_report` without borrowers: of shifted alerts how many there are."""
        figures = self.as_report()
        del figures["most_moved"]
        return figures | {name: len(figures[name]) for name in _SHIFTS}


_SHIFTS = ("alerts_gained", "alerts_lost", "alerts_earlier", "alerts_later")


def _outcomes(confusion: Confusion | None) -> dict[str, float | None] | None:
    return None if confusion is None else confusion.as_report()


def diff_with_live(
    kafka: KafkaConnection,
    settings: Settings,
    replayed: ReplayRange,
    definition: Definition | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
    fields: Sequence[str] = (),
) -> ReplayDiff:
    """Compare a replay with what was published live in its range; by segments, too, of the profiles' `fields`.

    Raises `TopicUnreadable` when a topic is missing, `TooFarApart`.
    """
    topics = settings.topics
    scope = Scope(replayed.from_at, replayed.to_at, replayed.users)
    live, other = topics.live_outputs(settings.application_id), topics.replay_outputs(replayed.name)
    return ReplayDiff.of(
        compare_outputs(kafka, live, other, topics.of_kind("profiles"), scope, definition, on_progress, fields)
    )
