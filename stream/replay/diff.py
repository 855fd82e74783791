"""Compares a replay with what was published live: scores that changed, alerts gained, lost, earlier and later.

Reads topics; writes nothing.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, Score, forgotten_by
from stream.replay.foreign import ForeignRecords, OutputValues
from stream.replay.range import ReplayRange
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
    """Result of a comparison. `identical_scores` counts equal bytes, `moved` changed headline scores, `live_expired`
    scores of events whose live scores retention has taken."""

    compared_scores: int = 0
    identical_scores: int = 0
    moved: int = 0
    level_changed: int = 0
    largest_move: float = 0.0
    mean_move: float = 0.0
    live_expired: int = 0
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
    """Compare a replay with what was published live in its range. Raises `TopicUnreadable` when one is missing.

    Scores are read side by side, since both topics have them in the same order: memory does not grow with them.
    """
    result, foreign = ReplayDiff(), ForeignRecords()
    with TopicReader(kafka) as of_live, TopicReader(kafka) as of_replay:
        live, again = _Outputs(of_live, replayed, foreign), _Outputs(of_replay, replayed, foreign)
        live_alerts: dict[str, Alert] = {}
        replayed_alerts: dict[str, Alert] = {}
        partitions = of_replay.partitions(topics.replay_scores(replayed.name))
        for partition in range(partitions):
            begin, _ = of_live.span(topics.scores, partition)
            comparison = ScoreComparison(result, has_expired=begin > 0)
            comparison.run(
                live.scores(topics.scores, partition, comparison.forget),
                again.scores(topics.replay_scores(replayed.name), partition),
            )
            live_alerts |= live.alerts(topics.alerts, partition)
            replayed_alerts |= again.alerts(topics.replay_alerts(replayed.name), partition)
            on_progress(partition + 1, partitions)
    foreign.tell()
    result.most_moved = _largest(result.most_moved)
    _compare_alerts(live_alerts, replayed_alerts, result)
    return result


@dataclass(frozen=True)
class _Outputs:
    """Reads outputs in a range. What is none of ours is left out and added to `foreign`."""

    reader: TopicReader
    replayed: ReplayRange
    foreign: ForeignRecords

    def scores(
        self, topic: str, partition: int, on_forgotten: Callable[[str], None] = lambda _user: None
    ) -> Iterator[tuple[Score, bytes]]:
        return self._in_range(topic, partition, Score, on_forgotten)

    def alerts(self, topic: str, partition: int) -> dict[str, Alert]:
        """By transition id, without those of users who were forgotten since."""
        found: dict[str, Alert] = {}

        def drop(user_id: str) -> None:
            for name in [name for name, alert in found.items() if alert.user_id == user_id]:
                del found[name]

        for alert, _ in self._in_range(topic, partition, Alert, drop):
            found[alert.transition_id] = alert
        return found

    def _in_range(
        self, topic: str, partition: int, kind: type[Any], on_forgotten: Callable[[str], None]
    ) -> Iterator[tuple[Any, bytes]]:
        values = OutputValues(topic, kind, self.foreign)
        for record in self.reader.each(topic, partition):
            if forgotten_by(record.value, record.headers) is not None:
                on_forgotten((record.key or b"").decode(errors="replace"))
                continue
            output = values.one(record.value)
            if output and self.replayed.covers(output.occurred_at) and self.replayed.wants(output.user_id.encode()):
                yield output, record.value


class _Side:
    """One of two streams of scores: what was read of it and not yet compared, by source topic in order."""

    def __init__(self, scores: Iterator[tuple[Score, bytes]]) -> None:
        self._scores = scores
        self.waiting: dict[str, deque[tuple[Score, bytes]]] = {}
        self.buffered = 0
        self.is_done = False

    def read(self) -> str | None:
        """Read the next score; returns the topic of its event, None at the end."""
        found = next(self._scores, None)
        if found is None:
            self.is_done = True
            return None
        topic = found[0].source_topic
        self.waiting.setdefault(topic, deque()).append(found)
        self.buffered += 1
        return topic

    def head(self, topic: str) -> int | None:
        """Offset of the event of the first score that waits."""
        queue = self.waiting.get(topic)
        return queue[0][0].source_offset if queue else None

    def take(self, topic: str) -> tuple[Score, bytes]:
        self.buffered -= 1
        return self.waiting[topic].popleft()


class ScoreComparison:
    """Pairs the scores of one partition by their events, and adds what differs to `result`.

    Scores of one source topic stand in the order of its offsets on both sides. `has_expired` says that retention has
    taken the beginning of what was published live: what was replayed of that time is not compared.
    """

    def __init__(self, result: ReplayDiff, *, has_expired: bool = False) -> None:
        self._result = result
        self._has_expired = has_expired
        self._compared: set[str] = set()
        """Topics of which a score was there on both sides, or on the live side alone."""
        self._only_live: Counter[str] = Counter()
        self._moves = result.mean_move * result.moved

    def forget(self, user_id: str) -> None:
        """A user was forgotten live: what was published of it before is not scored again."""
        self._only_live.pop(user_id, None)
        for queue in self._live.waiting.values():
            kept = [found for found in queue if found[0].user_id != user_id]
            self._live.buffered -= len(queue) - len(kept)
            queue.clear()
            queue.extend(kept)

    def run(self, live: Iterator[tuple[Score, bytes]], replayed: Iterator[tuple[Score, bytes]]) -> None:
        """Read both sides to their ends."""
        self._live, self._again = _Side(live), _Side(replayed)
        while not (self._live.is_done and self._again.is_done):
            first = self._again.is_done or (not self._live.is_done and self._live.buffered <= self._again.buffered)
            side = self._live if first else self._again
            topic = side.read()
            if topic is None:
                continue
            self._pair(topic)
        for topic in {*self._live.waiting, *self._again.waiting}:
            while self._live.head(topic) is not None:
                self._alone_live(topic)
            while self._again.head(topic) is not None:
                self._alone_again(topic)
        result = self._result
        result.only_live += self._only_live.total()
        result.mean_move = self._moves / result.moved if result.moved else 0.0

    def _pair(self, topic: str) -> None:
        while (live := self._live.head(topic)) is not None and (again := self._again.head(topic)) is not None:
            if live < again:
                self._alone_live(topic)
            elif again < live:
                self._alone_again(topic)
            else:
                self._compare(self._live.take(topic), self._again.take(topic))

    def _alone_live(self, topic: str) -> None:
        self._compared.add(topic)
        score, _ = self._live.take(topic)
        self._only_live[score.user_id] += 1

    def _alone_again(self, topic: str) -> None:
        self._again.take(topic)
        if self._has_expired and topic not in self._compared:
            self._result.live_expired += 1
        else:
            self._result.only_replayed += 1

    def _compare(self, live: tuple[Score, bytes], again: tuple[Score, bytes]) -> None:
        result, (was, published), (score, value) = self._result, live, again
        result.compared_scores += 1
        self._compared.add(score.source_topic)
        if published == value:
            result.identical_scores += 1
            return
        result.level_changed += was.level != score.level
        move = abs(score.score - was.score)
        if move > 0:
            result.moved += 1
            self._moves += move
            result.largest_move = max(result.largest_move, move)
            result.most_moved.append(Moved(score.score_id, score.user_id, was.score, score.score))
            if len(result.most_moved) > 100 * EXAMPLES:
                result.most_moved = _largest(result.most_moved)


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
