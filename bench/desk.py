"""How long the desk takes for a page, with many borrowers and open alerts: the first page of the queue, one in its
middle, a filtered one, the next case, a case, the portfolio.

The tables are filled by SQL as the sink would fill them, cases by the trigger on alerts. Pages are asked of the
application within this process, one after the other: the time at the server, without network and browser.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.options import Bench
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.partitions import ensure_months, month_of, next_month
from stream.embedded.postgres import EmbeddedPostgres

if TYPE_CHECKING:  # an extra, which other measurements do without
    from starlette.testclient import TestClient

LIMIT_MS = 300.0
"""What a page may take at the server."""

PERCENTILES = {"p50": 50.0, "p99": 99.0}
WEEKS = 26
"""Of scores and events of each alerted borrower, one of each a week."""

ACCOUNT = "bench"
WARM_UP = 3

_USERS = """
INSERT INTO user_scores (user_id, score_id, event_id, occurred_at, sequence, score, horizons, level, baseline, delta,
    days_past_due, model, status, contracts, exposure, amount_overdue, expected_loss)
SELECT 'u' || lpad(number::text, 8, '0'), 'transactions:0:' || number, 'e' || number, now(), 1 + number % 400, score,
    jsonb_build_object('30', score / 4, '60', score / 2, '90', score, '180', score + (1 - score) / 4),
    CASE WHEN score >= 0.5 THEN 'HIGH' WHEN score >= 0.1 THEN 'MEDIUM' ELSE 'LOW' END::risk_level, 0.02, score - 0.02,
    (number % 45)::float8, '0123456789abcdef', 'past_due', 2, exposure, exposure / 50, score * exposure * 0.45
FROM (
    SELECT number, CASE WHEN number <= {alerts} THEN 0.1 + 0.85 * random() ELSE 0.05 * random() END AS score,
        CASE WHEN number % 20 > 0 THEN 500 + 20000 * random() END AS exposure
    FROM generate_series(1, {users}) AS number
) AS drawn
"""
_PRODUCTS = """
INSERT INTO contract_products (user_id, contract_id, product, occurred_at, source_partition, source_offset)
SELECT 'u' || lpad(number::text, 8, '0'), 'c' || place,
    (ARRAY['card', 'loan', 'mortgage', 'overdraft'])[1 + number % 4], now() - interval '400 days', 0, 2 * number + place
FROM generate_series(1, {alerts}) AS number, generate_series(1, 2) AS place
"""
_CONTRACTS = """
INSERT INTO contracts (user_id, contract_id, status, days_past_due, amount_overdue, exposure, credit_limit, currency,
    occurred_at, sequence, source_partition)
SELECT 'u' || lpad(number::text, 8, '0'), 'c' || place, 'past_due', number % 45, 50, 5000, 8000, 'EUR', now(), 1, 0
FROM generate_series(1, {alerts}) AS number, generate_series(1, 2) AS place
"""
_ALERTS = """
INSERT INTO alerts (alert_id, user_id, transition_id, kind, occurred_at, opened_at, score, baseline, delta,
    days_past_due, triggers, reasons, weighed_most, sequence, policy, model, status, exposure, amount_overdue,
    expected_loss, contracts, level, highest_level, cleared_at)
SELECT md5('alert' || user_id), user_id, md5('transition' || user_id), 'opened', opened_at, opened_at, score, baseline,
    delta, days_past_due, ARRAY['level'],
    jsonb_build_array(
        jsonb_build_object('code', (ARRAY['overdue', 'missed_payments', 'cash_out', 'income_down'])[1 + place % 4],
            'text', 'what the first reason says in words', 'contribution', 1.5),
        jsonb_build_object('code', (ARRAY['near_limit', 'credit_inquiries', 'late_payment'])[1 + place % 3],
            'text', 'what the second reason says in words', 'contribution', 0.5)
    ),
    '[]', sequence, 'policy', model, status, exposure, amount_overdue, expected_loss, '[{{"contract_id": "c1"}}]',
    level, level, CASE WHEN place % 6 = 5 THEN now() END
FROM (
    SELECT user_scores.*, row_number() OVER () AS place, now() - random() * interval '180 days' AS opened_at
    FROM user_scores WHERE user_id <= 'u' || lpad({alerts}::text, 8, '0')
) AS alerted
"""
_SCORES = """
INSERT INTO score_history (score_id, occurred_at, user_id, event_id, sequence, score, horizons, level, baseline, delta,
    model)
SELECT 'transactions:1:' || user_id || week, now() - week * interval '7 days', user_id, 'e' || week, {weeks} + 1 - week,
    score * (1 - week / ({weeks} + 1.0)), horizons, level, baseline, delta, model
FROM user_scores, generate_series(1, {weeks}) AS week WHERE user_id <= 'u' || lpad({alerts}::text, 8, '0')
"""
_EVENTS = """
INSERT INTO user_events (source_topic, source_partition, source_offset, occurred_at, user_id, event_id, kind, payload)
SELECT 'repayments', 0, number * 100 + week, now() - week * interval '7 days', 'u' || lpad(number::text, 8, '0'),
    'r' || week, 'repayments',
    jsonb_build_object('kind', 'due', 'amount_due', 120, 'instalment_no', {weeks} - week, 'contract_id', 'c1')
FROM generate_series(1, {alerts}) AS number, generate_series(1, {weeks}) AS week
"""
_FILLED = {
    "users": _USERS,
    "products": _PRODUCTS,
    "contracts": _CONTRACTS,
    "alerts and cases": _ALERTS,
    "scores": _SCORES,
    "events": _EVENTS,
}


def measure(bench: Bench) -> dict[str, Any]:
    """Percentiles of milliseconds of each page over the rounds, the slowest of all, and how long filling took."""
    from starlette.testclient import TestClient

    from desk.app import create_app
    from desk.clock import system_clock

    users = bench.sizes.users
    # A sixth of the alerts has cleared, so that as many as were asked for are open.
    alerts = min(round(bench.sizes.events * 1.2), users)
    server = EmbeddedPostgres(bench.folder / "postgres")
    try:
        bench.tell("starting PostgreSQL")
        database = server.start()
        filled_s = _fill(bench, database, users, alerts)
        app = create_app(bench.settings, database)
        with TestClient(app, base_url="http://localhost") as client:
            csrf = _sign_in(client, app.state.desk, system_clock())
            asked = dict(_pages(app.state.desk, csrf))
            found: dict[str, list[float]] = {name: [] for name in asked}
            for number in range(-WARM_UP, bench.rounds):
                bench.tell(f"round {max(number + 1, 0)} of {bench.rounds}")
                for name, ask in asked.items():
                    taken_ms = _timed(client, ask)
                    if number >= 0:
                        found[name].append(taken_ms)
        with database.connect() as connection:
            counted = connection.execute(
                "SELECT count(*) FILTER (WHERE closed_at IS NULL), count(*) FROM cases"
            ).fetchone()
    finally:
        server.stop()
    delays = {
        name: {at: float(np.percentile(each, share)) for at, share in PERCENTILES.items()} | {"max": max(each)}
        for name, each in found.items()
    }
    assert counted is not None
    return {
        "users": users,
        "open_cases": counted[0],
        "cases": counted[1],
        "page_ms": delays,
        "slowest_p99_ms": max(each["p99"] for each in delays.values()),
        "limit_ms": LIMIT_MS,
        "filled_s": filled_s,
    }


def _fill(bench: Bench, database: DatabaseConnection, users: int, alerts: int) -> dict[str, float]:
    """Fill every table; seconds for each."""
    migration.upgrade(database)
    taken_s = {}
    with database.connect() as connection:
        months = {month_of(dt.datetime.now(dt.UTC) - dt.timedelta(days=7 * week)) for week in range(WEEKS + 1)}
        for table in ("score_history", "user_events"):
            ensure_months(connection, table, months | {next_month(max(months))})
        connection.execute("SELECT setseed(0.5)")
        for name, statement in _FILLED.items():
            bench.tell(f"filling {name}")
            started_s = time.perf_counter()
            connection.execute(statement.format(users=users, alerts=alerts, weeks=WEEKS).encode())
            taken_s[name] = time.perf_counter() - started_s
        bench.tell("analysing tables")
        connection.execute("VACUUM ANALYZE")
    return taken_s


def _sign_in(client: TestClient, desk: Any, now: dt.datetime) -> str:
    """Make an account of a lead and sign it in; returns what its forms must hold."""
    from desk.access.accounts import create
    from desk.access.sessions import cookie_name, find_session, open_session

    with desk.transaction() as connection:
        create(connection, ACCOUNT, "lead", password_hash=None, by=ACCOUNT, now=now)
        cookie = open_session(connection, ACCOUNT, desk.lifetime, now)
        session = find_session(connection, cookie, desk.lifetime, now)
    assert session is not None, "it was opened just now"
    client.cookies.set(cookie_name(secure=desk.secure), cookie)
    return str(session.csrf_token)


Ask = Callable[["TestClient"], Any]


def _pages(desk: Any, csrf: str) -> Iterator[tuple[str, Ask]]:
    """What is asked for, by name."""
    from desk.access.principals import Principal
    from desk.cases.queue import LONGEST_PAGE, QueueFilters, queue_page

    everybody, now = Principal(ACCOUNT, "account", "lead"), desk.clock()
    seen: list[str] = []
    middle = None
    with desk.transaction() as connection:
        half = connection.exec_driver_sql("SELECT count(*) / 2 FROM cases WHERE closed_at IS NULL").scalar_one()
        while len(seen) < half or not seen:
            page = queue_page(connection, everybody, QueueFilters(), now, place=middle, size=LONGEST_PAGE)
            seen += [case.alert_id for case in page.cases]
            if page.end is None:
                break
            middle = page.end
    after = "" if middle is None else f"after={middle.encode()}"
    cases = itertools.cycle(seen)

    def get(path: str) -> Ask:
        return lambda client: client.get(path)

    yield "queue, first page", get("/queue")
    yield "queue, a page in its middle", get(f"/queue?{after}")
    yield "queue, by level, product, reason and age", get("/queue?level=HIGH&product=loan&reason=cash_out&age=150")
    yield "queue, what nobody has", get("/queue?assignee=-")
    yield "queue, closed cases", get("/queue?status=closed")
    yield "a case", lambda client: client.get(f"/cases/{next(cases)}")
    yield "next case", lambda client: client.post("/queue/next", data={"csrf": csrf}, follow_redirects=False)
    yield "portfolio of 90 days", get("/portfolio?days=90")


def _timed(client: TestClient, ask: Ask) -> float:
    """Milliseconds of one answer. Raises `BenchError` where it is not well."""
    from bench.arena import BenchError

    started_s = time.perf_counter()
    answer = ask(client)
    taken_ms = (time.perf_counter() - started_s) * 1000
    if answer.status_code not in (200, 303):
        raise BenchError(f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}")
    return taken_ms
