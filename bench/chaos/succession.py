"""What must come of applications that hand over to each other: as the oracle, by the order journals of all of them.

Each application's journal tells the order of all its events, and from where to where it leads. Scoring them in that
order with its bundle, alerts going over as the hand-overs say, gives what it must have published, and its states.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from bench.chaos.oracle import (
    User,
    Verdict,
    contract_values,
    contracts_in,
    differing,
    latest_of,
    refusal_in,
    sequences_in,
    source_of,
)
from events.types import KINDS
from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, Score
from stream.scoring.forgetting import pieces_between
from stream.scoring.hand_over import take_alerts
from stream.scoring.intake import Intake, Taken
from stream.scoring.order_journal import OrderRecord
from stream.scoring.ordered_merge import OrderedMerge
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

NO_CLOCK_MS = 1 << 60

Output = tuple[int, bytes, bytes]
"""Partition, key and value of a record."""


@dataclass(frozen=True)
class SuccessionVerdict:
    """Counts of what is wrong, as a reader of committed records sees it; all are 0 where nothing is.

    `lost`, `twice`, `strange` and `broken_sequences` are as in `Verdict`. `wrong_scores` and `wrong_alerts` are records
    that none of the applications had to publish, or that are missing. `wrong_rows` are users with another state in one
    of the changelogs, `wrong_latest` those whose record in `scores.latest` is not their last score. `wrong_openings`
    are alerts that were opened more than once, or changed without being open. `wrong_contracts` are users whose record
    in `contracts` is not what the state of the first application comes to, which of contracts is that of all.
    """

    inputs: int
    scores: int
    alerts: int
    by_model: dict[str, int]
    lost: int
    twice: int
    strange: int
    broken_sequences: int
    wrong_scores: int
    wrong_alerts: int
    wrong_rows: int
    wrong_latest: int
    wrong_contracts: int
    wrong_openings: int

    @property
    def is_right(self) -> bool:
        figures = asdict(self)
        return not any(figures[name] for name in figures if name not in ("inputs", "scores", "alerts", "by_model"))

    def as_verdict(self) -> Verdict:
        """In the form that the verdict on any other run has."""
        figures = asdict(self)
        del figures["by_model"]
        return Verdict(**figures)


def judge_succession(kafka: KafkaConnection, applications: Sequence[Settings]) -> SuccessionVerdict:
    """Judge what workers of these applications have made of all inputs; the first one led at the beginning."""
    topics = applications[0].topics
    with TopicReader(kafka) as reader:
        partitions = reader.partitions(topics.inputs[0])

        def records(name: str) -> list[Any]:
            return [record for partition in range(partitions) for record in reader.each(name, partition)]

        inputs = {topic: records(topic) for topic in topics.inputs}
        scores, alerts, letters = records(topics.scores), records(topics.alerts), records(topics.dead_letters)
        latest, contracts = records(topics.latest_scores), records(topics.contracts)
        journals = [records(topics.order(settings.application_id)) for settings in applications]
        changelogs = [records(topics.changelog(settings.application_id)) for settings in applications]
    places = {(record.topic, record.partition, record.offset) for found in inputs.values() for record in found}
    accounted = Counter(map(source_of, scores)) + Counter(refusal_in(record).at for record in letters)
    expected_scores: Counter[Output] = Counter()
    expected_alerts: Counter[Output] = Counter()
    wrong_rows = 0
    standings: dict[User, bytes] = {}
    for number, (settings, journal, changelog) in enumerate(zip(applications, journals, changelogs, strict=True)):
        of_one = _Application(settings, leads=number == 0)
        for partition in range(partitions):
            of_one.follow(partition, inputs, [record for record in journal if record.partition == partition])
        expected_scores += of_one.scores
        expected_alerts += of_one.alerts
        if number == 0:
            standings = of_one.contracts()
        found, wanted = latest_of(changelog), of_one.rows()
        wrong_rows += sum(found.get(user) != wanted.get(user) for user in found.keys() | wanted.keys())
    decoded = [msgspec.json.decode(record.value, type=Score) for record in scores if record.value is not None]
    last = latest_of(scores)
    kept = latest_of(latest)
    return SuccessionVerdict(
        inputs=len(places),
        scores=len(decoded),
        alerts=len(alerts),
        by_model=dict(Counter(score.model for score in decoded)),
        lost=len(places - accounted.keys()),
        twice=sum(count > 1 for count in accounted.values()),
        strange=len(accounted.keys() - places),
        broken_sequences=sum(found != list(range(1, len(found) + 1)) for found in sequences_in(scores)),
        wrong_scores=_differing(scores, expected_scores),
        wrong_alerts=_differing(alerts, expected_alerts),
        wrong_rows=wrong_rows,
        wrong_latest=sum(last.get(user) != kept.get(user) for user in last.keys() | kept.keys()),
        wrong_contracts=differing(contracts_in(latest_of(contracts)), contracts_in(standings)),
        wrong_openings=_wrong_openings(alerts),
    )


class _Application:
    """The scorer of one application, over its journal."""

    def __init__(self, settings: Settings, *, leads: bool) -> None:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        self._id = settings.application_id
        self._leads_first = leads
        self._topics = settings.topics.inputs
        self._slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
        policy, self._rules = settings.alert_policy(bundle.thresholds), settings.portfolio_rules()
        self._scorer = Scorer(bundle, policy, self._slab, settings.topics, rules=self._rules)
        self.scores: Counter[Output] = Counter()
        self.alerts: Counter[Output] = Counter()
        """What the application had to publish."""

    def rows(self) -> dict[tuple[int, bytes], bytes]:
        return {(partition, key): row for partition, key, row in self._slab.items()}

    def contracts(self) -> dict[User, bytes]:
        return contract_values(self.rows(), self._slab.dtype, self._rules)

    def follow(self, partition: int, inputs: dict[str, list[Any]], journal: Sequence[Any]) -> None:
        merge, leads = OrderedMerge(self._id), self._leads_first
        for kind_no, (kind, topic) in enumerate(zip(KINDS, self._topics, strict=True)):
            intake = Intake(kind)
            taken = [intake.take(record, NO_CLOCK_MS) for record in inputs[topic] if record.partition == partition]
            merge.push(kind_no, [item for item in taken if isinstance(item, Taken)])
            merge.read_to(kind_no, sys.maxsize)
        for record in journal:
            merge.tell(record.offset, record.value)
            self._score(merge.release(), leads=leads)
            told = OrderRecord.decode(record.value).hand_over
            if told is not None and told.giver == self._id:
                leads = False
            if merge.hand_over is not None:
                assert merge.hand_over.hand_over is not None
                take_alerts(self._slab, partition, merge.hand_over.hand_over)
                merge.go_on()
                leads = True

    def _score(self, taken: list[Taken], *, leads: bool) -> None:
        for piece in pieces_between(taken):
            scored = self._scorer.score(piece)
            if not leads:
                continue
            for mine, found in ((self.scores, scored.scores), (self.alerts, scored.alerts)):
                mine.update((partition, key, value) for partition, pairs in found.items() for key, value in pairs)


def _differing(found: Sequence[Any], expected: Counter[Output]) -> int:
    there = Counter((record.partition, record.key, record.value) for record in found if record.value is not None)
    return (there - expected).total() + (expected - there).total()


def _wrong_openings(alerts: Sequence[Any]) -> int:
    wrong = 0
    ids: set[str] = set()
    open_now: set[str] = set()
    for record in alerts:
        if record.value is None:
            continue
        alert = msgspec.json.decode(record.value, type=Alert)
        if alert.kind == "opened":
            wrong += alert.alert_id in ids
            ids.add(alert.alert_id)
            open_now.add(alert.alert_id)
        else:
            wrong += alert.alert_id not in open_now
            if alert.kind == "cleared":
                open_now.discard(alert.alert_id)
    return wrong
