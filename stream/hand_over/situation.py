"""How a hand-over stands: what the offsets of two applications say of each partition. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faust.types import TP

from stream.kafka.lineage import Committed, Standing


class HandOverRefused(RuntimeError):
    """A hand-over cannot begin, or not go on; the message says why and what to do. What was live goes on."""


@dataclass(frozen=True)
class Situation:
    """`giver` hands over to `taker`. `ends` are, by partition, the giver's committed offsets by input topic. `pending`
    are the partitions that it has still to hand over, `led` those where the taker leads by now. `behind` is, by pending
    partition, how many offsets of the input topics the taker has still to take of what the giver has taken. `returned`
    are partitions in which the giver follows the taker: it has handed them over, and its workers were started again."""

    giver: str
    taker: str
    ends: Mapping[int, Mapping[str, Committed]]
    pending: frozenset[int]
    led: frozenset[int]
    behind: Mapping[int, int]
    returned: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        giver: str,
        taker: str,
        inputs: Sequence[str],
        partitions: int,
        given: Mapping[TP, Committed],
        taken: Mapping[TP, Committed],
    ) -> Situation:
        """Of the committed offsets of both groups. Raises `HandOverRefused` where they stand in no relation for it."""
        ends: dict[int, dict[str, Committed]] = {}
        pending: set[int] = set()
        led: set[int] = set()
        returned: set[int] = set()
        behind: dict[int, int] = {}
        for partition in range(partitions):
            tps = [TP(topic, partition) for topic in inputs]
            if any(tp not in given for tp in tps):
                raise HandOverRefused(
                    f"the workers of {giver} have committed nothing of partition {partition}: start them, or wait "
                    "until they have"
                )
            ends[partition] = {tp.topic: given[tp] for tp in tps}
            own = [Standing.of(given[tp].lineage) for tp in tps]
            other = [Standing.of(taken[tp].lineage) for tp in tps if tp in taken]
            has_returned = all(found.follows == taker for found in own)
            if has_returned:
                returned.add(partition)
            if has_returned or any(found.handed_to == taker for found in own):
                if other and not any(found.follows or found.handed_to for found in other):
                    led.add(partition)
                continue
            _require_relation(giver, taker, partition, own, other)
            pending.add(partition)
            behind[partition] = sum(max(given[tp].offset - (taken[tp].offset if tp in taken else 0), 0) for tp in tps)
        return cls(giver, taker, ends, frozenset(pending), frozenset(led), behind, frozenset(returned))


def _require_relation(
    giver: str, taker: str, partition: int, own: Sequence[Standing], other: Sequence[Standing]
) -> None:
    """See that `giver`, of the standing `own`, leads, and that `taker`, of the standing `other`, would take over."""
    follows = next((found.follows for found in own if found.follows), None)
    if follows is not None:
        raise HandOverRefused(f"{giver} itself follows {follows} in partition {partition}: it has nothing to hand over")
    handed_to = next((found.handed_to for found in own if found.handed_to), None)
    if handed_to is not None:
        raise HandOverRefused(f"{giver} has handed partition {partition} over to {handed_to}, and not to {taker}")
    if not any(found.follows == giver for found in other):
        raise HandOverRefused(
            f"no worker of {taker} has followed {giver} in partition {partition}: start them (`foreshock shadow run`, "
            f"or `foreshock worker --follow {giver}`), and wait until they have caught up"
        )
    if not any(found.takes_over for found in other):
        raise HandOverRefused(
            f"the workers of {taker} may not publish what is live: they lack a right, which their log names. Grant it "
            "and start them again"
        )
