"""One seeded run from its plan to the verdict: topics, workers, sinks, events, disturbances, and at last quiet."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench.arena import Arena
from bench.challenger import challenger_of
from bench.chaos.conductor import Conductor
from bench.chaos.crew import SHADOW, Crew, NewProcess
from bench.chaos.feed import Pace, feeding
from bench.chaos.oracle import Published, Verdict, judge, outputs_of
from bench.chaos.plan import Plan
from bench.chaos.progress import Followed, Progress
from bench.chaos.servers import Servers
from bench.chaos.succession import judge_succession
from bench.chaos.tables import wrong_rows
from bench.environment import commit
from stream.embedded.server import ServerProcess
from stream.settings import Settings
from stream.topics import shadow_application, sink_group

SETTLE_LIMIT_S = 180.0


@dataclass(frozen=True)
class Outcome:
    """A run's plan, what was done in it, and what came of it.

    `settled` is False when lag stayed; `lag` is what stayed then. `disturbances` counts faults by kind, and `kills`,
    `freezes` and `stops` of them; `ends` what processes ended of. `recovery_s` has, by kind, the seconds from a fault
    until all was committed that stood in the topics when it began. `unexplained` are the last words of processes that
    ended by themselves and did not say why. `phases_s` says what the `seconds` of the run went into, and `commit` which
    version of Foreshock it was.
    """

    plan: Plan
    disturbances: dict[str, int]
    ends: dict[str, int]
    recovery_s: dict[str, list[float]]
    settled: bool
    lag: dict[str, int]
    verdict: Verdict
    unexplained: list[str]
    largest_rss_mib: float
    phases_s: dict[str, float]
    seconds: float
    commit: str | None
    logs: str = ""

    @property
    def is_right(self) -> bool:
        return self.settled and self.verdict.is_right and not self.unexplained

    def as_report(self) -> dict[str, Any]:
        """JSON-ready figures; the logs only of a run that went wrong."""
        found = asdict(self) | {"right": self.is_right}
        if self.is_right:
            del found["logs"]
        return found


@cache
def _version() -> str | None:
    """Commit of the code that runs, asked for once: the checkout may change while many runs follow one another."""
    return commit(Path(__file__).parent)


class _Phases:
    """What time goes into, one phase after the other."""

    def __init__(self) -> None:
        self.begun_s = self._since_s = time.monotonic()
        self.spent_s: dict[str, float] = {}

    def end(self, name: str) -> None:
        """What was since the last end of a phase was this one."""
        before_s, self._since_s = self._since_s, time.monotonic()
        self.spent_s[name] = round(self._since_s - before_s, 1)


def run(
    servers: Servers,
    settings: Settings,
    plan: Plan,
    folder: Path,
    name: str,
    new_process: NewProcess = ServerProcess,
) -> Outcome:
    """Do one run on topics, and a database, of its own by the name given, which are deleted again.

    `new_process` is what workers, sinks and commands are made by. The run's files are left in `folder` only where it
    went wrong.
    """
    phases, version = _Phases(), _version()
    kafka = servers.kafka
    with ExitStack() as opened:
        arena = opened.enter_context(
            Arena(kafka, settings.model_copy(update=_of_settings(plan, settings)), name, folder)
        )
        database = opened.enter_context(servers.database(name)) if plan.sinks else None
        followed = {"workers": Followed(arena.settings.application_id, arena.topics.inputs)}
        applications = [arena.settings]
        if plan.shadows:
            applications.append(_shadow(arena))
            followed["shadows"] = Followed(applications[1].application_id, arena.topics.inputs)
        if database is not None:
            outputs = arena.topics.read_by_sink()
            followed["sinks"] = Followed(sink_group(arena.settings.application_id), outputs)
        with (
            Progress(kafka, followed) as progress,
            Crew(arena, plan, database, applications[-1].bundle, new_process) as crew,
        ):
            pace = Pace()
            with feeding(kafka, arena.settings, plan, pace) as done:
                phases.end("preparing")
                conductor = Conductor(plan, crew, servers, database, progress)
                conductor.begin()
                phases.end("starting")
                pace.begin.set()
                conductor.disturb(done, pace.finish)
            phases.end("disturbing")
            settled = progress.await_all(SETTLE_LIMIT_S, crew.revive)
            phases.end("settling")
            lag, logs = progress.lag(), crew.log_tails()
            crew.revive()
        phases.end("stopping")
        published = Published.read(kafka, arena.settings)
        if plan.shadows:
            verdict = judge_succession(kafka, applications).as_verdict()
        else:
            verdict = judge(published, arena.settings)
        if database is not None:
            wrong = wrong_rows(database, outputs_of(published, arena.topics))
            verdict = replace(verdict, wrong_table_rows=sum(wrong.values()))
            logs += "" if not verdict.wrong_table_rows else f"\nrows of the database that are wrong: {wrong}"
        phases.end("judging")
    phases.end("removing")
    outcome = Outcome(
        plan,
        conductor.done(),
        dict(crew.ends),
        progress.recovery_s,
        settled,
        {} if settled else lag,
        verdict,
        crew.unexplained,
        round(crew.largest_rss_mib, 1),
        phases.spent_s,
        round(time.monotonic() - phases.begun_s, 1),
        version,
        logs,
    )
    if outcome.is_right:
        shutil.rmtree(folder / name, ignore_errors=True)
    return outcome


def _shadow(arena: Arena) -> Settings:
    """Settings of the shadows: the same network under other thresholds, which makes it another model."""
    folder = challenger_of(arena.settings.bundle, arena.folder / "challenger")
    application_id = shadow_application(arena.settings.application_id, SHADOW)
    return arena.settings.model_copy(update={"application_id": application_id, "bundle": folder})


def _of_settings(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Those of the plan's settings that are settings of this process, too."""
    known = type(settings).model_fields
    return {name: value for name, value in plan.settings().items() if name in known}
