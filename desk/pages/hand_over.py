"""How hand-overs of the live outputs go, by partition, as the brokers tell. Hands nothing over: the page names the
command that does.

Asking the brokers takes a moment, so one request of a process asks at a time, and what was found is shown to others for
a few seconds.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from kafka.errors import KafkaError

from desk.context import Desk
from desk.pages.language import Language
from desk.pages.rendering import shown
from stream.hand_over.situation import Situation
from stream.hand_over.standing import HandOverStanding, standings
from stream.kafka.provisioning import ProvisioningError
from stream.kafka.rights import NotAllowed
from stream.logs import told

logger = logging.getLogger("foreshock.desk")

KEPT = dt.timedelta(seconds=2)
AGAIN_S = 3
"""The page asks again after so long."""


@dataclass(frozen=True)
class Seen:
    """What the brokers said at a moment. `failed`: they said nothing that is of use, and the log says why; `asked`:
    whether there are any to ask."""

    at: dt.datetime
    standings: Sequence[HandOverStanding] = ()
    failed: bool = False
    asked: bool = True


@dataclass(frozen=True)
class ShownPartition:
    """A partition: who leads, and what is still to be done."""

    partition: int
    leader: str
    state: str


@dataclass(frozen=True)
class ShownHandOver:
    """A shadow in words: its partitions, the command that can be run now, and what stands against one."""

    shadow: str
    done: str
    partitions: Sequence[ShownPartition]
    command: str
    against: str


@dataclass(frozen=True)
class ShownHandOvers:
    """All of them; `note` says when that was so, or why nothing is known."""

    shadows: Sequence[ShownHandOver]
    note: str
    again_s: int


class HandOvers:
    """What one process of the desk last saw of the hand-overs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Seen | None = None

    def of(self, desk: Desk) -> Seen:
        """How they stand now, or did a moment ago."""
        if desk.kafka is None:
            return Seen(desk.clock(), asked=False)
        with self._lock:
            now = desk.clock()
            if self._seen is None or not dt.timedelta() <= now - self._seen.at < KEPT:
                try:
                    found = standings(desk.kafka, desk.settings.topics, desk.settings.application_id)
                    self._seen = Seen(now, found)
                except (ProvisioningError, NotAllowed, KafkaError, OSError) as error:
                    logger.warning("how hand-overs stand is not known: %s", told(error))
                    self._seen = Seen(now, failed=True)
            return self._seen


def in_words(seen: Seen, say: Language) -> ShownHandOvers:
    """What the page shows of it."""
    if not seen.asked:
        return ShownHandOvers((), say.t("hand_over.no_brokers"), 0)
    if seen.failed:
        return ShownHandOvers((), say.t("hand_over.failed"), AGAIN_S)
    note = say.t("hand_over.as_of" if seen.standings else "hand_over.no_shadow", at=say.second(seen.at))
    return ShownHandOvers([_shown(one, say) for one in seen.standings], note, AGAIN_S)


def _shown(one: HandOverStanding, say: Language) -> ShownHandOver:
    if one.onward is not None:
        partitions = _partitions(one.onward, say)
        is_done = len(one.onward.led) == len(one.onward.ends)
        command = "" if is_done else f"foreshock replay promote {one.shadow}"
        against = one.why_not_back if is_done else ""
    elif one.back is not None:
        partitions = _partitions(one.back, say)
        command, against = f"foreshock replay rollback {one.shadow}", ""
    else:
        partitions, command, against = [], "", one.why_not_onward
    led = say.t("hand_over.led", count=len(one.led), all=len(partitions)) if partitions else ""
    return ShownHandOver(shown(one.shadow), led, partitions, command, shown(against))


def _partitions(found: Situation, say: Language) -> list[ShownPartition]:
    """By partition who leads. One that was handed over is led when the new workers have committed there."""
    shown_partitions = []
    for partition in sorted(found.ends):
        if partition in found.led:
            leader, state = found.taker, say.t("hand_over.done")
        elif partition in found.pending:
            leader = found.giver
            state = say.t("hand_over.behind", count=say.whole(found.behind[partition]), who=shown(found.taker))
        else:
            leader, state = found.taker, say.t("hand_over.taking")
        shown_partitions.append(ShownPartition(partition, shown(leader), state))
    return shown_partitions
