"""Which events a replay publishes: a range of event time, of all users or of some. Pure."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, replace

import msgspec

from stream.scoring.scorer import KeyedValues, Scored


class ReplayError(RuntimeError):
    """A replay or a diff cannot be done; the message says why and what to do."""


class _Dated(msgspec.Struct, gc=False):
    occurred_at: dt.datetime


_decode_date = msgspec.json.Decoder(_Dated).decode


def occurred_at(value: bytes) -> dt.datetime:
    """The event time of an event, a score or an alert. Raises `msgspec.MsgspecError`."""
    return _decode_date(value).occurred_at


@dataclass(frozen=True)
class ReplayRange:
    """Event time from `from_at` up to but not including `to_at`; only some `users`, or all if None."""

    name: str
    from_at: dt.datetime
    to_at: dt.datetime
    users: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.from_at >= self.to_at:
            raise ReplayError(f"--from {self.from_at.isoformat()} is not before --to {self.to_at.isoformat()}")

    def covers(self, occurred_at: dt.datetime) -> bool:
        return self.from_at <= occurred_at < self.to_at

    def wants(self, key: bytes) -> bool:
        return self.users is None or key.decode(errors="replace") in self.users

    def published(self, scored: Scored) -> Scored:
        """What of a batch is published: scores and alerts of events in the range, and who was forgotten.

        Counts them as `published_scores` and `published_alerts`.
        """
        scores, alerts = self._within(scored.scores), self._within(scored.alerts)
        published = Counter(
            published_scores=sum(map(len, scores.values())), published_alerts=sum(map(len, alerts.values()))
        )
        return replace(scored, scores=scores, alerts=alerts, counts=scored.counts + published)

    def _within(self, by_partition: dict[int, KeyedValues]) -> dict[int, KeyedValues]:
        kept = {
            partition: [(key, value) for key, value in values if self.covers(occurred_at(value))]
            for partition, values in by_partition.items()
        }
        return {partition: values for partition, values in kept.items() if values}
