"""Compares a replay with what was published live: scores that changed, alerts gained, lost, earlier and later.

Reads topics; writes nothing.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, Score, forgotten_by
from stream.replay.foreign import ForeignRecords, OutputValues
from stream.replay.run import ReplayRange
from stream.topics import Topics

EXAMPLES = 10


@dataclass(frozen=True)
class Moved:
    """A score that differs."""

    score_id: str
    user_id: str
    live: float
    replayed: float


@dataclass(frozen=True)
class AlertShift:
    """An alert that one side opened and the other did not, or opened at another time."""

    user_id: str
    live_opened_at: dt.datetime | None
    replayed_opened_at: dt.datetime | None


@dataclass
class ReplayDiff:
    """Result of a comparison. `identical_scores` counts equal bytes, `moved` counts changed headline scores."""

    compared_scores: int = 0
    identical_scores: int = 0
    moved: int = 0
    level_changed: int = 0
    largest_move: float = 0.0
    mean_move: float = 0.0
    only_live: int = 0
    only_replayed: int = 0
    most_moved: list[Moved] = field(default_factory=list)
    live_alerts: int = 0
    replayed_alerts: int = 0
    changed_alert_records: int = 0
    alerts_gained: list[AlertShift] = field(default_factory=list)
    alerts_lost: list[AlertShift] = field(default_factory=list)
    alerts_earlier: list[AlertShift] = field(default_factory=list)
    alerts_later: list[AlertShift] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether anything at all differs."""
        shifts = self.alerts_gained or self.alerts_lost or self.alerts_earlier or self.alerts_later
        return bool(
            self.compared_scores != self.identical_scores
            or self.only_live
            or self.only_replayed
            or self.changed_alert_records
            or shifts
        )

    def as_report(self) -> dict[str, Any]:
        """JSON-ready figures."""
        return {**asdict(self), "differs": self.differs}


def diff_with_live(
    kafka: KafkaConnection,
    topics: Topics,
    replayed: ReplayRange,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReplayDiff:
    """Compare a replay with what was published live in its range. Raises `TopicUnreadable` when one is missing."""
    result, foreign = ReplayDiff(), ForeignRecords()
    with TopicReader(kafka) as reader:
        outputs = _Outputs(reader, replayed, foreign)
        live_alerts: dict[str, Alert] = {}
        replayed_alerts: dict[str, Alert] = {}
        partitions = reader.partitions(topics.replay_scores(replayed.name))
        for partition in range(partitions):
            _compare_scores(outputs, topics, replayed.name, partition, result)
            live_alerts |= outputs.alerts(topics.alerts, partition)
            replayed_alerts |= outputs.alerts(topics.replay_alerts(replayed.name), partition)
            on_progress(partition + 1, partitions)
    foreign.tell()
    _compare_alerts(live_alerts, replayed_alerts, result)
    return result


class _OfUser(msgspec.Struct, gc=False):
    user_id: str


@dataclass(frozen=True)
class _Outputs:
    """Reads outputs in a range. What is none of ours is left out and added to `foreign`."""

    reader: TopicReader
    replayed: ReplayRange
    foreign: ForeignRecords

    def live_scores(self, topic: str, partition: int) -> dict[str, bytes]:
        """By score id, without those of users who were forgotten since: a replay scores none of them again."""
        live: dict[str, bytes] = {}
        begins: dict[bytes, int] = {}
        for output, value in self._in_range(topic, partition, Score, lambda key: begins.update({key: len(live)})):
            live[output.score_id] = value
        if not begins:
            return live
        user_of = msgspec.json.Decoder(_OfUser).decode
        numbered = enumerate(live.items())
        return {name: value for no, (name, value) in numbered if no >= begins.get(user_of(value).user_id.encode(), 0)}

    def scores(self, topic: str, partition: int) -> Iterator[tuple[Score, bytes]]:
        return self._in_range(topic, partition, Score)

    def alerts(self, topic: str, partition: int) -> dict[str, Alert]:
        """By transition id, without those of users who were forgotten since."""
        found: dict[str, Alert] = {}

        def drop(key: bytes) -> None:
            for name in [name for name, alert in found.items() if alert.user_id.encode() == key]:
                del found[name]

        for alert, _ in self._in_range(topic, partition, Alert, drop):
            found[alert.transition_id] = alert
        return found

    def _in_range(
        self, topic: str, partition: int, kind: type[Any], on_forgotten: Callable[[bytes], None] = lambda _key: None
    ) -> Iterator[tuple[Any, bytes]]:
        values = OutputValues(topic, kind, self.foreign)
        for record in self.reader.each(topic, partition):
            if forgotten_by(record.value, record.headers) is not None:
                on_forgotten(record.key or b"")
                continue
            output = values.one(record.value)
            if output and self.replayed.covers(output.occurred_at) and self.replayed.wants(output.user_id.encode()):
                yield output, record.value


def _compare_scores(outputs: _Outputs, topics: Topics, replay: str, partition: int, result: ReplayDiff) -> None:
    live = outputs.live_scores(topics.scores, partition)
    decode = msgspec.json.Decoder(Score).decode
    moves = result.mean_move * result.moved
    for score, value in outputs.scores(topics.replay_scores(replay), partition):
        published = live.pop(score.score_id, None)
        if published is None:
            result.only_replayed += 1
            continue
        result.compared_scores += 1
        if published == value:
            result.identical_scores += 1
            continue
        was = decode(published)
        result.level_changed += was.level != score.level
        move = abs(score.score - was.score)
        if move > 0:
            result.moved += 1
            moves += move
            result.largest_move = max(result.largest_move, move)
            result.most_moved.append(Moved(score.score_id, score.user_id, was.score, score.score))
            if len(result.most_moved) > 100 * EXAMPLES:
                result.most_moved = _largest(result.most_moved)
    result.only_live += len(live)
    result.most_moved = _largest(result.most_moved)
    result.mean_move = moves / result.moved if result.moved else 0.0


def _largest(moved: Iterable[Moved]) -> list[Moved]:
    return heapq.nlargest(EXAMPLES, moved, key=lambda move: abs(move.replayed - move.live))


def _compare_alerts(live: dict[str, Alert], replayed: dict[str, Alert], result: ReplayDiff) -> None:
    result.changed_alert_records = sum(live[name] != replayed[name] for name in live.keys() & replayed.keys()) + len(
        live.keys() ^ replayed.keys()
    )
    live_opened, replayed_opened = _opened(live), _opened(replayed)
    result.live_alerts = sum(len(opened) for opened in live_opened.values())
    result.replayed_alerts = sum(len(opened) for opened in replayed_opened.values())
    for user_id in sorted(live_opened.keys() | replayed_opened.keys()):
        _match(user_id, live_opened.get(user_id, []), replayed_opened.get(user_id, []), result)


def _opened(alerts: dict[str, Alert]) -> dict[str, list[dt.datetime]]:
    opened: dict[str, list[dt.datetime]] = {}
    for alert in alerts.values():
        if alert.kind == "opened":
            opened.setdefault(alert.user_id, []).append(alert.opened_at)
    return {user_id: sorted(times) for user_id, times in opened.items()}


def _match(user_id: str, live: list[dt.datetime], replayed: list[dt.datetime], result: ReplayDiff) -> None:
    """Pair a user's alerts: those at the same time, then the rest in order; what is left over is gained or lost."""
    same = set(live) & set(replayed)
    live, replayed = [at for at in live if at not in same], [at for at in replayed if at not in same]
    paired = min(len(live), len(replayed))
    for was, now in zip(live[:paired], replayed[:paired], strict=True):
        (result.alerts_earlier if now < was else result.alerts_later).append(AlertShift(user_id, was, now))
    result.alerts_lost += [AlertShift(user_id, was, None) for was in live[paired:]]
    result.alerts_gained += [AlertShift(user_id, None, now) for now in replayed[paired:]]
