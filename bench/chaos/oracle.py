"""What must come of a run: computed from the records that the topics hold, not from what was meant to be sent.

The order in which the topics of a partition were interleaved is the workers' own choice; it is read from the committed
scores. Everything else follows: every score, alert and state must be the one that the scorer comes to in that order,
and every input must be accounted for exactly once.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from bench.chaos.tables import Outputs
from events.types import KINDS, Event, Forgetting, Profile
from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, BorrowerContracts, ContractStanding, DeadLetter, Score, forgotten_by
from stream.portfolio import PortfolioRules
from stream.scoring.contract_records import contract_records
from stream.scoring.forgetting import pieces_between
from stream.scoring.intake import Intake, Taken
from stream.scoring.ordered_merge import OrderedMerge
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics

Coordinate = tuple[str, int, int]
"""Topic, partition and offset."""

REPEATED, IN_THE_FUTURE = "duplicate_event_id", "in_the_future"
"""Refusals of what is a valid event: the one moves how far a row has read, the other depends on a worker's clock."""


class Refusal(NamedTuple):
    """A dead letter: of which input, why, and its key and value, but for what was too large."""

    at: Coordinate
    reason: str
    kept: dict[str, bytes | None]


User = tuple[int, bytes]
"""Partition and key."""

_ByUser = dict[User, list[bytes | None]]
"""Values by partition and key; None where the user was forgotten."""


@dataclass(frozen=True)
class Verdict:
    """Counts of what is wrong, as a reader of committed records sees it; all are 0 where nothing is.

    `lost` inputs have neither a score nor a dead letter, `twice` have more than one of them, `strange` outputs name no
    input. `wrong_scores` and `wrong_alerts` are users of whom a record differs from the oracle's in a byte, is missing
    or in excess, `wrong_rows` users with another state. `wrong_latest` are users whose record in `scores.latest` is not
    their last committed score, `wrong_contracts` those whose record in `contracts` is not what the oracle's state comes
    to. `wrong_refusals` are dead letters that give another reason than there is, or none that there is.
    `wrong_order` are partitions whose order journal tells another order than that of the scores, or of other refusals.
    `broken_sequences` are users whose scores are not numbered 1, 2, 3, ….
    `wrong_table_rows` are rows of the database that are missing, in excess, or other than the topics have them.
    `wrong_openings` are alerts that were opened more than once, or changed without being open, where another model took
    over: see `bench.chaos.succession`, which judges such a run, and by the journals instead of the scores.
    """

    inputs: int
    scores: int
    alerts: int
    lost: int
    twice: int
    strange: int
    wrong_scores: int
    wrong_alerts: int
    wrong_rows: int
    wrong_latest: int
    wrong_contracts: int
    broken_sequences: int
    wrong_order: int = 0
    wrong_refusals: int = 0
    wrong_table_rows: int = 0
    wrong_openings: int = 0

    @property
    def is_right(self) -> bool:
        faults = asdict(self)
        return not any(faults[name] for name in faults if name not in ("inputs", "scores", "alerts"))


@dataclass(frozen=True)
class Published:
    """All committed records of a deployment, by what they are, each partition's in order."""

    inputs: Sequence[Any]
    scores: Sequence[Any]
    alerts: Sequence[Any]
    dead_letters: Sequence[Any]
    changelog: Sequence[Any]
    latest_scores: Sequence[Any]
    contracts: Sequence[Any]
    order: Sequence[Any]

    @classmethod
    def read(cls, kafka: KafkaConnection, settings: Settings) -> Published:
        """What the topics hold now."""
        topics = settings.topics
        with TopicReader(kafka) as reader:

            def records(*names: str) -> list[Any]:
                partitions = ((name, p) for name in names for p in range(reader.partitions(name)))
                return [record for name, partition in partitions for record in reader.each(name, partition)]

            return cls(
                records(*topics.inputs),
                records(topics.scores),
                records(topics.alerts),
                records(topics.dead_letters),
                records(topics.changelog(settings.application_id)),
                records(topics.latest_scores),
                records(topics.contracts),
                records(topics.order(settings.application_id)),
            )


def judge(published: Published, settings: Settings) -> Verdict:
    """Judge what workers with `settings` have made of all inputs."""
    inputs = {(record.topic, record.partition, record.offset): record for record in published.inputs}
    sources = [source_of(record) for record in published.scores]
    decoded = [msgspec.json.decode(record.value, type=Score) for record in published.scores if record.value is not None]
    letters = [refusal_in(record) for record in published.dead_letters]
    accounted = Counter(sources) + Counter(letter.at for letter in letters)
    expected = _Oracle(settings, inputs)
    expected.score([at for at in dict.fromkeys(sources) if at in inputs])
    known = [letter for letter in letters if letter.at in inputs]
    wrong_refusals = sum(not expected.is_right_refusal(letter) for letter in known)
    expected.pass_over([letter.at for letter in known if letter.reason == REPEATED])
    sequences = sequences_in(published.scores)
    by_user, rows = _by_user(published.scores), expected.rows()
    return Verdict(
        inputs=len(inputs),
        scores=len(decoded),
        alerts=len(published.alerts),
        lost=len(inputs.keys() - accounted.keys()),
        twice=sum(count > 1 for count in accounted.values()),
        strange=len(accounted.keys() - inputs.keys()),
        wrong_scores=differing(by_user, expected.scores),
        wrong_alerts=differing(_by_user(published.alerts), expected.alerts),
        wrong_rows=differing(*(expected.comparable(found) for found in (latest_of(published.changelog), rows))),
        wrong_latest=differing(
            latest_of(published.latest_scores), _without_tombstones({user: own[-1] for user, own in by_user.items()})
        ),
        wrong_contracts=differing(contracts_in(latest_of(published.contracts)), contracts_in(expected.contracts(rows))),
        broken_sequences=sum(found != list(range(1, len(found) + 1)) for found in sequences),
        wrong_order=_wrong_orders(published, settings, list(dict.fromkeys(sources)), {letter.at for letter in letters}),
        wrong_refusals=wrong_refusals,
    )


def _wrong_orders(
    published: Published, settings: Settings, scored: Sequence[Coordinate], refused: Collection[Coordinate]
) -> int:
    """Partitions whose order journal does not lead to what was scored, in its order, past what was refused."""
    wrong = 0
    inputs = settings.topics.inputs
    for partition in sorted({record.partition for record in published.inputs}):
        merge, taken = OrderedMerge(), []
        of_partition = [record for record in published.inputs if record.partition == partition]
        for kind_no, topic in enumerate(inputs):
            places = [_Place(kind_no, record.offset, 0) for record in of_partition if record.topic == topic]
            merge.push(kind_no, cast(Any, places))
            merge.read_to(kind_no, sys.maxsize)
        for number, record in enumerate(record for record in published.order if record.partition == partition):
            merge.tell(number, record.value)
            taken += merge.release()
        told = [(inputs[item.kind_no], partition, item.offset) for item in taken]
        own, accounted = [at for at in scored if at[1] == partition], set(scored)
        passed_over = {(record.topic, partition, record.offset) for record in of_partition} - set(told)
        wrong += (
            [at for at in told if at in accounted] != own
            or not passed_over <= set(refused)
            or not set(told) - accounted <= set(refused)
            or bool(merge.counts["before_journal"])
        )
    return wrong


class _Place(NamedTuple):
    kind_no: int
    offset: int
    occurred_ms: int


def outputs_of(published: Published, topics: Topics) -> Outputs:
    """What the database is to hold: of a user who was forgotten, what came after that."""
    return Outputs(
        [msgspec.json.decode(record.value, type=Score) for record in _remembered(published.scores)],
        [msgspec.json.decode(record.value, type=Alert) for record in _remembered(published.alerts)],
        [DeadLetter.from_record(record) for record in published.dead_letters],
        [msgspec.json.decode(value, type=BorrowerContracts) for value in latest_of(published.contracts).values()],
        list(_profiles(record for record in published.inputs if record.topic == topics.of_kind("profiles"))),
        list(_events(published.inputs, topics)),
    )


def _events(records: Sequence[Any], topics: Topics) -> Iterator[tuple[Any, Event]]:
    """What workers may take, with its record, but for what happened before its user was forgotten."""
    kinds, now_ms = dict(zip(topics.inputs, KINDS, strict=True)), time.time_ns() // 1_000_000
    intakes = {topic: Intake(kind) for topic, kind in kinds.items()}
    taken = [found for record in records if isinstance(found := intakes[record.topic].take(record, now_ms), Taken)]
    until_ms: dict[bytes, int] = {}
    for one in taken:
        if isinstance(one.event, Forgetting):
            until_ms[one.key] = max(one.occurred_ms, until_ms.get(one.key, one.occurred_ms))
    for one in taken:
        if not isinstance(one.event, Forgetting) and one.occurred_ms > until_ms.get(one.key, -1):
            yield one.record, one.event


def _profiles(records: Iterable[Any]) -> Iterator[tuple[Any, Profile]]:
    intake, now_ms = Intake("profiles"), time.time_ns() // 1_000_000
    for record in _remembered(records):
        taken = intake.take(record, now_ms)
        if isinstance(taken, Taken) and isinstance(taken.event, Profile):
            yield record, taken.event


def _remembered(records: Iterable[Any]) -> Iterator[Any]:
    """Records after the last tombstone of their user."""
    kept: dict[User, list[Any]] = {}
    for record in records:
        of_user = kept.setdefault((record.partition, record.key), [])
        if record.value is None:
            of_user.clear()
        else:
            of_user.append(record)
    return itertools.chain.from_iterable(kept.values())


class _Oracle:
    """The scorer over one slab, without a broker."""

    def __init__(self, settings: Settings, inputs: dict[Coordinate, Any]) -> None:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        self._rules = settings.portfolio_rules()
        self._inputs = inputs
        self._slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
        self._scorer = Scorer(
            bundle,
            settings.alert_policy(bundle.thresholds),
            self._slab,
            settings.topics,
            rules=self._rules,
        )
        self._intakes = {topic: Intake(kind) for topic, kind in zip(settings.topics.inputs, KINDS, strict=True)}
        self.scores: _ByUser = {}
        self.alerts: _ByUser = {}
        self._scored_ids: set[tuple[int, bytes, str]] = set()
        self._forgotten: set[User] = set()

    def score(self, order: Iterable[Coordinate]) -> None:
        """Take the events at these places, in this order."""
        taken = [item for at in order if isinstance(item := self._take(at), Taken)]
        self._scored_ids = {(item.partition, item.key, item.event.event_id) for item in taken}
        for piece in pieces_between(taken):
            scored = self._scorer.score(piece)
            told = {partition: [(key, None) for key, _ in found] for partition, found in scored.forgotten.items()}
            self._forgotten |= {(partition, key) for partition, found in told.items() for key, _ in found}
            for mine, found in ((self.scores, scored.scores), (self.alerts, scored.alerts)):
                _add(mine, found)
                _add(mine, told)

    def pass_over(self, refused: Iterable[Coordinate]) -> None:
        """Take note that valid events at these places were repeats: all that it changes is how far a row has read.

        Of a user who was forgotten and has not come back there is no row.
        """
        for at in refused:
            item = self._take(at)
            if isinstance(item, Taken) and self._slab.get(item.partition, item.key) is not None:
                row = self._slab.locate(item.partition, [item.key])
                read = self._slab.rows["consumed_offset"]
                read[row, item.kind_no] = np.maximum(read[row, item.kind_no], item.offset)

    def is_right_refusal(self, letter: Refusal) -> bool:
        """Whether an input had to be refused for this reason. That one was in the future, only its worker knew."""
        record, item = self._inputs[letter.at], self._take(letter.at)
        if any(getattr(record, part) != content for part, content in letter.kept.items()):
            return False
        if not isinstance(item, Taken):
            return bool(item.reason == letter.reason)
        if letter.reason == REPEATED:
            return (item.partition, item.key, item.event.event_id) in self._scored_ids
        return letter.reason == IN_THE_FUTURE

    def rows(self) -> dict[User, bytes]:
        return {(partition, key): row for partition, key, row in self._slab.items()}

    def comparable(self, rows: Mapping[User, bytes]) -> dict[User, bytes]:
        """Rows without what nobody can tell: how far one has read of a user who was forgotten. It depends on whether
        a repeated event was refused before that or after it, and both leave the same dead letter."""
        return {user: self._without_offsets(row) if user in self._forgotten else row for user, row in rows.items()}

    def _without_offsets(self, row: bytes) -> bytes:
        content = np.frombuffer(row, dtype=self._slab.dtype).copy()
        content["consumed_offset"] = -1
        return content.tobytes()

    def contracts(self, rows: Mapping[User, bytes]) -> dict[User, bytes]:
        return contract_values(rows, self._slab.dtype, self._rules)

    def _take(self, at: Coordinate) -> Any:
        return self._intakes[at[0]].take(self._inputs[at], time.time_ns() // 1_000_000)


def refusal_in(record: Any) -> Refusal:
    letter = DeadLetter.from_record(record)
    kept = {part: getattr(letter, part) for part in ("key", "value") if part not in letter.left_out}
    return Refusal((letter.topic, letter.partition, letter.offset), letter.reason, kept)


def source_of(record: Any) -> Coordinate:
    """The input behind a record of the topic of scores."""
    place = forgotten_by(record.value, record.headers)
    if place is not None:
        topic, partition, offset = place.split(":")
        return topic, int(partition), int(offset)
    score = msgspec.json.decode(record.value, type=Score)
    return score.source_topic, score.source_partition, score.source_offset


def sequences_in(scores: Iterable[Any]) -> list[list[int]]:
    """The sequences of each user's scores, in order; those of a user who was forgotten begin anew."""
    closed: list[list[int]] = []
    current: dict[User, list[int]] = {}
    for record in scores:
        if record.value is None:
            closed.append(current.pop((record.partition, record.key), []))
        else:
            sequence = msgspec.json.decode(record.value, type=Score).sequence
            current.setdefault((record.partition, record.key), []).append(sequence)
    return [*closed, *current.values()]


def _without_tombstones(values: dict[User, bytes | None]) -> dict[User, bytes]:
    return {user: value for user, value in values.items() if value is not None}


def latest_of(records: Iterable[Any]) -> dict[User, bytes]:
    """What compaction leaves."""
    return _without_tombstones({(record.partition, record.key): record.value for record in records})


def contract_values(rows: Mapping[User, bytes], dtype: np.dtype[np.void], rules: PortfolioRules) -> dict[User, bytes]:
    """What the topic of contracts is to hold of users with these rows."""
    found: dict[User, bytes] = {}
    for partition in {partition for partition, _ in rows}:
        keys = [key for of, key in rows if of == partition]
        content = np.frombuffer(b"".join(rows[partition, key] for key in keys), dtype=dtype)
        made = contract_records(partition, keys, content, rules, told=True)
        found |= {(partition, key): value for key, value in made}
    return found


def contracts_in(values: Mapping[User, bytes]) -> dict[User, list[ContractStanding]]:
    """What records of contracts say, but for when they were written: a worker leaves one as it is while it holds."""
    return {user: msgspec.json.decode(value, type=BorrowerContracts).contracts for user, value in values.items()}


def _by_user(records: Iterable[Any]) -> _ByUser:
    """Values in order by partition and key: between users, the order of alerts is that of batches."""
    found: _ByUser = {}
    for record in records:
        found.setdefault((record.partition, record.key), []).append(record.value)
    return found


def _add(mine: _ByUser, by_partition: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
    for partition, pairs in by_partition.items():
        for key, value in pairs:
            mine.setdefault((partition, key), []).append(value)


def differing(found: dict[Any, Any], expected: dict[Any, Any]) -> int:
    """How many keys have another value, or are on one side only."""
    return sum(found.get(key) != expected.get(key) for key in found.keys() | expected.keys())
