"""Compares what a shadow has published with what was published live, event by event, in bounded memory.

Reads topics; writes nothing. Scores are merged as they are read. Of one partition at a time, the openings of alerts and
each borrower's product are in memory.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import msgspec

from stream.comparison.alerts import PAIR_DAYS, AlertShifts, Opening, ShiftedAlert, paired
from stream.comparison.pairing import LIVE, OTHER, Pair, Pairing, PublishedScore, Side
from stream.comparison.scores import ScoreShifts
from stream.database.products import stated_product
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import LEVELS, AlertKind, Level, Moment, Offset, forgotten_by
from stream.replay.foreign import ForeignRecords, OutputValues
from stream.topics import Topics

UNKNOWN_PRODUCT = "unknown"

OnProgress = Callable[[int, int], None]


class PublishedAlert(msgspec.Struct, gc=False):
    """The fields of an alert that are compared."""

    user_id: str
    kind: AlertKind
    opened_at: Moment
    level_to: Level
    source_topic: str
    source_offset: Offset


@dataclass(frozen=True)
class EventTimes:
    """Event time from `from_at` up to but not including `to_at`; None is without limit."""

    from_at: dt.datetime | None = None
    to_at: dt.datetime | None = None

    def covers(self, at: dt.datetime) -> bool:
        return (self.from_at is None or at >= self.from_at) and (self.to_at is None or at < self.to_at)

    def covers_ms(self, at_ms: int) -> bool:
        return self.covers(dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC))


@dataclass
class ShadowReport:
    """Result of a comparison. `order_differs` counts events that are another one of their user's events on the other
    side: then both sides took these users' events in another order, or one has lost some."""

    name: str
    times: EventTimes
    live_models: Counter[str] = field(default_factory=Counter)
    shadow_models: Counter[str] = field(default_factory=Counter)
    scores: ScoreShifts = field(default_factory=ScoreShifts)
    alerts: AlertShifts = field(default_factory=AlertShifts)
    order_differs: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)

    def as_report(self) -> dict[str, Any]:
        """JSON-ready figures."""
        scores, alerts = self.scores, self.alerts
        of_alerts = {name: dict(counts) for name, counts in alerts.by_segment.items()}
        return {
            "shadow": self.name,
            "from": self.times.from_at,
            "to": self.times.to_at,
            "live_models": dict(self.live_models),
            "shadow_models": dict(self.shadow_models),
            "scores": {
                "compared": scores.scores,
                "identical": scores.identical,
                "mean_absolute_shift": scores.mean_absolute_shift,
                "largest_shift": scores.largest_shift,
                "population_stability": scores.population_stability(),
                "level_changed": scores.level_changed,
                "levels": {
                    was: dict(zip(LEVELS, counts, strict=True))
                    for was, counts in zip(LEVELS, scores.levels.tolist(), strict=True)
                },
                "deciles": [asdict(decile) for decile in scores.deciles()],
                "order_differs": self.order_differs,
            },
            "alerts": {
                "live": sum(alerts.live_levels.values()),
                "shadow": sum(alerts.other_levels.values()),
                "live_levels": dict(alerts.live_levels),
                "shadow_levels": dict(alerts.other_levels),
                **{shift: alerts.counts[shift] for shift in ("same", "earlier", "later", "gained", "lost")},
                "median_days_earlier": alerts.median_lead_days("earlier"),
                "median_days_later": alerts.median_lead_days("later"),
                "pair_days": PAIR_DAYS,
                "examples": [asdict(example) for example in alerts.examples],
            },
            "products": [
                {**asdict(segment), "alerts": of_alerts.get(segment.segment, {})} for segment in scores.segments()
            ],
            "not_compared": dict(self.not_compared),
        }


def compare_with_live(
    kafka: KafkaConnection,
    topics: Topics,
    name: str,
    times: EventTimes,
    on_progress: OnProgress = lambda _done, _total: None,
) -> ShadowReport:
    """Compare shadow `name` with the live outputs. Raises `TopicUnreadable` when a topic is missing, `TooFarApart`."""
    result, foreign = ShadowReport(name, times), ForeignRecords()
    with TopicReader(kafka) as live, TopicReader(kafka) as shadow:
        partitions = shadow.partitions(topics.shadow_scores(name))
        total, done = live.size([topics.scores]) + shadow.size([topics.shadow_scores(name)]), 0
        for partition in range(partitions):
            products, forgotten = _products(live, topics.of_kind("profiles"), partition)
            pairing = Pairing(partial(_is_wanted, times, forgotten))
            streams = (
                _Scores(live, topics.scores, partition, foreign),
                _Scores(shadow, topics.shadow_scores(name), partition, foreign),
            )
            for pairs, read in _in_step(streams, pairing):
                _add_scores(result, pairs, products)
                done += read
                on_progress(done, total)
            result.not_compared.update(pairing.counts)
            openings = (
                _openings(live, topics.alerts, partition, pairing, foreign),
                _openings(shadow, topics.shadow_alerts(name), partition, pairing, foreign),
            )
            _add_alerts(result, *openings, products)
    foreign.tell()
    return result


def _is_wanted(times: EventTimes, forgotten: Collection[str], score: PublishedScore) -> bool:
    return times.covers(score.occurred_at) and score.user_id not in forgotten


class _Scores:
    """The scores of one topic's partition, poll by poll."""

    def __init__(self, reader: TopicReader, topic: str, partition: int, foreign: ForeignRecords) -> None:
        self._polls = reader.records([topic], partition)
        self._topic = topic
        self._values = OutputValues(topic, PublishedScore, foreign)
        self.reached = dt.datetime.min.replace(tzinfo=dt.UTC)
        """The latest event time so far."""
        self.ended = False

    def next(self) -> tuple[list[PublishedScore], int]:
        """The scores of the next poll, and how many records it had."""
        found = next(self._polls, None)
        if found is None:
            self.ended = True
            return [], 0
        records = found[0].get(self._topic, [])
        kept = [record for record in records if forgotten_by(record.value, record.headers) is None]
        scores = [score for record in kept if (score := self._values.one(record.value)) is not None]
        self.reached = max((self.reached, *(score.occurred_at for score in scores)))
        return scores, len(records)


def _in_step(streams: tuple[_Scores, _Scores], pairing: Pairing) -> Iterator[tuple[list[Pair], int]]:
    """Read both sides to their ends, always the one that is behind in event time, so that few scores wait."""
    while not all(stream.ended for stream in streams):
        side: Side = LIVE if streams[LIVE].reached <= streams[OTHER].reached else OTHER
        if streams[side].ended:
            side = OTHER if side == LIVE else LIVE
        scores, read = streams[side].next()
        pairing.add(side, scores)
        yield pairing.pairs(), read
    pairing.end()


def _add_scores(result: ShadowReport, pairs: Sequence[Pair], products: dict[str, str]) -> None:
    if not pairs:
        return
    live, shadow = [pair[LIVE] for pair in pairs], [pair[OTHER] for pair in pairs]
    result.live_models.update(score.model for score in live)
    result.shadow_models.update(score.model for score in shadow)
    result.order_differs += sum(was.sequence != now.sequence for was, now in pairs)
    result.scores.add(
        [score.score for score in live],
        [score.score for score in shadow],
        [score.level for score in live],
        [score.level for score in shadow],
        [products.get(score.user_id, UNKNOWN_PRODUCT) for score in live],
    )


def _add_alerts(
    result: ShadowReport,
    live: dict[str, list[Opening]],
    shadow: dict[str, list[Opening]],
    products: dict[str, str],
) -> None:
    for user_id in sorted(live.keys() | shadow.keys()):
        shifts = paired(sorted(live.get(user_id, [])), sorted(shadow.get(user_id, [])))
        wanted = [shift for shift in shifts if _is_within(result.times, shift)]
        result.alerts.add(user_id, products.get(user_id, UNKNOWN_PRODUCT), wanted)


def _is_within(times: EventTimes, shift: ShiftedAlert) -> bool:
    """Whether an alert was opened within the times on one side at least."""
    return any(times.covers_ms(opening.opened_ms) for opening in (shift.live, shift.other) if opening is not None)


def _openings(
    reader: TopicReader, topic: str, partition: int, pairing: Pairing, foreign: ForeignRecords
) -> dict[str, list[Opening]]:
    """The alerts that were opened at events that both sides have scored, by user, without users forgotten since."""
    values = OutputValues(topic, PublishedAlert, foreign)
    found: dict[str, list[Opening]] = {}
    for record in reader.each(topic, partition):
        if forgotten_by(record.value, record.headers) is not None:
            found.pop((record.key or b"").decode(errors="replace"), None)
            continue
        alert = values.one(record.value)
        if (
            alert is not None
            and alert.kind == "opened"
            and pairing.both_scored(alert.source_topic, alert.source_offset)
        ):
            opened_ms = round(alert.opened_at.timestamp() * 1000)
            found.setdefault(alert.user_id, []).append(Opening(opened_ms, alert.level_to))
    return found


def _products(reader: TopicReader, topic: str, partition: int) -> tuple[dict[str, str], set[str]]:
    """Each borrower's product, as their latest profile that has one states it, and who is to be forgotten."""
    found: dict[str, str] = {}
    forgotten: set[str] = set()
    names: dict[str, str] = {}
    now_ms = round(dt.datetime.now(dt.UTC).timestamp() * 1000)
    for record in reader.each(topic, partition):
        user_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            found.pop(user_id, None)
            forgotten.add(user_id)
            continue
        stated = stated_product(record.key, record.value, partition, record.offset, now_ms)
        if stated is not None:
            forgotten.discard(user_id)
            if stated.product is not None:
                found[user_id] = names.setdefault(stated.product, stated.product)
    return found, forgotten
