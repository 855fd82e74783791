"""How fast the past is scored again, beside a live worker, from topics and from an archive; and what keeping it costs.

On one backlog, one after the other: a live worker, a replay of what it has scored, an export of it to an archive, the
archive checked, read, replayed and imported again. So all figures of a round are of the same events and machine.
Memory is looked at over a part of the events, too, of the same users: it is not to grow with the length of the past.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from bench.arena import Arena, BenchError, Lap
from bench.options import Bench
from bench.replay_memory import Task, Work, peak_mib
from bench.workload import Workload
from stream.embedded.server import ServerProcess
from stream.event_archive.archive import Archive, Description
from stream.event_archive.check import check
from stream.event_archive.export import ExportRange, export
from stream.event_archive.publishing import import_records, target_of
from stream.event_archive.reader import ArchiveReader
from stream.kafka.provisioning import create_topics
from stream.kafka.topic_reader import TopicReader
from stream.kafka.topic_sizes import holdings
from stream.replay.estimate import calibrate
from stream.replay.plan import plan_replay
from stream.replay.range import ReplayRange
from stream.replay.run import Assignment, prepare_topics

LIMIT_S = 600.0
MEMORY_PART = 5
"""Memory is looked at over the first so many parts of the events, and over all."""
WHOLE = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def measure(bench: Bench) -> dict[str, Any]:
    """Medians over the rounds, and the figures of each; rates are per second. `greatest_rss_mib` has, by number of
    events, the most memory of a replay's worker, of its plan and of its comparison."""
    workload = bench.workload()
    part = Workload(workload.users, workload.records[: len(workload) // MEMORY_PART])
    memory = {str(len(part)): _memory_of_part(bench, part)}
    whole = memory[str(len(workload))] = {}
    rounds = [_round(bench, number, workload, whole) for number in range(1, bench.rounds + 1)]
    medians = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    sizes = {"events": len(workload), "users": workload.users}
    return {**sizes, **medians, "greatest_rss_mib": memory, "rounds": rounds}


def _memory_of_part(bench: Bench, part: Workload) -> dict[str, float]:
    with bench.arena("replay-part") as arena:
        bench.tell(f"memory over {len(part):,} events")
        arena.race(arena.worker(), arena.topics.scores, arena.publish(part), LIMIT_S)
        return _memory(arena, _replay(arena, "topics"))


def _memory(arena: Arena, replayed: Lap) -> dict[str, float]:
    """Of a replay that was run."""

    def peak(work: Work) -> float:
        names = arena.settings.topic_prefix, arena.settings.application_id
        task = Task(work, ReplayRange("topics", *WHOLE), arena.kafka.bootstrap_servers, *names)
        return peak_mib(task, arena.folder)

    return {"worker": replayed.rss_mib, "plan": peak("plan"), "diff": peak("diff")}


def _round(bench: Bench, number: int, workload: Workload, memory: dict[str, float]) -> dict[str, float]:
    """Figures of a round; `memory` gets those of the first one."""
    with bench.arena(f"replay{number}") as arena:

        def tell(what: str) -> None:
            bench.tell(f"round {number} of {bench.rounds}: {what}")

        tell("a live worker")
        published = arena.publish(workload)
        live = arena.race(arena.worker(), arena.topics.scores, published, LIMIT_S)
        with TopicReader(arena.kafka) as reader:
            calibration = calibrate(reader, arena.settings, bench.bundle, arena.settings.partitions)
        tell("a replay of the topics")
        replayed = _replay(arena, "topics")
        if not memory:
            tell("memory")
            memory.update(_memory(arena, replayed))
        rates = _of_archive(arena, tell)
        tell("a replay of the archive")
        from_archive = _replay(arena, "archive", _folder(arena))
        journal = arena.topics.order(arena.settings.application_id)
        held = holdings(arena.kafka, [journal, *arena.topics.inputs], time.time_ns() // 1_000_000).topics
        events = sum(held[topic].records for topic in arena.topics.inputs)
        if calibration is None:
            raise BenchError("there are too few events; give --events more")
        rest_s = calibration.events / replayed.events_per_second - calibration.seconds
        return {
            "live_events": live.events_per_second,
            "replayed_events": replayed.events_per_second,
            "events_replayed_from_archive": from_archive.events_per_second,
            "replay_to_live": replayed.events_per_second / live.events_per_second,
            "expected_to_replayed": calibration.events_per_s / replayed.events_per_second,
            "rest_to_intake": rest_s / calibration.intake_s,
            "journal_bytes_per_event": (held[journal].size_bytes or 0) / events,
            "topic_bytes_per_record": sum(held[topic].size_bytes or 0 for topic in arena.topics.inputs) / events,
            **rates,
        }


def _folder(arena: Arena) -> Path:
    return arena.folder / "archive"


def _replay(arena: Arena, name: str, *archives: Path) -> Lap:
    """A worker of a replay of everything, without a database to record it in."""
    plan = plan_replay(arena.kafka, arena.settings, ReplayRange(name, *WHOLE), archives=archives)
    prepare_topics(arena.kafka, arena.settings, plan, overwrite=False, go_on=False)
    told, counts = arena.folder / f"{name}.json", arena.folder / f"{name}-counts"
    told.write_bytes(msgspec.json.encode(Assignment.of(plan, None, arena.settings.application_id)))
    counts.mkdir()
    options = {
        "--bootstrap-servers": arena.kafka.bootstrap_servers,
        "--topic-prefix": arena.settings.topic_prefix,
        "--application-id": arena.settings.application_id,
        "--bundle": str(arena.settings.bundle.resolve()),
    }
    command = [sys.executable, "-m", "foreshock", "replay", "work", str(told), str(counts)]
    command += [word for option in options.items() for word in option]
    with TopicReader(arena.kafka) as reader:
        scores = sum(1 for number in range(plan.partitions) for _ in reader.each(arena.topics.scores, number))
    worker = ServerProcess(f"replay-{name}", command, arena.folder / f"replay-{name}.log")
    return arena.race(worker, arena.topics.replay_scores(name), scores, LIMIT_S)


def _of_archive(arena: Arena, tell: Callable[[str], None]) -> dict[str, float]:
    """Records per second of what an archive is for, and its bytes per record."""
    kafka, settings = arena.kafka, arena.settings
    topics = (*settings.topics.inputs, settings.topics.order(settings.application_id))
    tell("export, check and read")
    archive = Archive.make(_folder(arena), Description(settings.topic_prefix, settings.application_id))
    with archive.locked():
        exported_s, reports = _timed(export(kafka, archive, topics, ExportRange()))
    records = sum(report.records for report in reports)
    checked_s, _ = _timed(check(archive))
    read_s = _read_s(ArchiveReader(archive.folder), topics, settings.partitions)
    topics_s = _read_s(TopicReader(kafka), topics, settings.partitions)
    tell("import")
    again = settings.model_copy(
        update={"topic_prefix": f"{settings.topic_prefix}again.", "application_id": f"{settings.application_id}-again"}
    )
    create_topics(kafka, again)
    names = {
        topic: target_of(topic, archive.description, again.topics, again.application_id)
        for topic in settings.topics.inputs
    }
    imported_s, imported = _timed(import_records(kafka, archive, names, time.time_ns() // 1_000_000))
    compared_s, _ = _timed(import_records(kafka, archive, names, time.time_ns() // 1_000_000))
    published = sum(report.published for report in imported)
    return {
        "exported_records": records / exported_s,
        "checked_records": records / checked_s,
        "records_read_from_archive": records / read_s,
        "records_read_from_topics": records / topics_s,
        "imported_records": published / imported_s,
        "compared_records": published / compared_s,
        "archive_bytes_per_record": sum(report.size_bytes for report in reports) / records,
    }


def _timed(work: Iterable[Any]) -> tuple[float, list[Any]]:
    begun_s = time.perf_counter()
    found = list(work)
    return time.perf_counter() - begun_s, found


def _read_s(opened: ArchiveReader | TopicReader, topics: Iterable[str], partitions: int) -> float:
    """Seconds to read all records."""
    begun_s = time.perf_counter()
    with opened as reader:
        for topic in topics:
            for partition in range(partitions):
                for _ in reader.each(topic, partition):
                    pass
    return time.perf_counter() - begun_s
