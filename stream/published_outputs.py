"""Compares what two groups of workers have published of the same events: the live ones, and a shadow or a replay.

Reads topics; writes nothing. Scores are merged as they are read. Of one partition at a time, the openings of alerts and
each borrower's segments are in memory; of all, when each borrower defaulted and was last seen.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec

from events.columns import COLUMNS
from stream.comparison.alerts import AlertShifts, Opening, ShiftedAlert, paired
from stream.comparison.outcomes import Confusion, Outcomes
from stream.comparison.pairing import LIVE, OTHER, Pair, Pairing, PublishedScore, Side
from stream.comparison.scores import ScoreShifts
from stream.database.products import stated_profile
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import LEVELS, AlertKind, Level, Moment, Offset, forgotten_by
from stream.replay.foreign import ForeignRecords, OutputValues
from stream.topics import OutputTopics

UNKNOWN_SEGMENT = "unknown"
PRODUCT = "product"
SEGMENT_FIELDS = tuple(name for name in COLUMNS["profiles"].categorical if name != PRODUCT)
"""Fields of profiles whose categories are segments, beside the product, which always is one."""

MOST_MOVED = 10
BUDGET_DAYS = 30.0

OnProgress = Callable[[int, int], None]


class PublishedAlert(msgspec.Struct, gc=False):
    """The fields of an alert that are compared."""

    user_id: str
    kind: AlertKind
    transition_id: str
    opened_at: Moment
    occurred_at: Moment
    level_to: Level
    source_topic: str
    source_offset: Offset


@dataclass(frozen=True)
class Scope:
    """What is compared: event time from `from_at` up to before `to_at`, None without limit; some `users`, None all."""

    from_at: dt.datetime | None = None
    to_at: dt.datetime | None = None
    users: Collection[str] | None = None

    def covers(self, at: dt.datetime) -> bool:
        return (self.from_at is None or at >= self.from_at) and (self.to_at is None or at < self.to_at)

    def covers_ms(self, at_ms: int) -> bool:
        return self.covers(dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC))

    def wants(self, user_id: str) -> bool:
        return self.users is None or user_id in self.users


class Definition(NamedTuple):
    """What a model calls default: days past due, and within how many days after an alert it counts as foreseen."""

    delinquency_days: float
    horizon_days: float


class Moved(NamedTuple):
    """A score that differs."""

    score_id: str
    user_id: str
    live: float
    other: float


@dataclass
class Comparison:
    """Result of a comparison.

    `identical` counts scores of equal bytes. `order_differs` counts events that are another one of their user's events
    on the other side: then both sides took these users' events in another order, or one has lost some.
    `not_compared` has the counts of `stream.comparison.pairing.Pairing`. `changed_alert_records` are records of alerts
    that one side lacks or has with other bytes; `moved_alerts` has, by user, the alerts that differ. `fields` are those
    of profiles by whose categories there are segments, beside the product.
    """

    scope: Scope
    definition: Definition | None = None
    fields: tuple[str, ...] = ()
    live_models: Counter[str] = field(default_factory=Counter)
    other_models: Counter[str] = field(default_factory=Counter)
    scores: ScoreShifts = field(default_factory=ScoreShifts)
    identical: int = 0
    moved: int = 0
    most_moved: list[Moved] = field(default_factory=list)
    order_differs: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)
    alerts: AlertShifts = field(default_factory=AlertShifts)
    changed_alert_records: int = 0
    moved_alerts: list[tuple[str, ShiftedAlert]] = field(default_factory=list)
    live_confusion: Confusion | None = None
    other_confusion: Confusion | None = None
    users: int = 0
    first_ms: int | None = None
    last_ms: int | None = None

    def levels(self) -> dict[str, dict[str, int]]:
        """How many scores have which level, by the live level and that of the other side."""
        return {
            was: dict(zip(LEVELS, counts, strict=True))
            for was, counts in zip(LEVELS, self.scores.levels.tolist(), strict=True)
        }

    def products(self) -> list[dict[str, Any]]:
        """Scores and alerts by product, the largest first."""
        return self._of_field(PRODUCT)

    def segments(self) -> dict[str, list[dict[str, Any]]]:
        """The same by the categories of each of `fields`."""
        return {name: self._of_field(name) for name in self.fields}

    def _of_field(self, name: str) -> list[dict[str, Any]]:
        alerts = self.alerts.by_segment
        return [
            {**asdict(segment), "alerts": dict(alerts.get((name, segment.segment), {}))}
            for segment in self.scores.segments(name)
        ]

    def alerts_per_1000(self, count: int) -> float | None:
        """Opened alerts per 1,000 borrowers and `BUDGET_DAYS` days, None where too little was seen."""
        if not self.users or self.first_ms is None or self.last_ms is None or self.last_ms <= self.first_ms:
            return None
        days = (self.last_ms - self.first_ms) / 86_400_000
        return 1000 * count * BUDGET_DAYS / (self.users * days)


def compare_outputs(
    kafka: KafkaConnection,
    live_topics: OutputTopics,
    other_topics: OutputTopics,
    profiles: str,
    scope: Scope,
    definition: Definition | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
    fields: Sequence[str] = (),
) -> Comparison:
    """Compare two groups' outputs; `profiles` is the topic that tells products and who was forgotten.

    `fields` are some of `SEGMENT_FIELDS`. Raises `TopicUnreadable` when a topic is missing, `TooFarApart`.
    """
    result, foreign = Comparison(scope, definition, tuple(fields)), ForeignRecords()
    outcomes = Outcomes(definition.delinquency_days) if definition else None
    opened: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    seen: set[str] = set()
    (live_scores, live_alerts), (other_scores, other_alerts) = _named(live_topics), _named(other_topics)
    with TopicReader(kafka) as live, TopicReader(kafka) as other:
        partitions = other.partitions(other_scores)
        total, done = live.size([live_scores]) + other.size([other_scores]), 0
        for partition in range(partitions):
            borrowers = _Borrowers.read(live, profiles, partition, (PRODUCT, *fields))
            pairing = Pairing(partial(_is_wanted, scope, borrowers.forgotten))
            streams = (
                _Scores(live, live_scores, partition, foreign, outcomes),
                _Scores(other, other_scores, partition, foreign, outcomes),
            )
            for pairs, read in _in_step(streams, pairing):
                _add_scores(result, pairs, borrowers, seen)
                done += read
                on_progress(done, total)
            result.not_compared.update(pairing.counts)
            sides = (
                _Alerts.read(live, live_alerts, partition, pairing, scope, foreign),
                _Alerts.read(other, other_alerts, partition, pairing, scope, foreign),
            )
            _add_alerts(result, sides, borrowers)
            for openings, side in zip(opened, sides, strict=True):
                openings |= {user: [one.opened_ms for one in found] for user, found in side.openings.items()}
    on_progress(total, total)  # offsets without a record, ends of transactions, were not counted
    foreign.tell()
    result.users = len(seen)
    if outcomes is not None and definition is not None:
        within = _in_ms(scope)
        result.live_confusion, result.other_confusion = (
            outcomes.confusion(openings, definition.horizon_days, *within) for openings in opened
        )
    return result


@dataclass
class _Borrowers:
    """Of one partition, what each borrower's latest profile that says something of a field says, by field and user; and
    who is to be forgotten."""

    stated: dict[str, dict[str, str]]
    forgotten: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, reader: TopicReader, topic: str, partition: int, fields: Sequence[str]) -> _Borrowers:
        found, names = cls({name: {} for name in fields}), dict[str, str]()
        now_ms = round(dt.datetime.now(dt.UTC).timestamp() * 1000)
        for record in reader.each(topic, partition):
            user_id = (record.key or b"").decode(errors="replace")
            if record.value is None:
                for stated in found.stated.values():
                    stated.pop(user_id, None)
                found.forgotten.add(user_id)
                continue
            profile = stated_profile(record.key, record.value, now_ms)
            if profile is None:
                continue
            found.forgotten.discard(user_id)
            for name, stated in found.stated.items():
                if (category := getattr(profile, name)) is not None:
                    stated[user_id] = names.setdefault(category, category)
        return found

    def segments_of(self, user_id: str) -> dict[str, str]:
        """The borrower's segment by field."""
        return {name: stated.get(user_id, UNKNOWN_SEGMENT) for name, stated in self.stated.items()}


def _named(topics: OutputTopics) -> tuple[str, str]:
    """The topics of scores and alerts. Raises `ValueError` where there are none."""
    if topics.scores is None or topics.alerts is None:
        raise ValueError("outputs without scores or alerts cannot be compared")
    return topics.scores, topics.alerts


def _in_ms(scope: Scope) -> tuple[int, int]:
    return (
        -(1 << 62) if scope.from_at is None else round(scope.from_at.timestamp() * 1000),
        1 << 62 if scope.to_at is None else round(scope.to_at.timestamp() * 1000),
    )


def _is_wanted(scope: Scope, forgotten: Collection[str], score: PublishedScore) -> bool:
    return scope.covers(score.occurred_at) and score.user_id not in forgotten and scope.wants(score.user_id)


class _Scores:
    """The scores of one topic's partition, poll by poll. All of them go into `outcomes`."""

    def __init__(
        self, reader: TopicReader, topic: str, partition: int, foreign: ForeignRecords, outcomes: Outcomes | None
    ) -> None:
        self._polls = reader.records([topic], partition)
        self._topic = topic
        self._values = OutputValues(topic, PublishedScore, foreign)
        self._outcomes = outcomes
        self.reached = dt.datetime.min.replace(tzinfo=dt.UTC)
        """The latest event time so far."""
        self.ended = False

    def next(self) -> tuple[list[PublishedScore | str], int]:
        """The scores of the next poll, between them the ids of users who are forgotten, and how many records it had."""
        found = next(self._polls, None)
        if found is None:
            self.ended = True
            return [], 0
        records = found[0].get(self._topic, [])
        read: list[PublishedScore | str] = []
        for record in records:
            if forgotten_by(record.value, record.headers) is not None:
                read.append((record.key or b"").decode(errors="replace"))
                continue
            score = self._values.one(record.value)
            if score is not None:
                score.digest = hashlib.blake2b(record.value, digest_size=16).digest()
                self._note(score)
                read.append(score)
        return read, len(records)

    def _note(self, score: PublishedScore) -> None:
        self.reached = max(self.reached, score.occurred_at)
        if self._outcomes is not None:
            at_ms = round(score.occurred_at.timestamp() * 1000)
            self._outcomes.add(score.user_id, at_ms, score.days_past_due, score.status)


def _in_step(streams: tuple[_Scores, _Scores], pairing: Pairing) -> Iterator[tuple[list[Pair], int]]:
    """Read both sides to their ends, always the one that is behind in event time, so that few scores wait."""
    while not all(stream.ended for stream in streams):
        side: Side = LIVE if streams[LIVE].reached <= streams[OTHER].reached else OTHER
        if streams[side].ended:
            side = OTHER if side == LIVE else LIVE
        found, count = streams[side].next()
        scores: list[PublishedScore] = []
        for one in found:
            if isinstance(one, str):
                pairing.add(side, scores)
                pairing.forget(side, one)
                scores = []
            else:
                scores.append(one)
        pairing.add(side, scores)
        yield pairing.pairs(), count
    pairing.end()


def _add_scores(result: Comparison, pairs: Sequence[Pair], borrowers: _Borrowers, seen: set[str]) -> None:
    if not pairs:
        return
    live, other = [pair[LIVE] for pair in pairs], [pair[OTHER] for pair in pairs]
    result.live_models.update(score.model for score in live)
    result.other_models.update(score.model for score in other)
    result.order_differs += sum(was.sequence != now.sequence for was, now in pairs)
    result.identical += sum(was.digest == now.digest for was, now in pairs)
    moved = [
        Moved(now.score_id, now.user_id, was.score, now.score) for was, now in pairs if was.score != now.score
    ]  # fmt: skip
    result.moved += len(moved)
    result.most_moved = heapq.nlargest(
        MOST_MOVED, [*result.most_moved, *moved], key=lambda one: abs(one.other - one.live)
    )
    seen.update(score.user_id for score in live)
    times = [round(score.occurred_at.timestamp() * 1000) for score in live]
    result.first_ms = min(times) if result.first_ms is None else min(result.first_ms, *times)
    result.last_ms = max(times) if result.last_ms is None else max(result.last_ms, *times)
    result.scores.add(
        [score.score for score in live],
        [score.score for score in other],
        [score.level for score in live],
        [score.level for score in other],
        {
            name: [stated.get(score.user_id, UNKNOWN_SEGMENT) for score in live]
            for name, stated in borrowers.stated.items()
        },
    )


@dataclass
class _Alerts:
    """The alerts of one partition at events that both sides have scored, without users forgotten since: digests of all
    records by transition, and what was opened by user."""

    records: dict[str, bytes] = field(default_factory=dict)
    openings: dict[str, list[Opening]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        reader: TopicReader,
        topic: str,
        partition: int,
        pairing: Pairing,
        scope: Scope,
        foreign: ForeignRecords,
    ) -> _Alerts:
        values, found = OutputValues(topic, PublishedAlert, foreign), cls()
        transitions: dict[str, list[str]] = {}
        for record in reader.each(topic, partition):
            if forgotten_by(record.value, record.headers) is not None:
                user_id = (record.key or b"").decode(errors="replace")
                found.openings.pop(user_id, None)
                for name in transitions.pop(user_id, []):
                    found.records.pop(name, None)
                continue
            alert = values.one(record.value)
            if alert is None or not scope.wants(alert.user_id):
                continue
            if not pairing.both_scored(alert.source_topic, alert.source_offset):
                continue
            if scope.covers(alert.occurred_at):
                found.records[alert.transition_id] = hashlib.blake2b(record.value, digest_size=16).digest()
                transitions.setdefault(alert.user_id, []).append(alert.transition_id)
            if alert.kind == "opened":
                opened_ms = round(alert.opened_at.timestamp() * 1000)
                found.openings.setdefault(alert.user_id, []).append(Opening(opened_ms, alert.level_to))
        return found


def _add_alerts(result: Comparison, sides: tuple[_Alerts, _Alerts], borrowers: _Borrowers) -> None:
    live, other = sides
    result.changed_alert_records += sum(
        live.records.get(name) != other.records.get(name) for name in live.records.keys() | other.records.keys()
    )
    for user_id in sorted(live.openings.keys() | other.openings.keys()):
        shifts = paired(sorted(live.openings.get(user_id, [])), sorted(other.openings.get(user_id, [])))
        wanted = [shift for shift in shifts if _is_within(result.scope, shift)]
        result.alerts.add(user_id, borrowers.segments_of(user_id), wanted)
        result.moved_alerts += [(user_id, shift) for shift in wanted if shift.shift != "same"]


def _is_within(scope: Scope, shift: ShiftedAlert) -> bool:
    """Whether an alert was opened within the times on one side at least."""
    return any(scope.covers_ms(opening.opened_ms) for opening in (shift.live, shift.other) if opening is not None)
