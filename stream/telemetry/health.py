"""Whether a worker or sink is live and whether it is ready, from plain figures. Pure: looks are counted, no clock is
read.

Live means that it commits while there is something to commit, or that starting it again would not help. Ready means
that it does its work now: it has its partitions and their states, and what it writes to is there. What is not ready
may well be live, for instance while the database is away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

LOOP_SHARE = 0.5
"""After this share of `stall_timeout_s` an event loop that hangs is no longer live; after all of it the process ends
itself (`stream.kafka.stall`)."""

logger = logging.getLogger("foreshock.health")


@dataclass(frozen=True)
class Standing:
    """What a worker or sink says of itself at one moment."""

    commits: int
    """How often something was committed."""
    polls: int
    """How many polls were taken, empty ones too."""
    work: bool
    """Whether there is something to read or to commit."""
    partitions: int
    """How many partitions it has; without one it gets no polls."""
    excuse: str | None = None
    """Why nothing may be committed although there is work, where starting again would not help."""
    unready: str | None = None
    """Why it does not do its work now."""
    ends: str | None = None
    """The error for which the process is about to end."""


class Verdict(msgspec.Struct, frozen=True):
    """An answer to a probe: whether it holds, in one word and in words. What commits nothing has no age of that."""

    ok: bool
    status: str
    reason: str
    checkpoint_age_s: float | None
    loop_stalled_s: float

    def as_json(self) -> bytes:
        """The answer without `ok`, which the status code of the response says."""
        fields = msgspec.structs.asdict(self)
        del fields["ok"]
        return msgspec.json.encode({name: value for name, value in fields.items() if value is not None}) + b"\n"


class Probed(Protocol):
    """What answers for a part, at any time, from any thread."""

    def liveness(self) -> Verdict:
        """Whether the process should go on."""

    def readiness(self) -> Verdict:
        """Whether it does its work now."""


class Progress:
    """For how long a count has stood still although it should have grown."""

    def __init__(self, look_s: float) -> None:
        """`look_s` is the time between two looks."""
        self._look_s = look_s
        self._count: int | None = None
        self.stalled_s = 0.0

    def look(self, count: int, *, expected: bool) -> None:
        """Looks are counted and not the clock read: a process that was frozen as a whole gets time when it wakes up."""
        moved = count != self._count
        self._count = count
        self.stalled_s = 0.0 if moved or not expected else self.stalled_s + self._look_s


class Health:
    """Looks at a part once in `look_s` and answers for it at any time, from any thread."""

    def __init__(
        self,
        standing: Callable[[], Standing],
        *,
        liveness_timeout_s: float,
        commit_interval_s: float,
        stall_timeout_s: float,
        look_s: float,
    ) -> None:
        """`liveness_timeout_s` is how long nothing may be committed beyond a commit interval while there is work."""
        self._standing = standing
        self._limit_s = liveness_timeout_s + commit_interval_s
        self._loop_limit_s = stall_timeout_s * LOOP_SHARE
        self._commits, self._polls = Progress(look_s), Progress(look_s)
        self.loop_stalled_s = 0.0
        """For how long the event loop has not turned."""

    @property
    def checkpoint_age_s(self) -> float:
        """For how long nothing was committed while there was work and no excuse."""
        return self._commits.stalled_s

    def look(self, loop_stalled_s: float) -> None:
        """Called once in `look_s`, by a thread that does not depend on the event loop."""
        self.loop_stalled_s = loop_stalled_s
        now = self._standing()
        able = now.excuse is None
        self._commits.look(now.commits, expected=able and now.work)
        self._polls.look(now.polls, expected=able and now.unready is None and now.partitions > 0)

    def liveness(self) -> Verdict:
        """Whether the process should go on."""
        now = self._standing()
        if now.ends is not None:
            return self._verdict("not live", f"it ends: {now.ends}")
        if self.loop_stalled_s >= self._loop_limit_s:
            return self._verdict("not live", f"its event loop has not turned for {self.loop_stalled_s:.0f} s")
        if self._commits.stalled_s >= self._limit_s:
            waited = f"{self._commits.stalled_s:.0f} s"
            return self._verdict("not live", f"there is work, and nothing was committed for {waited}")
        if self._polls.stalled_s >= self._limit_s:
            return self._verdict("not live", f"its consumer has brought no poll for {self._polls.stalled_s:.0f} s")
        if now.excuse is not None:
            return self._verdict("live", f"waits: {now.excuse}")
        return self._verdict("live", "commits what it reads" if now.work else "has nothing to do")

    def readiness(self) -> Verdict:
        """Whether it does its work now."""
        now = self._standing()
        problem = now.ends or now.unready
        if problem is None:
            return self._verdict("ready", _work_of(now.partitions))
        return self._verdict("not ready", problem)

    def _verdict(self, status: str, reason: str) -> Verdict:
        return Verdict(
            not status.startswith("not "),
            status,
            reason,
            round(self.checkpoint_age_s, 1),
            round(self.loop_stalled_s, 1),
        )


def _work_of(partitions: int) -> str:
    if partitions == 0:
        return "stands by: all partitions are others'"
    return f"works on {partitions} partition" + ("s" if partitions > 1 else "")
