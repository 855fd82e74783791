"""Disturbs a run: one fault after the other, of the kinds that the plan names, while events arrive.

How processes are started and signalled is `crew`'s, what can happen to servers `servers`'. Everybody who is gone is
started again.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from bench.arena import BenchError
from bench.chaos.crew import Crew
from bench.chaos.fault_points import HAND_OVER_STEPS, LOST, NOT_SENT, STEPS, Orders
from bench.chaos.plan import ALWAYS, COSTLY, FAULTS, SHORT_TRANSACTION_S, Plan
from bench.chaos.progress import Progress
from bench.chaos.servers import Servers
from stream.database.connection import DatabaseConnection

MOST_COSTLY = 2
SELDOM_FROZEN_S = 8.0
"""A broker that is frozen for longer is so once in a run."""

LEAST_USUAL = 4
"""So many of the faults that all runs have come at least, beside one of each."""

DISTURBED_SHARE = 0.5
"""Share of the faults that are of the kinds which a seed drew, rather than of those that all have."""

TIMES = {"fencing": 2, "recovery": 2, "archive": 4, "drain": 1}
"""Most times that a step comes before a worker ends at it; of others, `USUAL_TIMES`."""

USUAL_TIMES = 6
WAIT_FOR_STEP_S = 12.0
HAND_OVER_LIMIT_S = 240.0
AT_WORK, WAIT_FOR_WORK_S = "rows were read from the changelog", 20.0
"""What a worker says when it has its partitions, and how long that may take."""

FILE_LIMIT_BYTES = 12 * 1024
DAMAGED_BYTES = 16
DAY_S = 86_400.0
JUMPS_S = (-2_000 * DAY_S, -DAY_S, -600.0, -5.0, 5.0, 600.0, DAY_S, 2_000 * DAY_S)


class Conductor:
    """What happens in one run. `counts` says how often each kind of fault came, and `kills` and `freezes` of them."""

    def __init__(
        self, plan: Plan, crew: Crew, servers: Servers, database: DatabaseConnection | None, progress: Progress
    ) -> None:
        self._plan = plan
        self._crew = crew
        self._servers = servers
        self._database = database
        self._progress = progress
        self._chance = random.Random(plan.seed + 1)
        self._costly = 0
        self.counts: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], None]] = {kind: getattr(self, f"_{kind}") for kind in plan.disturbances}

    def begin(self) -> None:
        """Start everybody, and wait until the workers are at work: what comes before says little."""
        self._crew.revive()
        for name in self._crew.scorers:
            self._crew.await_words(name, AT_WORK, WAIT_FOR_WORK_S)

    def disturb(self, done: threading.Event, through: threading.Event) -> None:
        """Let one fault come after the other until `done` is set, and each kind once at least, and some of the usual;
        then set `through`."""
        waiting = [*self._plan.disturbances, *(self._usual() for _ in range(LEAST_USUAL if self._are_usual else 0))]
        if "hand_over" in self._kinds:
            waiting.append("hand_over")  # and back
        self._chance.shuffle(waiting)
        while waiting or not done.is_set():
            pause_s = self._chance.uniform(*self._plan.pause_s)
            if not waiting:
                through.set()
            if waiting:
                time.sleep(pause_s)
            elif done.wait(pause_s):
                break
            self._crew.revive()
            kind = waiting.pop() if waiting else self._draw()
            if kind is None:
                continue
            self._costly += kind in COSTLY
            self.counts[kind] += 1
            self._mark(kind)
            self._kinds[kind]()

    def _mark(self, kind: str) -> None:
        """From here on it counts how long the fault keeps events from being committed."""
        self._progress.mark(kind, "sinks" if FAULTS[kind].needs == "database" else "workers")

    def done(self) -> dict[str, int]:
        """`counts`, with what a worker was told to do at some step only where it came to that."""
        ends = self._crew.ends
        at_steps = sum(number for what, number in ends.items() if what.startswith("ends at"))
        sending = sum(ends[what] for what in (NOT_SENT, LOST))
        came = {"commit_step": at_steps, "send_fails": sending}
        counts = {**self.counts, "kills": self.counts["kills"] + at_steps}
        return counts | {kind: number for kind, number in came.items() if kind in self._kinds}

    def _draw(self) -> str | None:
        """The next kind of fault; None where there is none that may come again."""
        others = [kind for kind in self._kinds if kind not in ALWAYS and self._may_come(kind)]
        if others and (not self._are_usual or self._chance.random() < DISTURBED_SHARE):
            return self._chance.choice(others)
        return self._usual() if self._are_usual else None

    @property
    def _are_usual(self) -> bool:
        return any(kind in self._kinds for kind in ALWAYS)

    def _usual(self) -> str:
        """One of those that all runs have, as far as the plan has them."""
        weights = {"freeze": self._plan.freeze_share, "stop": self._plan.stop_share}
        weights["kill"] = 1 - sum(weights.values())
        usual = [kind for kind in ALWAYS if kind in self._kinds]
        return self._chance.choices(usual, [weights[kind] for kind in usual])[0]

    def _may_come(self, kind: str) -> bool:
        if kind == "broker_frozen" and self._plan.freezes_broker_s > SELDOM_FROZEN_S and self.counts[kind]:
            return False
        return kind not in COSTLY or self._costly < MOST_COSTLY

    def _some_worker(self) -> str:
        return self._chance.choice(self._crew.scorers)

    def _killed(self, name: str) -> None:
        self.counts["kills"] += self._crew.kill(name)

    def _succeeded(self, name: str) -> None:
        """A worker ends in one way or another, and its place is free."""
        if self._chance.random() < 0.5:
            self._killed(name)
        else:
            self.counts["stops"] += self._crew.stop(name)

    def _freeze_for(self, name: str, seconds: float) -> None:
        """Silent for so long, then back as if nothing had been."""
        if self._crew.signal(name, signal.SIGSTOP):
            self.counts["freezes"] += 1
            try:
                time.sleep(seconds)
            finally:
                self._crew.signal(name, signal.SIGCONT)

    def _past_session_s(self) -> float:
        return self._plan.session_timeout_s + self._chance.uniform(0.3, 2.0)

    # Workers.

    def _kill(self) -> None:
        self._killed(self._some_worker())

    def _freeze(self) -> None:
        self._freeze_for(self._some_worker(), self._past_session_s())

    def _stop(self) -> None:
        self.counts["stops"] += self._crew.stop(self._some_worker())

    def _rolling_restart(self) -> None:
        """As for a release: the next worker is stopped when the one before it is at work again."""
        for name in self._crew.scorers:
            self.counts["stops"] += self._crew.stop(name)
            self._crew.revive()
            self._crew.await_words(name, AT_WORK, WAIT_FOR_WORK_S)

    def _commit_step(self) -> None:
        """Put a worker in place of another that ends at some step, and wait for its end, if it comes."""
        step = self._chance.choice(list(STEPS))
        self._replace(Orders(dies_at=(step, self._chance.randint(1, TIMES.get(step, USUAL_TIMES)))), step == "drain")

    def _send_fails(self) -> None:
        times = self._chance.randint(2, 12)
        lost = self._chance.random() < 0.5
        self._replace(Orders(unanswered=times) if lost else Orders(sends_in_vain=times))

    def _replace(self, orders: Orders, told_to_stop: bool = False) -> None:
        """A worker's successor has `orders` at which it ends, now or later in the run."""
        name = self._some_worker()
        self._succeeded(name)
        self._crew.start(name, orders)
        now_s = time.monotonic()
        stop_s = now_s + self._chance.uniform(4.0, 7.0)
        while self._crew.is_alive(name) and time.monotonic() < now_s + WAIT_FOR_STEP_S:
            time.sleep(0.1)
            if told_to_stop and time.monotonic() > stop_s:
                self._crew.stop(name)
        self._crew.note_end(name)

    def _transaction_timeout(self) -> None:
        """The broker ends a frozen worker's transactions while the worker's session lasts."""
        name = self._some_worker()
        self.counts["stops"] += self._crew.stop(name)
        self._crew.start(name, Orders(transaction_timeout_ms=round(SHORT_TRANSACTION_S * 1000)))
        self._crew.await_words(name, AT_WORK, WAIT_FOR_WORK_S)
        time.sleep(self._chance.uniform(0.5, 2.0))
        self._mark("transaction_timeout")
        self._freeze_for(name, SHORT_TRANSACTION_S + self._chance.uniform(0.7, 2.0))

    def _clock_jump(self) -> None:
        name = self._some_worker()
        self._succeeded(name)
        jumps = sorted(
            (self._chance.uniform(0.0, 10.0), self._chance.choice(JUMPS_S)) for _ in range(self._chance.randint(1, 3))
        )
        self._crew.start(name, Orders(jumps=jumps))

    def _hand_over(self) -> None:
        """The shadows take over, or the workers again. The command ends at a step, or it or somebody is killed
        meanwhile; then it is started again, until it is done."""
        back, deadline_s = self._crew.shadow_leads, time.monotonic() + HAND_OVER_LIMIT_S
        disturbs, said = self._chance.choice([0, 1, 1, 2]), ""
        while time.monotonic() < deadline_s:
            self._crew.revive()
            at_step = disturbs > 0 and self._chance.random() < 0.5
            step = (self._chance.choice(list(HAND_OVER_STEPS)), self._chance.randint(1, 3)) if at_step else None
            command = self._crew.hand_over(Orders(dies_at=step), back=back)
            if disturbs > 0 and not at_step:
                time.sleep(self._chance.uniform(0.0, 4.0))
                if self._chance.random() < 0.5:
                    self.counts["kills"] += self._crew.kill_command(command)
                else:
                    self._killed(self._some_worker())
            disturbs -= 1
            while command.alive and time.monotonic() < deadline_s:
                self._crew.revive()
                time.sleep(0.3)
            if "lead in all" in command.log_text() or "leads in all" in command.log_text():
                self._crew.handed_over(back=back)
                return
            said = command.log_tail(25) or said
        raise BenchError(f"no hand-over within {HAND_OVER_LIMIT_S:.0f} s; its last words:\n{said}")

    # Their disks.

    def _state_damaged(self) -> None:
        name = self._some_worker()
        self._killed(name)
        files = [path for path in self._crew.state_folder(name).rglob("*") if path.is_file() and path.stat().st_size]
        for path in self._chance.sample(sorted(files), min(len(files), self._chance.randint(1, 4))):
            content = bytearray(path.read_bytes())
            if self._chance.random() < 0.3:
                del content[self._chance.randrange(len(content)) :]
            for _ in range(DAMAGED_BYTES if content else 0):
                content[self._chance.randrange(len(content))] ^= self._chance.randint(1, 255)
            path.write_bytes(content)

    def _state_full(self) -> None:
        """A worker cannot write what it holds, in the midst of its work or when it is stopped."""
        name = self._some_worker()
        if self._crew.limit_files(name, FILE_LIMIT_BYTES):
            time.sleep(self._chance.uniform(2.0, 6.0))
            if self._chance.random() < 0.7:
                self.counts["stops"] += self._crew.stop(name)
            self._crew.limit_files(name, -1)

    def _state_unwritable(self) -> None:
        """A file is where the folder should be; the worker is started again and again meanwhile."""
        name = self._some_worker()
        self._killed(name)
        folder = self._crew.state_folder(name)
        aside = folder.with_suffix(".aside")
        if folder.exists():
            folder.rename(aside)
        folder.write_text("no folder\n")
        until_s = time.monotonic() + self._chance.uniform(4.0, 8.0)
        while time.monotonic() < until_s:
            self._crew.revive()
            time.sleep(0.5)
        self._crew.stop(name)
        folder.unlink()
        if aside.exists():
            aside.rename(folder)

    # The broker.

    def _broker_killed(self) -> None:
        self.counts["kills"] += 1
        self._servers.kill_broker(self._chance, away_s=self._chance.choice([0.0, 0.0, 3.0]))

    def _broker_torn_log(self) -> None:
        self.counts["kills"] += 1
        self._servers.kill_broker(self._chance, torn=f"chaos-{self._plan.seed}")

    def _broker_frozen(self) -> None:
        self.counts["freezes"] += 1
        self._servers.freeze_broker(self._plan.freezes_broker_s)

    def _broker_restarted(self) -> None:
        self._servers.restart_broker()

    # Sinks and their database.

    def _sink_killed(self) -> None:
        self._killed(self._chance.choice(self._crew.sinks))

    def _sink_frozen(self) -> None:
        self._freeze_for(self._chance.choice(self._crew.sinks), self._past_session_s())

    def _database_killed(self) -> None:
        self.counts["kills"] += 1
        self._servers.kill_database(self._chance.choice([0.0, 2.0]))

    def _database_slow(self) -> None:
        self._servers.lock_table(self._own_database(), self._chance.uniform(1.0, 6.0))

    def _database_full(self) -> None:
        self._servers.fill_disk(self._own_database(), self._chance.uniform(1.0, 4.0))

    def _database_connections(self) -> None:
        self._servers.use_up_connections(self._own_database(), self._chance.uniform(1.0, 4.0))

    def _own_database(self) -> DatabaseConnection:
        assert self._database is not None
        return self._database
