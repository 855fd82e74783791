"""What is wrong with how long topics keep their records, before a replay, a rebuild or a reader misses them.

The one place that says so, for `doctor` and for `retention plan`. What a topic's settings should be is
`stream.kafka.provisioning.specifications`; here is what the settings come to, with what the topics hold and who has
still to read it. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stream.kafka.provisioning import DAY_MS, LONGEST_MS, UNLIMITED, Finding, TopicState
from stream.kafka.topic_sizes import GroupLag, TopicSize
from stream.settings import Settings

WARNED_DAYS = 14
"""So many days before the first records of an input topic go, that is told."""

SHORT_STOP_DAYS = 7
"""Kafka's own default of how long brokers keep the offsets of a group without members."""

FULL_DAYS = 30
"""Disks that are full within so many days are told of."""

WARNED_SHARE = 0.5
"""A reader that is behind by more than this share of a topic's retention is told of."""


@dataclass(frozen=True)
class Facts:
    """What the brokers say, at `now_ms`: topics by name as they are set and what they hold, groups and what they have
    still to read; how long the offsets of a group without members are kept, and the bytes that are free on the disks of
    all brokers (None: not known)."""

    now_ms: int
    states: Mapping[str, TopicState]
    sizes: Mapping[str, TopicSize]
    lags: Sequence[GroupLag] = ()
    offsets_retention_ms: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True)
class Kept:
    """How long a topic keeps a record: `ms` after its time, None for without limit; `compacted` to one of each key."""

    ms: int | None
    compacted: bool = False
    bytes_per_partition: int | None = field(default=None)


def kept(state: TopicState) -> Kept | None:
    """As a topic's settings say; None where this client may not see them."""
    policy = state.configs.get("cleanup.policy")
    if policy is None:
        return None
    compacted = "compact" in policy
    if "delete" not in policy:
        return Kept(None, compacted)
    ms, limit = (state.configs.get(key, UNLIMITED) for key in ("retention.ms", "retention.bytes"))
    endless = ms == UNLIMITED or int(ms) >= LONGEST_MS
    return Kept(None if endless else int(ms), compacted, None if limit == UNLIMITED else int(limit))


def days_until_first_goes(state: TopicState, size: TopicSize, now_ms: int) -> float | None:
    """Days until retention may take the oldest record, 0 for now; None for never, or where it is not known."""
    found = kept(state)
    if found is None or found.ms is None or size.oldest_ms is None:
        return None
    return max(0.0, (size.oldest_ms + found.ms - now_ms) / DAY_MS)


def judge_retention(settings: Settings, facts: Facts) -> list[Finding]:
    """Findings on all topics; a single good one where nothing is wrong."""
    found = [
        *_readers(facts),
        *_inputs(settings, facts),
        *_order(settings, facts),
        *_book(settings, facts),
        *_offsets(facts),
        *_disks(facts),
    ]
    return found or [Finding("ok", "retention", "no topic deletes what a replay, a rebuild or a reader still needs")]


def _readers(facts: Facts) -> Iterator[Finding]:
    """Records that a group has not read must not go before it has."""
    for lag in facts.lags:
        state = facts.states.get(lag.topic)
        found = None if state is None else kept(state)
        if found is None or found.ms is None or not lag.records:
            continue
        if lag.oldest_ms is None:
            yield Finding(
                "warning",
                f"retention of {lag.topic}",
                f"it keeps records for {found.ms / DAY_MS:.1f} days; of how long ago those are that group {lag.group} "
                "has yet to read cannot be seen",
                f"give this client the right to read {lag.topic}",
            )
            continue
        behind_ms = facts.now_ms - lag.oldest_ms
        if behind_ms < found.ms * WARNED_SHARE:
            continue
        gone = behind_ms >= found.ms
        yield Finding(
            "error" if gone else "warning",
            f"retention of {lag.topic}",
            f"it keeps records for {found.ms / DAY_MS:.1f} days, and group {lag.group} has yet to read {lag.records:,} "
            f"that begin {behind_ms / DAY_MS:.1f} days ago: "
            + ("they may go unread at any moment" if gone else "they go unread if it does not catch up"),
            f"start what reads as {lag.group}; until it has caught up, keep records for longer: "
            f"kafka-configs --alter --topic {lag.topic} --add-config retention.ms={UNLIMITED}",
        )


def _inputs(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """States come of all events from the first one on: without them they cannot be made again, nor replayed."""
    lengths: dict[str, int | None] = {}
    for name in settings.topics.inputs:
        state, size = facts.states.get(name), facts.sizes.get(name)
        found = None if state is None else kept(state)
        if state is None or size is None or found is None or found.compacted:
            continue
        lengths[name] = found.ms
        meant = settings.input_retention_days is not None
        first_days = days_until_first_goes(state, size, facts.now_ms)
        remedy = (
            f"export older events first (`foreshock archive export`), or keep them: `foreshock retention apply` with "
            f"input_retention_days {'larger' if meant else 'unset'}"
        )
        if size.removed and not meant:
            yield Finding(
                "warning",
                f"retention of {name}",
                f"its first {size.removed:,} offsets are gone: states that are older cannot be made again from it, and "
                "a replay begins later",
                remedy,
            )
        elif first_days is not None and first_days <= WARNED_DAYS and not size.removed:
            yield Finding(
                "warning",
                f"retention of {name}",
                f"its first records go in {first_days:.1f} days; from then on the states of today cannot be made again "
                "from it, and a replay begins later",
                remedy,
            )
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {_days(ms)}" for name, ms in lengths.items())
        yield Finding(
            "warning",
            "retention of the inputs",
            f"they keep events for different times ({listed}): a replay of the time between would see some kinds of "
            "event only, and score borrowers otherwise than was scored live",
            "set one input_retention_days, and run `foreshock retention apply`",
        )


def _order(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """The order in which inputs were taken must be known for as long as there are inputs."""
    name = settings.topics.order(settings.application_id)
    journal = facts.states.get(name)
    found = None if journal is None else kept(journal)
    if found is None:
        return
    inputs = [facts.states[topic] for topic in settings.topics.inputs if topic in facts.states]
    events = [length for state in inputs if (length := kept(state)) is not None and not length.compacted]
    longest = (
        None if any(length.ms is None for length in events) else max((length.ms or 0 for length in events), default=0)
    )
    if found.compacted or (found.ms is not None and (longest is None or found.ms < longest)):
        kept_for = "only the last record of each key" if found.compacted else f"records {_days(found.ms)}"
        yield Finding(
            "warning",
            f"retention of {name}",
            f"it keeps {kept_for}, the inputs {_days(longest)}: of what is older, nobody knows in which order its "
            "topics were taken, and a replay has to go by event time",
            f"kafka-configs --alter --topic {name} --add-config cleanup.policy=delete,retention.ms="
            f"{UNLIMITED if longest is None else longest}",
        )


def _book(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """What says that a dead letter was sent back must not go, or it is sent once more."""
    name = settings.topics.sent_back
    state = facts.states.get(name)
    if state is not None and "delete" in state.configs.get("cleanup.policy", ""):
        yield Finding(
            "warning",
            f"retention of {name}",
            "it deletes records: dead letters that were sent back could be sent once more",
            f"kafka-configs --alter --topic {name} --add-config cleanup.policy=compact, or `foreshock retention apply`",
        )


def _offsets(facts: Facts) -> Iterator[Finding]:
    kept_ms = facts.offsets_retention_ms
    if kept_ms is not None and kept_ms < SHORT_STOP_DAYS * DAY_MS:
        yield Finding(
            "warning",
            "offsets of groups",
            f"the brokers forget how far a group has read {kept_ms / DAY_MS:.1f} days after its last member left: "
            "after a longer stop, workers and sinks read everything again",
            f"set offsets.retention.minutes to {SHORT_STOP_DAYS * 24 * 60} or more on the brokers",
        )


def days_until_full(facts: Facts) -> float | None:
    """Days until what topics keep without limit fills the disks of all brokers, if they grow on as they do; None where
    that is not known, or never. What is deleted or compacted is taken to make room for what comes."""
    growth = 0.0
    for name, size in facts.sizes.items():
        found = kept(facts.states[name]) if name in facts.states else None
        if found == Kept(None):
            growth += size.replicated_bytes_per_day or 0.0
    return facts.free_bytes / growth if facts.free_bytes is not None and growth > 0 else None


def _disks(facts: Facts) -> Iterator[Finding]:
    days = days_until_full(facts)
    if days is not None and days < FULL_DAYS:
        yield Finding(
            "warning",
            "disks of the brokers",
            f"at today's rate, what topics keep without limit fills them in {days:.0f} days",
            "add disks, or set input_retention_days and output_retention_days, export older events first, and run "
            "`foreshock retention apply`",
        )


def _days(ms: int | None) -> str:
    return "without limit" if ms is None else f"for {ms / DAY_MS:.1f} days"
