"""Events per second of every contender on the same events, in alternation.

Each round has topics of its own with the same events. In each round the worker runs last, because its watchdog adds
missed instalments to the input topics, and no other contender must read those.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.arena import Arena, BenchError, Lap, launch, spread
from bench.contenders.task import Task
from bench.options import Bench
from bench.window import write_network
from bench.workload import Workload
from stream.embedded.server import ServerProcess

NEEDS_PEERS = "its environment is missing; `foreshock bench peers` makes it"
NEEDS_ONNX = "onnx, which writes its network, is not installed: pip install -c constraints.txt '.[bench]'"

Name = Literal["foreshock", "limit", "idiomatic_faust", "quix_window", "quix_step", "bytewax_step", "recompute"]


@dataclass(frozen=True)
class Contender:
    """One implementation. `module` runs under the peers' Python where `peer` is set."""

    name: Name
    title: str
    description: str
    module: str
    variant: str | None = None
    peer: bool = False
    windowed: bool = False


CONTENDERS = (
    Contender(
        "limit",
        "limit",
        "aiokafka, decode, one JSON score per event in whole record batches; no state, model or commits",
        "bench.contenders.limit",
    ),
    Contender(
        "idiomatic_faust",
        "idiomatic Faust",
        "agent per event, table of the last 60 events through an LSTM, a send per score",
        "bench.contenders.faust_window",
        windowed=True,
    ),
    Contender(
        "quix_window",
        "Quix Streams, window",
        "stateful function per event, the last 60 events through the same LSTM",
        "bench.contenders.quix",
        variant="window",
        peer=True,
        windowed=True,
    ),
    Contender(
        "quix_step",
        "Quix Streams, our step",
        "stateful function per event with Foreshock's own step model and its state as bytes",
        "bench.contenders.quix",
        variant="step",
        peer=True,
    ),
    Contender(
        "bytewax_step",
        "Bytewax, our step",
        "stateful map per event with Foreshock's own step model; snapshots, no changelog",
        "bench.contenders.bytewax_step",
        peer=True,
    ),
    Contender(
        "recompute",
        "full history, batched",
        "Foreshock's model over each user's whole history for every event, in batches; no state kept, no commits",
        "bench.contenders.recompute",
    ),
)
WORKER = Contender("foreshock", "foreshock", "the worker as shipped, everything on", "foreshock")


def measure(bench: Bench) -> dict[str, Any]:
    """Figures by contender; see `docs/performance.md`."""
    workload = bench.workload()
    network = bench.folder / "window.onnx"
    skipped = _skipped(bench, network)
    laps: dict[Name, list[Lap]] = {contender.name: [] for contender in (*CONTENDERS, WORKER)}
    for number in range(1, bench.rounds + 1):
        with bench.arena(f"round{number}") as arena:
            bench.tell(f"round {number} of {bench.rounds}: publishing {len(workload):,} events")
            published = arena.publish(workload)
            for contender in CONTENDERS:
                if contender.name in skipped:
                    continue
                bench.tell(f"round {number} of {bench.rounds}: {contender.title}")
                try:
                    lap = _lap(bench, arena, contender, network, published)
                except BenchError as error:
                    skipped[contender.name] = str(error)
                    continue
                laps[contender.name].append(lap)
            bench.tell(f"round {number} of {bench.rounds}: foreshock")
            # It is never cut short: half a run would leave its state and figures half warm.
            worker_limit_s = max(bench.seconds, 60.0)
            laps["foreshock"].append(arena.race(arena.worker(), arena.topics.scores, published, worker_limit_s))
    return _figures(workload, laps, skipped)


def _skipped(bench: Bench, network: Path) -> dict[Name, str]:
    """Contenders that cannot run here, and why."""
    skipped: dict[Name, str] = {}
    try:
        write_network(network)
    except ImportError:
        skipped |= {contender.name: NEEDS_ONNX for contender in CONTENDERS if contender.windowed}
    if bench.peers_python is None:
        skipped |= {contender.name: NEEDS_PEERS for contender in CONTENDERS if contender.peer}
    return skipped


def _lap(bench: Bench, arena: Arena, contender: Contender, network: Path, published: int) -> Lap:
    folder = arena.folder / contender.name
    folder.mkdir()
    task = Task(
        bootstrap_servers=arena.kafka.bootstrap_servers,
        inputs=list(arena.topics.inputs),
        output=arena.output(contender.name),
        partitions=arena.settings.partitions,
        group=f"{arena.name}-{contender.name.replace('_', '-')}",
        bundle=str(arena.settings.bundle.resolve()),
        window_model=str(network) if contender.windowed else None,
        folder=str(folder),
    )
    if contender.name == "idiomatic_faust":
        arena.changelog(f"{task.group}-windows-changelog")
    python = str(bench.peers_python) if contender.peer else sys.executable
    variant = [] if contender.variant is None else [contender.variant]
    command = launch(python, contender.module, *variant, msgspec.json.encode(task).decode())
    # What is measured has been published when a contender is stopped: there is nothing to wait for.
    process = ServerProcess(contender.name, command, arena.folder / f"{contender.name}.log", grace_s=2.0)
    return arena.race(process, task.output, published, bench.seconds)


def _figures(workload: Workload, laps: dict[Name, list[Lap]], skipped: dict[Name, str]) -> dict[str, Any]:
    def ratio_to(name: Name) -> float | None:
        pairs = zip(laps["foreshock"], laps[name], strict=False)
        ratios = [ours.events_per_second / theirs.events_per_second for ours, theirs in pairs]
        return statistics.median(ratios) if ratios else None

    contenders = {
        contender.name: {
            "title": contender.title,
            "description": contender.description,
            **_summary(laps[contender.name], skipped.get(contender.name)),
        }
        for contender in (WORKER, *CONTENDERS)
    }
    return {
        "events": len(workload),
        "users": workload.users,
        "events_per_second": statistics.median(lap.events_per_second for lap in laps["foreshock"]),
        **{f"ratio_to_{contender.name}": ratio_to(contender.name) for contender in CONTENDERS},
        "contenders": contenders,
    }


def _summary(laps: list[Lap], skipped: str | None) -> dict[str, Any]:
    if not laps:
        return {"skipped": skipped}

    def median_of(value: Callable[[Lap], float | None]) -> float | None:
        values = [found for lap in laps if (found := value(lap)) is not None]
        return statistics.median(values) if values else None

    return {
        "events_per_second": spread([lap.events_per_second for lap in laps]),
        "cpu_seconds_per_million_events": median_of(lambda lap: lap.cpu_s_per_million),
        "rss_mib": median_of(lambda lap: lap.rss_mib),
        "events_in_each_round": [lap.records for lap in laps],
        "scored_everything": all(lap.complete for lap in laps),
    }
