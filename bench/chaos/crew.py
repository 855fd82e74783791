"""The workers and sinks of one run: started under orders, signalled, started again when they have ended.

Decides nothing: what happens to whom, and when, is the conductor's. Ends only processes that it started.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from aiokafka import errors
from msgspec import structs

from bench.arena import Arena
from bench.chaos.fault_points import ANNOUNCEMENT, Orders, command
from bench.chaos.plan import Plan
from stream.database.connection import DatabaseConnection
from stream.embedded.server import EmbeddedError, ServerProcess
from stream.topics import shadow_application

HANDED_OVER = "was handed over to"
ASKED_IN_VAIN = "`foreshock doctor` tells what is wrong"
SAID_WHY = ("state_dir:", "no Kafka broker answers", "the Kafka broker", HANDED_OVER, ASKED_IN_VAIN)
OWN_REASONS = ("Fenced", "BrokersUnreachable", "ArchiveError", "ProvisioningError")
"""A process that ended by itself has one of these in its log, or an error of Kafka's by name: any other end is a fault
of the program."""


SHADOW = "challenger"

NewProcess = Callable[[str, Sequence[str], Path], ServerProcess]
"""Makes a process, not yet started, of a name, a command and the file of its log."""


class Crew:
    """The processes of a run, by name: `worker-0`, …, `shadow-0`, …, `sink-0`, …. A context: leaving it stops them all.

    `challenger` is the bundle of the shadows, `new_process` what their processes are made by.
    """

    def __init__(
        self,
        arena: Arena,
        plan: Plan,
        database: DatabaseConnection | None,
        challenger: Path | None = None,
        new_process: NewProcess = ServerProcess,
    ) -> None:
        self._arena = arena
        self._plan = plan
        self._database = database
        self._new_process = new_process
        self._running = ExitStack()
        self._members: dict[str, ServerProcess] = {}
        self._ended_by_us: set[str] = set()
        self._started = 0
        self.workers = [f"worker-{number}" for number in range(plan.workers)]
        self.shadows = [f"shadow-{number}" for number in range(plan.shadows)]
        self._challenger = challenger
        self.shadow_leads = False
        """Whether the shadows have taken over, so that the workers are to follow them."""
        self.sinks = [f"sink-{number}" for number in range(plan.sinks)] if database is not None else []
        self._relieved: set[str] = set()
        """Who ended since all of its partitions were handed over, until the hand-over is done: started again as it was,
        it would end at once, again and again."""
        self.held: set[str] = set()
        """Who is not to be started again for now."""
        self.ends: Counter[str] = Counter()
        self.unexplained: list[str] = []
        """The last words of processes that ended by themselves and did not say why."""
        self.largest_rss_mib = 0.0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._members:  # or each would take over what the one before it gives up
            self.signal(name, signal.SIGTERM)
        self._running.close()

    def state_folder(self, name: str) -> Path:
        return self._arena.folder / f"state-{name}"

    def start(self, name: str, orders: Orders | None = None) -> None:
        """Start a member that is not running, under `orders`."""
        self._started += 1
        orders = orders or Orders()
        orders = structs.replace(orders, settings=self._settings(name) | orders.settings)
        log = self._arena.folder / f"{self._started:03}-{name}.log"
        process = self._new_process(name, command(orders, *self._words(name)), log)
        process.start()
        self._running.callback(process.stop)
        self._members[name] = process

    def _words(self, name: str) -> list[str]:
        """The command of a member."""
        kind = name.partition("-")[0]
        if kind == "shadow":
            return ["shadow", "run", SHADOW]
        if kind == "worker" and self.shadow_leads:
            return ["worker", "--follow", shadow_application(self._arena.settings.application_id, SHADOW)]
        return [kind]

    def hand_over(self, orders: Orders, *, back: bool) -> ServerProcess:
        """Start the command that lets the shadows take over, or the workers again."""
        self._started += 1
        name = "rollback" if back else "promote"
        orders = structs.replace(orders, settings=self._settings("worker-0"))
        log = self._arena.folder / f"{self._started:03}-{name}.log"
        process = self._new_process(name, command(orders, "replay", name, SHADOW), log)
        process.start()
        self._running.callback(process.stop)
        return process

    def handed_over(self, *, back: bool) -> None:
        """A hand-over is done: who led before follows from now on. As the command says, those are to be stopped: they
        end by themselves at their next event only, and where none comes, they would never follow."""
        self.shadow_leads = not back
        for name in self.shadows if back else self.workers:
            self.stop(name)
        self._relieved.clear()

    @staticmethod
    def kill_command(process: ServerProcess) -> bool:
        """SIGKILL, and wait for the end. Whether it was still running."""
        with suppress(ProcessLookupError, EmbeddedError):
            os.kill(process.identity.pid, signal.SIGKILL)
            process.stop()
            return True
        return False

    @property
    def scorers(self) -> list[str]:
        """Workers of either model."""
        return [*self.workers, *self.shadows]

    def revive(self) -> None:
        """Start every member that is not running and not held."""
        for name in (*self.scorers, *self.sinks):
            self.note_end(name)
            if name not in self._members and name not in self.held | self._relieved:
                self.start(name)
        self._sample_memory()

    def note_end(self, name: str) -> None:
        """Take note of a member that has ended, and of why."""
        process = self._members.get(name)
        if process is None or process.alive:
            return
        del self._members[name]
        process.stop()  # collects its launcher
        text = process.log_text()
        if HANDED_OVER in text:
            self._relieved.add(name)
        self.ends.update(re.findall(rf"{ANNOUNCEMENT} (.+)", text))
        if name in self._ended_by_us:
            self._ended_by_us.discard(name)
        elif f"{ANNOUNCEMENT} ends" not in text:
            said = re.search(r" stops: (\w+)", text)
            reason = said[1] if said else "by itself"
            self.ends[reason] += 1
            explained = reason in OWN_REASONS or hasattr(errors, reason) or any(words in text for words in SAID_WHY)
            if not explained:
                self.unexplained.append(f"{name}: {process.log_tail(40)}")

    def is_alive(self, name: str) -> bool:
        return name in self._members and self._members[name].alive

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Whether the member was there to get it."""
        if name not in self._members:
            return False
        if number == signal.SIGKILL:
            self._ended_by_us.add(name)
        try:
            os.kill(self._members[name].identity.pid, number)
        except (ProcessLookupError, EmbeddedError):  # it had ended by itself
            self._ended_by_us.discard(name)
            return False
        return True

    def kill(self, name: str) -> bool:
        """SIGKILL, and wait for the end. Whether the member was there."""
        if not self.signal(name, signal.SIGKILL):
            return False
        self._members[name].stop()
        self.note_end(name)
        return True

    def stop(self, name: str) -> bool:
        """SIGTERM, and wait for the end. Whether the member was there."""
        if not self.is_alive(name):
            return False
        self._ended_by_us.add(name)
        self._members[name].stop()
        self.note_end(name)
        return True

    def await_words(self, name: str, words: str, limit_s: float) -> bool:
        """Whether a member's log has `words`, now or within `limit_s`."""
        deadline_s = time.monotonic() + limit_s
        while self.is_alive(name) and time.monotonic() < deadline_s:
            if words in self._members[name].log_text():
                return True
            time.sleep(0.1)
        return False

    def limit_files(self, name: str, max_bytes: int) -> bool:
        """Let no file that the member writes grow beyond this, as on a disk that is full; -1 lifts the limit."""
        with suppress(psutil.NoSuchProcess, EmbeddedError, KeyError):
            psutil.Process(self._members[name].identity.pid).rlimit(psutil.RLIMIT_FSIZE, (max_bytes, -1))
            return True
        return False

    def log_tails(self) -> str:
        """The ends of the logs of the members that were started last."""
        return "\n".join(f"{name}:\n{process.log_tail()}" for name, process in sorted(self._members.items()))

    def _settings(self, name: str) -> dict[str, str]:
        arena, settings = self._arena, self._arena.settings
        given = {
            **self._plan.settings(),
            "bootstrap_servers": arena.kafka.bootstrap_servers,
            "topic_prefix": settings.topic_prefix,
            "application_id": settings.application_id,
            "partitions": settings.partitions,
            "bundle": settings.bundle.resolve(),
        }
        if name in self.sinks and self._database is not None:
            given["database_url"] = self._database.url
        if name in self.shadows and self._challenger is not None:
            given["bundle"] = self._challenger.resolve()
        if name in self.scorers and self._plan.on_disk:
            given |= {"state_dir": self.state_folder(name), "resident_users": self._plan.resident_users}
        return {setting: str(value) for setting, value in given.items()}

    def _sample_memory(self) -> None:
        for name, process in self._members.items():
            if name in self.scorers:
                with suppress(psutil.NoSuchProcess, EmbeddedError):
                    rss_mib = psutil.Process(process.identity.pid).memory_info().rss / 2**20
                    self.largest_rss_mib = max(self.largest_rss_mib, rss_mib)
