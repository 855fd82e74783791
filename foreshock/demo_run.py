"""The demonstration: the real thing end to end on a portfolio of borrowers, measured against what truly happened.

Starts nothing itself except worker and sink processes; which broker, database and data set it runs on is the caller's.
The truth about the borrowers is read after the fact, and only here.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import TopicPartition
from kafka.errors import KafkaError
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.types import KeyedEvent
from model.bundle import Bundle
from model.datasets.dataset import Dataset, Outcome
from model.datasets.delivery import keyed_events_of
from model.statistics.metrics import roc_auc
from stream.database.connection import DatabaseConnection
from stream.database.summary import Summary, summarise
from stream.embedded.server import ServerProcess
from stream.kafka.clients import open_admin, open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import open_publisher
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Alert, Level, RefusalCode, Score
from stream.replay.foreign import ForeignRecords, OutputValues, dead_letters
from stream.settings import Settings
from stream.topics import sink_group

LONGEST_LEAD_DAYS = 180
"""An alert opened longer than this before the default date is not counted as its warning."""

SERIOUS_DAYS_PAST_DUE = 60
"""From here on a borrower is seriously delinquent, and no longer to be warned of."""

STALLED_S = 120.0
POLL_S = 0.5
SCORES_PER_REPORT = 2_000

Progress = Callable[[str, int, int | None], None]
"""Called with a stage (`publish`, `score`, `store`, `read`), what is done of it, and how much in all, None if unknown.

Called often in each, so it may end the demonstration by raising."""


class DemoError(RuntimeError):
    """The demonstration cannot go on; the message says what happened and where to look."""


@dataclass
class DemoReport:
    """Figures of a demonstration; the keys of `--report`.

    `events_per_second` is taken from the first published score to the last, by the broker's timestamps.
    """

    source: str
    events_published: int = 0
    events_scored: int = 0
    dead_letters: int = 0
    dead_letters_by_reason: dict[RefusalCode, int] = field(default_factory=dict)
    users: int = 0
    scores_in_topic: int = 0
    alerts_in_topic: int = 0
    alerts_in_postgres: int = 0
    users_in_postgres: int = 0
    events_per_second: float = 0.0
    alerts_by_level: dict[Level, int] = field(default_factory=dict)
    deteriorations: int | None = None
    deteriorations_caught: int | None = None
    median_lead_days: float | None = None
    auc: float | None = None
    auc_of: str | None = None
    seconds_total: float = 0.0

    def as_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class Demo:
    """One run: workers and a sink over a data set's events."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaConnection,
        database: DatabaseConnection,
        dataset: Dataset,
        *,
        workers: int,
        logs: Path,
        progress: Progress,
        events: Iterator[KeyedEvent] | None = None,
    ) -> None:
        """`events` are what to publish, if not the data set's events in the order of event time."""
        self._settings = settings
        self._kafka = kafka
        self._database = database
        self._dataset = dataset
        self._workers = workers
        self._logs = logs
        self._progress = progress
        self._events = keyed_events_of(dataset) if events is None else events
        self._processes: list[ServerProcess] = []
        self._topics = settings.topics
        self.summary: Summary | None = None

    def run(self) -> DemoReport:
        """Publish, wait until everything is scored and stored, and measure. Topics and schema must exist.

        Raises `DemoError` when a process ends or nothing moves any more.
        """
        report = DemoReport(self._dataset.name)
        with ExitStack() as running:
            running.enter_context(self._processes_running())
            asyncio.run(self._publish())
            lag = running.enter_context(_Lag.open(self._kafka))
            self._wait(lag, "score", self._topics.inputs, self._settings.application_id)
            self._wait(lag, "store", self._topics.stored, sink_group(self._settings.readers))
            report.events_published = lag.size(self._topics.inputs)
        self._read_topics(report)
        self.summary = summarise(self._database, less_than_days_past_due=SERIOUS_DAYS_PAST_DUE)
        report.alerts_in_postgres = self.summary.alert_events
        report.users_in_postgres = self.summary.users
        report.alerts_by_level = self.summary.alerts_by_level
        return report

    @contextmanager
    def _processes_running(self) -> Iterator[None]:
        settings = self._settings
        environment = {
            "FORESHOCK_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "FORESHOCK_DATABASE_URL": self._database.url,
            "FORESHOCK_TOPIC_PREFIX": settings.topic_prefix,
            "FORESHOCK_APPLICATION_ID": settings.application_id,
            "FORESHOCK_PARTITIONS": str(settings.partitions),
            "FORESHOCK_BUNDLE": str(settings.bundle.resolve()),
            "FORESHOCK_LOG_FORMAT": settings.log_format,
        }
        os.environ.update(environment)
        names = [*(f"worker-{number}" for number in range(1, self._workers + 1)), "sink"]
        try:
            for name in names:
                command = [sys.executable, "-m", "foreshock", name.partition("-")[0]]
                process = ServerProcess(name, command, self._logs / f"{name}.log")
                self._processes.append(process)
                process.start()
            yield
        finally:
            with ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(ServerProcess.stop, self._processes))
            for key in environment:
                os.environ.pop(key, None)

    async def _publish(self) -> None:
        async with open_publisher(self._kafka, self._topics) as publisher:
            await publisher.publish(self._events, lambda sent, _: self._progress("publish", sent, None))

    def _wait(self, lag: _Lag, stage: str, topics: Sequence[str], group: str) -> None:
        """Until `group` has committed everything in `topics`; more may be added meanwhile (the watchdog does)."""
        moved_s, last, calm = time.monotonic(), -1, 0
        while True:
            done, total = lag.committed(group, topics), lag.size(topics)
            self._progress(stage, done, total)
            # Twice in a row: the last events may yet make the watchdog publish.
            calm = calm + 1 if done == total else 0
            if calm == 4:
                return
            if done != last:
                moved_s, last = time.monotonic(), done
            for process in self._processes:
                if not process.alive:
                    raise DemoError(f"{process.name} has ended; its log {process.log} ends with:\n{process.log_tail()}")
            if time.monotonic() - moved_s > STALLED_S:
                raise DemoError(
                    f"{stage}: {done:,} of {total:,} done, and nothing moved for {STALLED_S:.0f} s; see {self._logs}"
                )
            time.sleep(POLL_S)

    def _read_topics(self, report: DemoReport) -> None:
        scores: dict[str, _Trace] = {}
        seen: set[str] = set()
        published_ms: list[int] = []
        alerts: list[Alert] = []
        letters: Counter[RefusalCode] = Counter()
        foreign, topics = ForeignRecords(), self._topics
        read_scores = OutputValues(topics.scores, Score, foreign)
        read_alerts = OutputValues(topics.alerts, Alert, foreign)
        with TopicReader(self._kafka) as reader:
            total = reader.size([self._topics.scores])
            for partition in range(reader.partitions(self._topics.scores)):
                for record in reader.each(self._topics.scores, partition):
                    if report.scores_in_topic % SCORES_PER_REPORT == 0:
                        self._progress("read", report.scores_in_topic, total)
                    score = read_scores.one(record.value)
                    if score is None:
                        continue
                    published_ms.append(record.timestamp)
                    report.scores_in_topic += 1
                    if score.score_id not in seen:
                        seen.add(score.score_id)
                        scores.setdefault(score.user_id, _Trace()).add(score)
                alerts += [alert for alert, _ in read_alerts.of(reader.values(topics.alerts, partition))]
                refused = dead_letters(reader.each(topics.dead_letters, partition), topics.dead_letters, foreign)
                letters.update(letter.reason for letter in refused)
            # Not of `total`, which counts ends of transactions, too.
            self._progress("read", report.scores_in_topic, report.scores_in_topic)
        foreign.tell()
        report.dead_letters = letters.total()
        report.dead_letters_by_reason = dict(letters.most_common())
        report.events_scored = len(seen)
        if len(seen) > 1:
            report.events_per_second = len(seen) / max((max(published_ms) - min(published_ms)) / 1000, 0.001)
        report.users = len(scores)
        report.alerts_in_topic = len(alerts)
        _measure(
            report, self._dataset, Bundle.load(self._settings.bundle, self._settings.bundle_public_key), scores, alerts
        )


@dataclass
class _Trace:
    """A user's scores over time: milliseconds and probabilities."""

    occurred_ms: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)

    def add(self, score: Score) -> None:
        self.occurred_ms.append(round(score.occurred_at.timestamp() * 1000))
        self.score.append(score.score)


def _measure(
    report: DemoReport, dataset: Dataset, bundle: Bundle, traces: Mapping[str, _Trace], alerts: Sequence[Alert]
) -> None:
    """Compare scores and alerts with what truly happened."""
    outcomes = dataset.outcomes()
    labelled = {user_id: outcome for user_id, outcome in outcomes.items() if outcome.label is not None}
    if labelled:
        held_out = [user_id for user_id in labelled if user_id in traces and dataset.held_out(user_id)]
        report.auc_of = f"last score of each of {len(held_out):,} held-out clients against the label"
        report.auc = roc_auc(
            np.array([labelled[user_id].label == 1 for user_id in held_out], dtype=np.bool_),
            np.array([traces[user_id].score[-1] for user_id in held_out]),
        )
    else:
        horizon_days = bundle.horizons_days[bundle.headline]
        # Another portfolio than the training's is new as a whole; real clients may have been trained on.
        unseen = {u: t for u, t in traces.items() if dataset.name == "simulator" or dataset.held_out(u)}
        labels, scores = _at_risk(outcomes, unseen, horizon_days * DAY_MS)
        report.auc_of = f"{len(labels):,} scores of users at risk against default within {horizon_days} days"
        report.auc = roc_auc(labels, scores)
    if any(outcome.default_date_ms is not None for outcome in outcomes.values()) and not labelled:
        leads = lead_days(outcomes, traces, alerts)
        report.deteriorations = len(leads)
        caught = [lead for lead in leads.values() if lead is not None]
        report.deteriorations_caught = len(caught)
        report.median_lead_days = statistics.median(caught) if caught else None


def _at_risk(
    outcomes: Mapping[str, Outcome], traces: Mapping[str, _Trace], horizon_ms: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels and scores of every score before the user's default date whose horizon was observed in full."""
    labels: list[bool] = []
    scores: list[float] = []
    for user_id, trace in traces.items():
        outcome = outcomes[user_id]
        for at_ms, score in zip(trace.occurred_ms, trace.score, strict=True):
            until_default = None if outcome.default_date_ms is None else outcome.default_date_ms - at_ms
            if until_default is not None and 0 < until_default <= horizon_ms:
                labels.append(True)
            elif (until_default is None or until_default > 0) and at_ms + horizon_ms <= outcome.observation_end_ms:
                labels.append(False)
            else:
                continue
            scores.append(score)
    return np.array(labels, dtype=np.bool_), np.array(scores, dtype=np.float64)


def lead_days(
    outcomes: Mapping[str, Outcome], traces: Mapping[str, Any], alerts: Sequence[Alert]
) -> dict[str, float | None]:
    """Days from the first warning to the default date by user who defaulted; None for who was not warned.

    A warning is an alert that was open at some time in the `LONGEST_LEAD_DAYS` before the default date and had opened
    by then; the lead counts from its opening, at most that long.
    """
    opened: dict[str, dict[str, int]] = {}
    cleared: dict[str, int] = {}
    for alert in alerts:
        if alert.kind == "opened":
            opened.setdefault(alert.user_id, {})[alert.alert_id] = round(alert.opened_at.timestamp() * 1000)
        elif alert.kind == "cleared":
            cleared[alert.alert_id] = round(alert.occurred_at.timestamp() * 1000)
    leads: dict[str, float | None] = {}
    for user_id in traces:
        default_date_ms = outcomes[user_id].default_date_ms
        if default_date_ms is None:
            continue
        warned = [
            min((default_date_ms - opened_ms) / DAY_MS, float(LONGEST_LEAD_DAYS))
            for alert_id, opened_ms in opened.get(user_id, {}).items()
            if opened_ms < default_date_ms
            and cleared.get(alert_id, default_date_ms) >= default_date_ms - LONGEST_LEAD_DAYS * DAY_MS
        ]
        leads[user_id] = max(warned, default=None)
    return leads


class _Lag:
    """How far consumer groups have come, by the broker."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._admin = open_admin(kafka)
        self._consumer = open_consumer(kafka, enable_auto_commit=False)
        self._partitions: dict[str, list[TopicPartition]] = {}

    @classmethod
    @contextmanager
    def open(cls, kafka: KafkaConnection) -> Iterator[_Lag]:
        lag = cls(kafka)
        try:
            yield lag
        finally:
            lag._admin.close()
            lag._consumer.close()

    def _tps(self, topics: Sequence[str]) -> list[TopicPartition]:
        for topic in topics:
            if topic not in self._partitions:
                numbers = self._consumer.partitions_for_topic(topic) or ()
                self._partitions[topic] = [TopicPartition(topic, number) for number in sorted(numbers)]
        return [tp for topic in topics for tp in self._partitions[topic]]

    def size(self, topics: Sequence[str]) -> int:
        """Records ever added to the topics."""
        return int(sum(self._consumer.end_offsets(self._tps(topics)).values()))

    def committed(self, group: str, topics: Sequence[str]) -> int:
        """Records that the group has finished with."""
        try:
            offsets: Mapping[Any, Any] = self._admin.list_group_offsets({group: None})[group]
        except (KafkaError, KeyError):
            return 0  # the group has not formed yet
        wanted = set(topics)
        return sum(max(found.offset, 0) for tp, found in offsets.items() if tp.topic in wanted)
