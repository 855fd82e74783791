"""Pairs the scores that two groups of workers published of the same events of one partition.

Within an input topic both took the events in the order of their offsets, so each side is sorted by topic and offset and
the two are merged as they are read. What waits for its partner is what one side is ahead of the other, and what the two
interleaved differently.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from stream.outputs import Level, Moment, Offset, Probability, Sequence

MOST_WAITING = 1_000_000
"""Scores of one partition that wait for their partner, at about 200 bytes each."""

Side: TypeAlias = Literal[0, 1]
LIVE: Side = 0
OTHER: Side = 1

_ALONE = ("only_live", "only_other", "live_before", "live_after", "other_before", "other_after")


class PublishedScore(msgspec.Struct, gc=False):
    """The fields of a score that are compared, or tell of which event it is."""

    user_id: str
    occurred_at: Moment
    sequence: Sequence
    score: Probability
    level: Level
    model: str
    source_topic: str
    source_offset: Offset
    score_id: str = ""
    days_past_due: float | None = None
    status: str | None = None
    digest: bytes = b""
    """Of the record's bytes, where they are to be compared."""
    excused: bool = False
    """That it may lack a partner, since its user was forgotten after it."""


Pair: TypeAlias = tuple[PublishedScore, PublishedScore]


class TooFarApart(RuntimeError):
    """Too many scores of a partition wait for their partner; the message says what to do."""


@dataclass
class Bounds:
    """The first and the last offset of one input topic that one side has scored."""

    first: int
    last: int


@dataclass
class Pairing:
    """Pairs the scores of one partition.

    `wants` says which scores take part. `counts`: `only_live` and `only_other` scores have no partner, though the other
    side has scored events of the same topic before and after; `live_before` and `other_before` stand before the first,
    `live_after` and `other_after` after the last event that the other side has scored. Scores of who was forgotten
    after them count as `of_forgotten_users`, where they have none.
    """

    wants: Callable[[PublishedScore], bool] = lambda _: True
    counts: Counter[str] = field(default_factory=Counter)
    _waiting: tuple[dict[str, deque[PublishedScore]], dict[str, deque[PublishedScore]]] = field(
        default_factory=lambda: ({}, {})
    )
    _bounds: tuple[dict[str, Bounds], dict[str, Bounds]] = field(default_factory=lambda: ({}, {}))
    _alone_of: Counter[tuple[Side, str, str]] = field(default_factory=Counter)
    """Scores without a partner by side, user and what they count as."""

    def waiting(self, side: Side) -> int:
        """How many scores of a side wait for their partner."""
        return sum(map(len, self._waiting[side].values()))

    def add(self, side: Side, scores: Iterable[PublishedScore]) -> None:
        """Add scores of a side in the order in which they were published.

        A score of an event that its side has scored before takes no part: its topic was read a second time.
        """
        waiting, bounds = self._waiting[side], self._bounds[side]
        for score in scores:
            topic, offset = score.source_topic, score.source_offset
            found = bounds.get(topic)
            if found is None:
                bounds[topic] = Bounds(offset, offset)
                waiting.setdefault(topic, deque())
            elif offset > found.last:
                found.last = offset
            else:
                self.counts["repeated"] += 1
                continue
            if self.wants(score):
                waiting[topic].append(score)

    def pairs(self) -> list[Pair]:
        """The pairs that are there by now; they no longer wait. Raises `TooFarApart`."""
        found: list[Pair] = []
        for topic in self._waiting[LIVE].keys() & self._waiting[OTHER].keys():
            live, other = self._waiting[LIVE][topic], self._waiting[OTHER][topic]
            while live and other:
                if live[0].source_offset == other[0].source_offset:
                    found.append((live.popleft(), other.popleft()))
                elif live[0].source_offset < other[0].source_offset:
                    self._alone(LIVE, live.popleft())
                else:
                    self._alone(OTHER, other.popleft())
        if self.waiting(LIVE) + self.waiting(OTHER) > MOST_WAITING:
            raise TooFarApart(
                f"more than {MOST_WAITING:,} scores of one partition wait for those of the other side: one side has "
                "scored other events, or has lost the older ones; compare a range that both have (--from)"
            )
        return found

    def forget(self, side: Side, user_id: str) -> None:
        """A user was forgotten on a side: that scores before it have no partner says nothing, also of those that are
        counted already."""
        for name in _ALONE:
            count = self._alone_of.pop((side, user_id, name), 0)
            self.counts[name] -= count
            self.counts["of_forgotten_users"] += count
        for waiting in self._waiting[side].values():
            for score in waiting:
                score.excused |= score.user_id == user_id

    def end(self) -> None:
        """Both sides have been read to their ends: what still waits has no partner."""
        for side in (LIVE, OTHER):
            for waiting in self._waiting[side].values():
                for score in waiting:
                    self._alone(side, score)
                waiting.clear()

    def both_scored(self, topic: str, offset: int) -> bool:
        """Whether an event stands within what both sides have scored of its topic, once they have been read."""
        live, other = self._bounds[LIVE].get(topic), self._bounds[OTHER].get(topic)
        if live is None or other is None:
            return False
        return max(live.first, other.first) <= offset <= min(live.last, other.last)

    def _alone(self, side: Side, score: PublishedScore) -> None:
        prefix, partner = ("live", "other")[side], self._bounds[1 - side].get(score.source_topic)
        if score.excused:
            self.counts["of_forgotten_users"] += 1
            return
        if partner is None or score.source_offset > partner.last:
            name = f"{prefix}_after"
        elif score.source_offset < partner.first:
            name = f"{prefix}_before"
        else:
            name = f"only_{prefix}"
        self.counts[name] += 1
        self._alone_of[side, score.user_id, name] += 1
