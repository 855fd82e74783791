"""A replay that reads an archive gives what one of the topics does, also where those have lost what it holds."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from events.types import Event, Profile
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.event_archive.reader import ArchiveReader
from stream.outputs import Score
from tests import forked

Deploy = Callable[..., Any]
WHOLE = ("--from", "2000-01-01", "--to", "2100-01-01")


class Archived(NamedTuple):
    """A deployment whose topics begin behind much of what its archives hold, and go on behind their end."""

    live: Any
    archives: tuple[Path, ...]
    database: DatabaseConnection | None = None

    @property
    def options(self) -> list[str]:
        return [word for folder in self.archives for word in ("--archive", str(folder))]


def arguments(found: Archived, *given: str) -> list[str]:
    takes_it = found.database is not None and given[0] == "replay" and given[1] != "plan"
    database = ("--database-url", found.database.url) if found.database is not None and takes_it else ()
    return [
        *given,
        "--bootstrap-servers", str(found.live.kafka),
        "--topic-prefix", found.live.topics.prefix,
        "--application-id", found.live.settings.application_id,
        *database,
    ]  # fmt: skip


def foreshock(found: Archived, *given: str) -> subprocess.CompletedProcess[str]:
    return forked.run(arguments(found, *given))


def planned(found: Archived, *given: str) -> dict[str, Any]:
    done = foreshock(found, "replay", "plan", "kept", *WHOLE, *given, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def live(deploy_shared: Deploy) -> Any:
    return deploy_shared(batch_max_records=200)


@pytest.fixture(scope="module")
def archives(live: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two folders, of which the second begins where the first ends, filled in the middle of what a worker has scored;
    then retention takes what stood before."""
    folders = tuple(tmp_path_factory.mktemp("kept") / name for name in ("first", "second"))
    events = list(open_dataset("simulator", users=40, months=6, seed=23).events())
    at = {len(events) // 4 // 500 * 500: folders[0], len(events) // 2 // 500 * 500: folders[1]}
    since: tuple[str, ...] = ()
    with live.running("worker") as worker:
        for start in range(0, len(events), 500):
            live.publish(events[start : start + 500])
            if start in at:
                live.wait_until_scored(worker)
                live.wait_until_scored(worker)
                done = foreshock(Archived(live, folders), "archive", "export", str(at[start]), *since)
                assert done.returncode == 0, done.stdout + done.stderr
                time.sleep(1.0)  # `--from` takes whole seconds
                since = ("--from", f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S}")
        live.wait_until_scored(worker)
        live.wait_until_scored(worker)
    with ArchiveReader(folders) as reader:
        for topic in (*live.topics.inputs, live.topics.order(live.settings.application_id)):
            least = min(reader.archived_span(topic, number)[1] for number in range(live.settings.partitions))
            if "profiles" not in topic and least > 3:  # below 0 would delete all
                live.delete_records(topic, least - 3)
    return folders


@pytest.fixture
def found(live: Any, archives: tuple[Path, ...], database: DatabaseConnection) -> Archived:
    migration.upgrade(database)
    return Archived(live, archives, database)


def values(live: Any, topic: str) -> Counter[bytes]:
    return Counter(record.value for record in live.records(topic))


def test_what_the_topics_have_lost_comes_from_the_archive(found: Archived, tmp_path: Path) -> None:
    """The replay is killed on the way, and goes on where it was."""
    live = found.live
    told = planned(found)
    assert set(told["lost"]) == set(live.topics.inputs) - {live.topics.of_kind("profiles")}
    with_archives = found.options
    told = planned(found, *with_archives)
    assert told["lost"] == {}
    assert 0 < told["archived_offsets"] < told["offsets"]

    asked = ("replay", "run", "kept", *WHOLE, *with_archives)
    topic = live.topics.replay_scores("kept")
    slow = subprocess.Popen(
        [sys.executable, "-m", "foreshock", *arguments(found, *asked, "--rate", "400")], stderr=subprocess.DEVNULL
    )
    try:
        live.wait(lambda: live.exists(topic) and live.size(topic) > 200, "some scores")
    finally:
        slow.kill()
        slow.wait()
    run = foreshock(found, *asked)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "going on with replay kept" in run.stdout
    report = tmp_path / "kept.json"
    diff = foreshock(found, "replay", "diff", "kept", "--report", str(report))
    assert diff.returncode == 0, diff.stdout + diff.stderr
    assert json.loads(report.read_text())["compared_scores"] == len(live.records(live.topics.scores))
    assert values(live, topic) == values(live, live.topics.scores)
    assert values(live, live.topics.replay_alerts("kept")) == values(live, live.topics.alerts)


def test_without_a_journal_the_archive_is_taken_by_event_time(found: Archived) -> None:
    """So all of the events are: their scores in another order, but as many."""
    nobody = found._replace(live=_Under(found.live, "nobody"))
    run = foreshock(nobody, "replay", "run", "timed", *WHOLE, *found.options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "there is no order journal nobody-order" in run.stderr
    live = found.live
    at = [_source(value) for value in values(live, live.topics.replay_scores("timed"))]
    assert sorted(at) == sorted(map(_source, values(live, live.topics.scores)))


def test_an_archive_that_does_not_fit_is_refused(found: Archived, tmp_path: Path) -> None:
    other = foreshock(found, "replay", "plan", "other", *WHOLE, "--archive", str(tmp_path))
    assert other.returncode == 1
    assert "is no archive" in other.stderr
    given = arguments(found, "replay", "plan", "other", *WHOLE, *found.options)
    given[given.index("--topic-prefix") + 1] = "other."
    prefixed = forked.run(given)
    assert prefixed.returncode == 1
    later = foreshock(found, "replay", "plan", "other", *WHOLE, *found.options[2:])
    assert later.returncode == 0, later.stdout + later.stderr
    assert "retention has taken what stood before" in later.stdout.replace("\n", " ")
    earlier = foreshock(found, "replay", "plan", "other", *WHOLE, *found.options[:2])
    assert earlier.returncode == 1
    assert "retention took them before they were exported" in earlier.stderr.replace("\n", " ")


def test_topics_made_anew_are_left_alone_and_the_archive_is_all_there_is(
    found: Archived, delete_topic: Callable[[str], None]
) -> None:
    """The last test of this deployment: as on another cluster, whose topics are empty."""
    live = found.live
    scores, alerts = values(live, live.topics.scores), values(live, live.topics.alerts)
    with ArchiveReader(found.archives) as reader:
        ends = {
            (topic, number): reader.archived_span(topic, number)[1]
            for topic in live.topics.inputs
            for number in range(live.settings.partitions)
        }
    for topic in (*live.topics.inputs, live.topics.order(live.settings.application_id)):
        delete_topic(topic)
    live.create_topics()
    run = foreshock(found, "replay", "run", "alone", *WHOLE, *found.options)
    assert run.returncode == 0, run.stdout + run.stderr
    again = values(live, live.topics.replay_scores("alone"))
    held = Counter({value: n for value, n in scores.items() if _source(value)[2] < ends[_source(value)[:2]]})
    assert again == held != scores
    assert not values(live, live.topics.replay_alerts("alone")) - alerts


@pytest.mark.slow
def test_profiles_that_were_compacted_come_from_the_archive(
    deploy: Deploy, database: DatabaseConnection, tmp_path: Path
) -> None:
    """By a real log cleaner. Without the archive, those users whose profiles it has left alone are scored as live."""
    migration.upgrade(database)
    live = deploy(batch_max_records=200, partitions=2)
    found = Archived(live, (tmp_path / "archive",), database)
    latest: dict[str, Profile] = {}
    events = [
        event
        for event in open_dataset("simulator", users=30, months=4, seed=25).events()
        if not isinstance(event, Profile) or latest.setdefault(event.user_id, event) is event
    ]
    changed = sorted(latest)[:10]

    def versions(number: int) -> list[Event]:
        return [
            msgspec.structs.replace(
                latest[user],
                event_id=f"{latest[user].event_id}-{number}",
                occurred_at=events[-1].occurred_at + dt.timedelta(days=number),
            )
            for user in changed
        ]

    profiles = live.topics.of_kind("profiles")
    with live.running("worker") as worker:
        for part in (events, versions(1)):
            live.publish(part)
            live.wait_until_scored(worker)
            live.wait_until_scored(worker)
        done = foreshock(found, "archive", "export", str(found.archives[0]))
        assert done.returncode == 0, done.stdout + done.stderr
        everything = len(live.records(profiles))
        live.configure(
            profiles,
            {
                "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
                "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1000",
            },
        )  # fmt: skip
        time.sleep(0.5)
        live.publish(versions(2))  # begins another segment: the last one is never cleaned
        live.wait_until_scored(worker)
        live.wait_until_scored(worker)
    live.wait(lambda: len(live.records(profiles)) < everything + len(changed), "the log cleaner", seconds=120)
    scores = values(live, live.topics.scores)

    kept = foreshock(found, "replay", "run", "kept", *WHOLE, *found.options)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert values(live, live.topics.replay_scores("kept")) == scores
    assert values(live, live.topics.replay_alerts("kept")) == values(live, live.topics.alerts)

    lost = foreshock(found, "replay", "run", "lost", *WHOLE)
    assert lost.returncode == 0, lost.stdout + lost.stderr
    replayed = values(live, live.topics.replay_scores("lost"))
    differing = {msgspec.json.decode(value, type=Score).user_id for value in (scores - replayed) + (replayed - scores)}
    assert differing
    assert differing <= set(changed)


def _source(value: bytes) -> tuple[str, int, int]:
    score = msgspec.json.decode(value, type=Score)
    return score.source_topic, score.source_partition, score.source_offset


class _Under:
    """A deployment under another application."""

    def __init__(self, live: Any, application_id: str) -> None:
        self.kafka, self.topics = live.kafka, live.topics
        self.settings = live.settings.model_copy(update={"application_id": application_id})
