"""How long a service waits for a score over HTTP: `GET /v1/users/{id}/score` at a steady rate, beside a worker.

Desk, PostgreSQL, broker, worker, and what asks and publishes, share this machine. Each answer is noted in the audit, by
a commit of its own, as in production.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.arena import BenchError
from bench.feed import feed_each, run_loop
from bench.http_load import Answers, Plan
from bench.options import Bench
from bench.workload import Workload
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.embedded.postgres import EmbeddedPostgres
from stream.embedded.server import ServerProcess, free_ports

READS_PER_S = 200
EVENTS_PER_S = 1_000
LINGER_S = 0.005
"""What falls due within it goes in one request, as Kafka's own producers have it by default (`linger.ms`)."""

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}
LATE = "late_p99"
"""What 99 of 100 requests were sent late by at most: of the delay the part of who asks, who has no processor of their
own here."""

WARM_UP_SHARE = 0.2
WORKER_WARM_UP_S = 3.0
"""A worker has scored for so long, and a broker that is new has taken it, before somebody asks."""

READY_LIMIT_S = 60.0
FIRST_SCORE_LIMIT_S = 120.0

# Every user has a score, as the sink writes them.
_FILL = b"""
INSERT INTO user_scores (user_id, score_id, event_id, occurred_at, sequence, score, horizons, level, baseline, delta,
    model)
SELECT 'u' || lpad(number::text, 7, '0'), 'transactions:0:' || number, 'e' || number, now(), 1 + number % 400,
    (number % 1000) / 1000.0, jsonb_build_object('30', 0.01, '60', 0.02, '90', 0.03, '180', 0.06), 'LOW', 0.02, 0.01,
    '0123456789abcdef'
FROM generate_series(1, $1::int) AS number
"""


def measure(bench: Bench) -> dict[str, Any]:
    """Percentiles of the delay without a worker and beside one; of each percentile the median over the rounds."""
    found: dict[str, list[dict[str, float]]] = {"alone": [], "beside a worker": []}
    went_before = False
    server = EmbeddedPostgres(bench.folder / "postgres")
    workload = bench.workload(round(EVENTS_PER_S * (WORKER_WARM_UP_S + bench.seconds + 1)) + 1)
    try:
        bench.tell("starting PostgreSQL")
        database = server.start()
        token = _prepared(database, bench.sizes.users)
        with _desk(bench, database) as port:
            plan = _plan(bench, port, token)
            bench.tell("warming up")
            went_before = _load(
                msgspec.structs.replace(plan, seconds=max(1.0, bench.seconds * WARM_UP_SHARE))
            ).went_before
            for number in range(1, bench.rounds + 1):
                bench.tell(f"round {number} of {bench.rounds}: {READS_PER_S} requests per second, alone")
                found["alone"].append(_percentiles(_load(plan)))
                bench.tell(f"round {number} of {bench.rounds}: beside a worker of {EVENTS_PER_S:,} events per second")
                with _fed_worker(bench, workload, number):
                    found["beside a worker"].append(_percentiles(_load(plan)))
    finally:
        server.stop()
    return {
        "requests_per_second": READS_PER_S,
        "events_per_second": EVENTS_PER_S,
        "users": bench.sizes.users,
        "seconds_of_each": bench.seconds,
        "who_asks_goes_before": went_before,
        "delay_ms": {
            name: {at: float(np.median([each[at] for each in rounds])) for at in (*PERCENTILES, LATE)}
            for name, rounds in found.items()
        },
        "rounds_ms": found,
    }


def _prepared(database: DatabaseConnection, users: int) -> str:
    """Make tables, scores and a token; returns the token."""
    from desk.access import tokens  # an extra, which other measurements do without

    migration.upgrade(database)
    with database.connect() as connection:
        connection.execute(_FILL.replace(b"$1::int", str(users).encode()))
        connection.execute("VACUUM ANALYZE user_scores")
    with database.open_engine().begin() as engine_connection:
        _, text = tokens.create(
            engine_connection, "bench", "reader", products=None, days=1, by="bench", now=dt.datetime.now(dt.UTC)
        )
    return text


@contextmanager
def _desk(bench: Bench, database: DatabaseConnection) -> Iterator[int]:
    """The desk as users start it, while the context lasts; gives its port."""
    (port,) = free_ports(1)
    options = ["--database-url", database.url, "--port", str(port), "--bundle", str(bench.settings.bundle.resolve())]
    process = ServerProcess("desk", [sys.executable, "-m", "foreshock", "desk", *options], bench.folder / "desk.log")
    process.start()
    try:
        deadline_s = time.monotonic() + READY_LIMIT_S
        while not _is_ready(port):
            if not process.alive or time.monotonic() > deadline_s:
                raise BenchError(f"the desk does not start; its log ends with:\n{process.log_tail(25)}")
            time.sleep(0.1)
        yield port
    finally:
        process.stop()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _plan(bench: Bench, port: int, token: str) -> Plan:
    numbers = np.random.default_rng(1).integers(1, bench.sizes.users + 1, 5_000)
    paths = [f"/v1/users/u{number:07d}/score" for number in numbers.tolist()]
    return Plan("127.0.0.1", port, paths, {"Authorization": f"Bearer {token}"}, READS_PER_S, bench.seconds)


def _load(plan: Plan) -> Answers:
    """Ask from another process. Raises `BenchError` when not all is answered well."""
    asking = subprocess.run(
        [sys.executable, "-m", "bench.http_load"],
        input=msgspec.json.encode(plan),
        capture_output=True,
        cwd=Path(__file__).resolve().parent.parent,
        check=False,
    )
    if asking.returncode:
        raise BenchError(f"the requests could not be sent: {asking.stderr.decode(errors='replace')[-500:]}")
    answers = msgspec.json.decode(asking.stdout, type=Answers)
    if set(answers.statuses) != {200}:
        raise BenchError(f"not every request was answered with 200: {answers.statuses}")
    return answers


def _percentiles(answers: Answers) -> dict[str, float]:
    found = {name: float(np.percentile(answers.delays_ms, at)) for name, at in PERCENTILES.items()}
    return found | {LATE: float(np.percentile(answers.late_ms, 99))}


@contextmanager
def _fed_worker(bench: Bench, workload: Workload, number: int) -> Iterator[None]:
    """A worker that scores at the rate, and what publishes for it, while the context lasts."""
    with bench.arena(f"api{number}") as arena:
        worker = arena.worker()
        worker.start()
        try:
            arena.publish(Workload(workload.users, workload.records[:1]))
            arena.wait_for(worker, arena.topics.scores, 1, FIRST_SCORE_LIMIT_S)
            fed_s = WORKER_WARM_UP_S + bench.seconds + 1
            records = workload.records[1 : 1 + round(EVENTS_PER_S * fed_s)]
            feeding = threading.Thread(
                target=lambda: run_loop(feed_each(arena.kafka, arena.topics, records, EVENTS_PER_S, LINGER_S)),
                name="feed",
            )
            feeding.start()
            time.sleep(WORKER_WARM_UP_S)
            yield
            feeding.join()
        finally:
            worker.stop()
