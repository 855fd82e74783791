"""The body of the worker's loop, from a poll to durable scores: intake, merge, scorer, checkpoints and watchdog.

Runs inside a Faust agent (`stream.worker.app`), on the event loop. An exception must end the process, because Faust
would acknowledge the message and go on; what is not durable is read again by the next process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from faust.types import TP

from events.calendar import Calendar
from events.types import KINDS, Repayment, encode_event
from stream.kafka.poll import Poll
from stream.kafka.record import Record
from stream.outputs import DeadLetter
from stream.scoring.forgetting import is_forgetting, pieces_between
from stream.scoring.hand_over import take_alerts
from stream.scoring.intake import Intake, Taken
from stream.scoring.merge import PartitionMerge
from stream.scoring.order_journal import OrderRecord
from stream.scoring.ordered_merge import OrderedMerge
from stream.scoring.scorer import Scored, Scorer
from stream.scoring.watchdog import Watermark, missed_now
from stream.settings import Settings
from stream.state.slab import Slab
from stream.topics import OutputTopics
from stream.worker.checkpoint import Checkpoints
from stream.worker.figures import Figures
from stream.worker.following import ForgottenUsers, with_early
from stream.worker.refused import LetterBox, RefusedRecords
from stream.worker.roles import Role, Roles
from stream.worker.stages import Stages

WATCHDOG_INTERVAL_S = 1.0
WATCHDOG_SHARE = 0.02
HEARTBEATS_TO_KNOW = 2
"""After so many intervals of heartbeats, a worker that stood still knows whether it still belongs to its group."""

REPORT_INTERVAL_S = 10.0
BUSY_PATIENCE = 20

logger = logging.getLogger("foreshock.worker")


class MissedPublisher(Protocol):
    """Publishes repayments that the watchdog found missing, to the partition of their user."""

    async def __call__(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None: ...


class TornPoll(RuntimeError):
    """The state is ahead of what was published, because processing of a poll was stopped in the middle."""


class StatesMissing(RuntimeError):
    """Events came of partitions whose states were not read: their users would begin anew."""


async def _yes(_partition: int, _record: OrderRecord) -> bool:
    return True


class Engine:
    """Scores the records of polls in event-time order and checkpoints the results."""

    def __init__(
        self,
        settings: Settings,
        scorer: Scorer,
        slab: Slab,
        checkpoints: Checkpoints,
        publish_missed: MissedPublisher,
        *,
        now_ms: Callable[[], int],
        stages: Stages | None = None,
        has_failed: Callable[[], bool] = lambda: False,
        restored: Callable[[], frozenset[int]] | None = None,
        roles: Roles | None = None,
        is_in_force: Callable[[int, OrderRecord], Awaitable[bool]] = _yes,
        figures: Figures | None = None,
    ) -> None:
        """`has_failed` tells whether the process is about to end: then no poll is processed, nothing made durable.
        `restored` tells of which partitions the states are there, None: of all. `roles` tells in which partitions this
        worker follows another application, None: in none. `is_in_force` tells whether a hand-over of a partition to
        this application is the one by which it is to lead, and not one from before it gave back what it led. `figures`
        count what is scored, for the metrics."""
        self._settings = settings
        self._calendar = Calendar(settings.lender_time_zone)
        self._scorer = scorer
        self._slab = slab
        self._checkpoints = checkpoints
        self._publish_missed = publish_missed
        self._now_ms = now_ms
        self._topics = settings.topics.inputs
        self._intakes = {topic: Intake(kind, scorer.letters) for topic, kind in zip(self._topics, KINDS, strict=True)}
        self._roles = roles or Roles(OutputTopics())
        self._following = self._roles.following
        self._merges: dict[int, PartitionMerge | OrderedMerge] = {}
        self._forgotten = ForgottenUsers(self._following, settings.topics.of_kind("profiles"))
        self._watermarks: dict[int, Watermark] = {}
        self._position: dict[TP, int] = {}
        self._refused = RefusedRecords()
        self._letters = LetterBox()
        self._waiting_since_s: dict[int, float] = {}
        self._announced: dict[int, set[str]] = {}
        self._told_of: dict[int, str] = {}
        self._watch_again_s = 0.0
        self._watched_s = time.monotonic()
        self._reported_s = time.monotonic()
        self._turn = asyncio.Lock()
        self._epoch = 0
        self._torn = False
        """A poll was not taken to its end (an exception, or a stop in the middle): states may be ahead of outputs, so
        nothing more may become durable in this process."""
        self.stages = stages or Stages()
        self._idle_since_s: float | None = None
        self.counts: Counter[str] = Counter()
        self.figures = figures or Figures()
        self._has_failed = has_failed
        self._restored = restored
        self._is_in_force = is_in_force

    def limit_dead_letters(self, max_bytes: int) -> None:
        """Make dead letters that fit into a record of `max_bytes`; what is larger is left out of them."""
        self._scorer.letters.max_bytes = max_bytes

    async def take(self, poll: Poll) -> frozenset[TP]:
        """Process a poll (an empty one is a clock tick). Returns the partitions that should not be polled now.

        A poll that began before the last `drain` is ignored: the records before it have been dropped.
        Raises `TornPoll` after a poll that was stopped in the middle, and whatever scoring and publishing raise.
        """
        async with self._turn:
            if poll.epoch < self._epoch or self._has_failed():
                return frozenset()
            if self._torn:
                raise TornPoll("a poll was not taken to its end; the process must end and its successor read it again")
            poll = self._with_states(poll)
            self.figures.poll_begins(self._now_ms())
            if self._idle_since_s is not None:
                self.stages.spent_s["poll"] += time.perf_counter() - self._idle_since_s
            self._torn = True
            try:
                await self._score_poll(poll)
            except BaseException:
                # At once, before anything else runs: rows may hold what was never published, and a checkpoint that is
                # under way would make it durable.
                self._checkpoints.forget()
                raise
            self._torn = False
            if not self._letters:  # or the cut would have events from behind those that they are about
                await self._checkpoints.tick(is_behind=poll.waiting >= self._settings.batch_max_records)
            with self.stages("watchdog"):
                await self._watch(caught_up=not poll.lagging)
            self._report()
            self._idle_since_s = time.perf_counter()
            return self._ahead()

    def _with_states(self, poll: Poll) -> Poll:
        """The poll without what is of partitions whose states are not read. Raises `StatesMissing` where it has events
        of such.

        Positions may be, and must not be committed yet. Records of the order journal may be, too: where some workers of
        a group follow and others do not any more, only the former take part in it, and get all of its partitions,
        whoever has the inputs. Who gets the inputs later reads the journal from where it was committed.
        """
        if self._restored is None:
            return poll
        restored = self._restored()
        if early := {tp.partition for tp in poll.records if tp.topic in self._topics} - restored:
            raise StatesMissing(f"events of partitions {sorted(early)} came before the states of their users")
        return replace(
            poll,
            records={tp: batch for tp, batch in poll.records.items() if tp.partition in restored},
            ends={tp: end for tp, end in poll.ends.items() if tp.partition in restored},
        )

    async def _score_poll(self, poll: Poll) -> None:
        with self.stages("intake"):
            self._receive(poll)
        with self.stages("merge"):
            ready = self._release(poll)
        size = self._settings.batch_max_records
        for start in range(0, len(ready), size):
            for piece in pieces_between(ready[start : start + size]):
                await self._score(piece)
        reached = self._reached()
        self._letters.add(self._refused_before(reached))
        handing_over = [
            (partition, merge, merge.hand_over)
            for partition, merge in self._merges.items()
            if isinstance(merge, OrderedMerge) and merge.hand_over is not None
        ]
        if not self._letters or handing_over or self._letters.is_due(time.monotonic()):
            await self._publish_letters(reached)
        for partition, merge, record in handing_over:
            await self._take_over(partition, merge, record)

    async def _publish_letters(self, reached: Mapping[TP, int]) -> None:
        """Publish the dead letters of records before `reached`; then all before that is done."""
        if self._letters:
            await self._checkpoints.publish(Scored(), self._letters.empty(time.monotonic()))
        self._checkpoints.reached(reached)

    async def _take_over(self, partition: int, merge: OrderedMerge, record: OrderRecord) -> None:
        """The journal hands a partition over: all before that is scored. The alerts go over, and this worker leads."""
        told = record.hand_over
        assert told is not None and self._following is not None  # noqa: PT018
        leads = self._following.takes_over
        if leads and not await self._is_in_force(partition, record):
            merge.go_on(taken=False)
            logger.warning("partition %d: passes over a hand-over by %s that is over", partition, told.giver)
            return
        if leads:
            await self._checkpoints.flush()
        self._checkpoints.changed(take_alerts(self._slab, partition, self._following.alerts_of(told)))
        merge.go_on()
        if leads:
            self._lead(partition, merge, record.ends)
        self._checkpoints.told(partition, merge.followed())
        self._checkpoints.reached(self._reached())
        self.counts["partitions_taken_over"] += 1
        logger.info("partition %d: taken over from %s, with %d alerts", partition, told.giver, len(told.keys))

    def _lead(self, partition: int, merge: OrderedMerge, ends: Sequence[int]) -> None:
        """Lead in a partition from these next offsets on, by kind."""
        for topic, end in zip(self._topics, ends, strict=True):
            tp = TP(topic, partition)
            self._refused.before(tp, end)
            self._position[tp] = max(self._position.get(tp, 0), end)
        refused = [self._refused.offsets(TP(topic, partition)) for topic in self._topics]
        self._merges[partition] = merge.rest_from(ends, refused)
        self._roles.lead(partition)
        self._checkpoints.renew(partition)

    async def drain(self, epoch: int) -> None:
        """Make durable what has been scored and drop the rest, which will be read again. Called before partitions go.

        Polls of an epoch before `epoch` are ignored from now on, also those that are queued in Faust or wait for their
        turn: their records follow those that are dropped.
        """
        self._epoch = epoch
        try:
            async with self._turn:
                if not self._torn and not self._has_failed():
                    if self._letters:
                        await self._publish_letters(self._reached())
                    await self._checkpoints.flush()
        finally:
            self._checkpoints.forget()
            for held in (self._merges, self._watermarks, self._position, self._waiting_since_s, self._announced):
                held.clear()
            for passing in (self._refused, self._letters, self._forgotten, self._told_of):
                passing.clear()

    def _receive(self, poll: Poll) -> None:
        """Decode records into the merges; keep the dead letters of those refused."""
        now_ms = self._now_ms()
        self._forgotten.begin(poll)
        for tp, polled in poll.records.items():
            # A consumer that seeks back brings again what is held here or scored.
            batch = _from_offset(polled, self._position.get(tp, 0))
            if not batch or self._roles[tp.partition] is Role.GAVE_UP:
                continue
            if tp.topic in self._intakes:
                self._take_in(tp, batch, now_ms)
            elif self._roles[tp.partition] is Role.FOLLOWS:
                self._hear(tp.partition, batch)
        for tp, end in poll.reached().items():
            if self._roles[tp.partition] is Role.GAVE_UP:
                continue
            if tp.topic not in self._intakes and self._following is not None:
                end = self._following.until(tp.partition, end)
            self._position[tp] = max(self._position.get(tp, 0), end)
            if tp.topic in self._intakes and isinstance(merge := self._merge_of(tp.partition), OrderedMerge):
                merge.read_to(self._topics.index(tp.topic), end)

    def _take_in(self, tp: TP, batch: Sequence[Record], now_ms: int) -> None:
        following = self._following if self._roles[tp.partition] is Role.FOLLOWS else None
        if following is not None:
            batch = [record for record in batch if following.wants(record.key)]
        good, bad = self._intakes[tp.topic].take_all(batch, now_ms)
        if bad:
            # Who follows may have to publish them, once it leads.
            if following is None or (following.takes_over and following.order_topic is not None):
                self._refused.add(tp, bad)
            if following is not None:
                good = with_early(self._intakes[tp.topic], batch, good, bad)
            self.counts["dead_letters"] += len(bad)
            self.figures.refused.update(letter.reason for letter in bad)
        self._merge_of(tp.partition).push(self._topics.index(tp.topic), good)

    def _merge_of(self, partition: int) -> PartitionMerge | OrderedMerge:
        found = self._merges.get(partition)
        if found is None:
            following = self._following
            if following is not None and self._roles[partition] is Role.FOLLOWS:
                found = OrderedMerge(following.taker, self._roles.begins(partition))
            else:
                found = PartitionMerge()
            self._merges[partition] = found
        return found

    def _hear(self, partition: int, records: Sequence[Record]) -> None:
        merge = self._merge_of(partition)
        assert isinstance(merge, OrderedMerge) and self._following is not None  # noqa: PT018
        for record in records:
            if self._following.follows(partition, record.offset):
                merge.tell(record.offset, record.value)

    def _release(self, poll: Poll) -> list[Taken]:
        """Events whose turn it is, partition by partition.

        A partition waits for a topic that lags, but no longer than `merge_idle_ms` while nothing at all arrives, and
        `BUSY_PATIENCE` times that while only other partitions have records (their leader may be up, this one's down).
        """
        now_s = time.monotonic()
        patience_s = self._settings.merge_idle_ms / 1000 * (BUSY_PATIENCE if poll.records else 1)
        fed = {tp.partition for tp in poll.records}
        ready: list[Taken] = []
        for partition, merge in self._merges.items():
            behind = [no for no, topic in enumerate(self._topics) if TP(topic, partition) in poll.lagging]
            released = self._released(merge, behind)
            if isinstance(merge, OrderedMerge):
                released = self._without_forgotten(partition, released)
                self._heard(partition, merge)
            elif released or partition in fed or not len(merge):
                self._waiting_since_s[partition] = now_s
            elif now_s - self._waiting_since_s.setdefault(partition, now_s) >= patience_s:
                released = merge.release([no for no in behind if merge.waiting(no)])
                self.counts["merged_without_waiting"] += len(released)
            if released and isinstance(merge, PartitionMerge):
                self._tell_order(partition, released)
            ready += released
        return ready

    def _heard(self, partition: int, merge: OrderedMerge) -> None:
        """Pass on what was followed of the journal, and drop the dead letters of records that it has told of."""
        self._checkpoints.told(partition, merge.followed())
        for kind_no, topic in enumerate(self._topics):
            self._refused.before(TP(topic, partition), merge.passed(kind_no))
        if merge.handed_to not in (None, self._told_of.get(partition)):
            self._told_of[partition] = str(merge.handed_to)
            logger.warning(
                "partition %d: the application that is followed has handed over to %s. While it does not lead, nothing "
                "is scored here: follow %s instead",
                partition,
                merge.handed_to,
                merge.handed_to,
            )

    def _without_forgotten(self, partition: int, taken: list[Taken]) -> list[Taken]:
        left = self._forgotten.left(partition, taken)
        if len(left) < len(taken):
            self.counts["of_forgotten_users"] += len(taken) - len(left)
        return left

    def _released(self, merge: PartitionMerge | OrderedMerge, behind: Sequence[int]) -> list[Taken]:
        if isinstance(merge, PartitionMerge):
            return merge.release(behind)
        assert self._following is not None
        by_time = self._following.order_topic is None
        return merge.release_by_time(behind) if by_time else merge.release()

    def _tell_order(self, partition: int, taken: Sequence[Taken]) -> None:
        """Keep for the order journal in which order events of a partition are taken."""
        kind_no = np.fromiter((item.kind_no for item in taken), dtype=np.int64, count=len(taken))
        offset = np.fromiter((item.offset for item in taken), dtype=np.int64, count=len(taken))
        self._checkpoints.took(partition, kind_no, offset)

    async def _score(self, taken: Sequence[Taken]) -> None:
        with self.stages("score"):
            scored = self._scorer.score(taken)
        if scored.counts["already_scored"] and not self.counts["already_scored"]:
            logger.warning(
                "events are skipped since the states have read their offsets: were offsets reset? If the input topics "
                "were made anew, start under another application_id"
            )
        if self._following is not None:
            scored = self._following.published(scored)
        self.counts.update(scored.counts)
        self.counts["dead_letters"] += len(scored.dead_letters)
        self.figures.note(scored)
        by_partition: dict[int, list[int]] = {}
        for item in taken:
            if not is_forgetting(item):  # its time is the producer's clock, not event time
                by_partition.setdefault(item.partition, []).append(item.occurred_ms)
        for partition, occurred_ms in by_partition.items():
            self._watermarks.setdefault(partition, Watermark()).observe(occurred_ms)
        with self.stages("publish"):
            published = await self._checkpoints.publish(scored)
        if published is not None and scored.scores:
            self.figures.note_when(published, taken, self._now_ms)

    @property
    def users(self) -> int:
        """Users whose state is held."""
        return len(self._slab)

    def watermarks_ms(self) -> dict[int, int]:
        """Event time that each partition has come to, -1 where too little was seen."""
        # Copied first: other threads ask, while partitions come and go.
        return {partition: watermark.clock_ms for partition, watermark in self._watermarks.copy().items()}

    def _reached(self) -> dict[TP, int]:
        """Next offsets to read if this worker stopped now: that of the first record held back, else the position."""
        reached = dict(self._position)
        for partition, merge in self._merges.items():
            for kind_no, topic in enumerate(self._topics):
                tp = TP(topic, partition)
                held = [merge.first_offset(kind_no)]
                if isinstance(merge, OrderedMerge):
                    # Whom this worker follows has yet to tell of it; where it leads before that, it is to publish it.
                    held.append(self._refused.first(tp))
                if firsts := [first for first in held if first is not None]:
                    reached[tp] = min(firsts)
            if isinstance(merge, OrderedMerge) and merge.journal_offset is not None and self._following is not None:
                reached[TP(str(self._following.order_topic), partition)] = merge.journal_offset
        return reached

    def _refused_before(self, reached: Mapping[TP, int]) -> list[DeadLetter]:
        """The dead letters of records before `reached`, taken out."""
        leading = [tp for tp in self._refused if self._roles[tp.partition] is not Role.FOLLOWS]
        return [letter for tp in leading for letter in self._refused.before(tp, reached[tp])]

    def _ahead(self) -> frozenset[TP]:
        """Partitions of topics that wait for another topic of the same partition number, which must be polled first."""
        ahead = {
            TP(topic, partition)
            for partition, merge in self._merges.items()
            for kind_no, topic in enumerate(self._topics)
            if merge.waiting(kind_no)
        }
        if self._following is not None and self._following.order_topic is not None:
            for partition, merge in self._merges.items():
                if isinstance(merge, OrderedMerge):
                    if merge.journal_offset is not None:
                        ahead.add(TP(self._following.order_topic, partition))
                    else:  # refused records wait like events for the journal to tell of them
                        ahead |= {tp for topic in self._topics if (tp := TP(topic, partition)) in self._refused}
        ahead |= {TP(topic, partition) for partition in self._roles.given_up() for topic in self._topics}
        return frozenset(ahead)

    async def _watch(self, *, caught_up: bool) -> None:
        """Publish instalments that are missed by now. Each takes effect when its event is read back from the topic."""
        now_s, before_s = time.monotonic(), self._watched_s
        self._watched_s = now_s
        if now_s - before_s > self._settings.session_timeout_s:
            # This worker stood still, and others may own its partitions since. It will know when the next heartbeat is
            # answered; until then it announces nothing that they announce, too.
            self._watch_again_s = now_s + HEARTBEATS_TO_KNOW * self._settings.heartbeat_interval_s
        if not self._settings.watchdog or now_s < self._watch_again_s:
            return
        for partition, watermark in self._watermarks.items():
            if self._roles[partition] is not Role.LEADS:
                continue
            clock_ms = watermark.clock_ms
            if self._settings.watchdog_clock == "wall" and caught_up:
                clock_ms = max(clock_ms, self._now_ms())
            missed = missed_now(self._slab, partition, clock_ms, self._settings.grace_days, self._calendar)
            announced = self._announced.get(partition, set())
            news = [event for event in missed if event.event_id not in announced]
            self._announced[partition] = {event.event_id for event in missed}
            if news:
                self.counts["missed_published"] += len(news)
                await self._publish_missed(partition, [_keyed(event) for event in news])
        # Looking at every user takes longer the more there are, so it gets a fixed share of the time.
        took_s = time.monotonic() - now_s
        self._watch_again_s = now_s + max(WATCHDOG_INTERVAL_S, took_s / WATCHDOG_SHARE)

    def _report(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s < REPORT_INTERVAL_S:
            return
        self._reported_s = now_s
        counted = dict(sorted({**self.counts, **self._slab.counts}.items()))
        counts = " ".join(f"{name}={n}" for name, n in counted.items())
        fields = {"users": self.users, "counts": counted}
        logger.info("users=%d %s | %s", self.users, counts, self.stages.shares(), extra=fields)


def _from_offset(records: Sequence[Record], offset: int) -> Sequence[Record]:
    """Those of ordered records that are at `offset` or after it."""
    if not records or records[0].offset >= offset:
        return records
    return [record for record in records if record.offset >= offset]


def _keyed(event: Repayment) -> tuple[bytes, bytes]:
    return event.user_id.encode(), encode_event(event)


def wall_ms() -> int:
    """Wall time in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
