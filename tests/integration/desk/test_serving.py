"""The desk as processes: they share sessions, end without losing a request, are started anew, and speak TLS."""

from __future__ import annotations

import datetime as dt
import http.client
import os
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from desk.access import accounts, sessions, tokens
from desk.access.sessions import Lifetime
from desk.app import allowed_hosts
from desk.context import Desk
from desk.serving import CannotServe, listen, require_safe
from stream.database.connection import DatabaseConnection
from stream.embedded.server import free_ports
from stream.settings import Settings, SettingsError, load_settings
from stream.telemetry.catalogue import METRICS
from tests.forked import ForkedProcess
from tests.integration.desk.conftest import PASSWORD, new_account


@contextmanager
def served(database: DatabaseConnection, folder: Path, *options: str) -> Iterator[tuple[ForkedProcess, int]]:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", "from foreshock import main\nmain()", "desk", "--database-url", database.url,
               "--port", str(port), *options]  # fmt: skip
    process = ForkedProcess("desk", command, folder / "desk.log")
    process.start()
    try:
        yield process, port
    finally:
        process.stop()


def ask(port: int, path: str, *, secure: ssl.SSLContext | None = None, **headers: str) -> tuple[int, bytes]:
    made = http.client.HTTPSConnection("localhost", port, timeout=20, context=secure) if secure else None
    connection = made or http.client.HTTPConnection("localhost", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_ready(process: ForkedProcess, port: int, **more: Any) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        assert process.alive, process.log_tail(40)
        assert time.monotonic() < deadline_s, process.log_tail(40)
        try:
            if ask(port, "/readyz", **more)[0] == 200:
                return
        except OSError:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def token(desk_database: DatabaseConnection) -> str:
    engine = desk_database.open_engine()
    with engine.begin() as connection:
        _, text = tokens.create(
            connection, "tests", "reader", products=None, days=1, by="tests", now=dt.datetime.now(dt.UTC)
        )
    return text


def workers_of(process: ForkedProcess) -> list[psutil.Process]:
    return psutil.Process(process.identity.pid).children()


def test_processes_share_sessions_and_one_that_is_killed_is_started_anew(
    desk_database: DatabaseConnection, tmp_path: Path, token: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    with desk_database.open_engine().begin() as connection:
        accounts.create(connection, "ann", "reader", password_hash=None, by="tests", now=now)
        cookie = sessions.open_session(connection, "ann", Lifetime(dt.timedelta(1), dt.timedelta(1)), now)
    with served(desk_database, tmp_path, "--workers", "2") as (process, port):
        wait_until_ready(process, port)
        first, second = workers_of(process)
        seen = set()
        for alone in (first, second):
            other = second if alone is first else first
            other.suspend()
            try:
                seen.add(ask(port, "/v1/users/nobody/score", Authorization=f"Bearer {token}")[0])
            finally:
                other.resume()
        assert seen == {404}, "each knows the token"
        with desk_database.open_engine().begin() as connection:
            lifetime = Lifetime(dt.timedelta(1), dt.timedelta(1))
            assert sessions.find_session(connection, cookie, lifetime, now) is not None
        first.kill()
        deadline_s = time.monotonic() + 30
        while len([one for one in workers_of(process) if one.status() != psutil.STATUS_ZOMBIE]) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert ask(port, "/readyz")[0] == 200
        left = workers_of(process)
        os.kill(process.identity.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(left, timeout=20)
        assert not alive, "who is left without a supervisor ends"


def figures(process: ForkedProcess) -> dict[str, float]:
    """Values by name and labels, of all processes together."""
    address = re.search(r"metrics: http://127.0.0.1:(\d+)/metrics", process.log_text())
    assert address is not None, process.log_tail(40)
    status, text = ask(int(address[1]), "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text.decode())
    found = {" ".join((one.name, *one.labels.values())): one.value for family in families for one in family.samples}
    names = {name for metric in METRICS.values() for name in metric.sample_names}
    assert {name.split()[0] for name in found if name.startswith("foreshock_")} <= names
    return found


def wait_for(process: ForkedProcess, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline_s = time.monotonic() + 30
    while not condition(found := figures(process)):
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)
    return found


def test_one_endpoint_tells_of_all_processes_also_of_one_that_was_killed(
    desk_database: DatabaseConnection, tmp_path: Path, token: str
) -> None:
    kinds = "foreshock_desk_request_seconds_count GET "
    score = f"{kinds}/v1/users/{{user_id}}/score 4xx"
    with served(desk_database, tmp_path, "--workers", "2", "--metrics-port", "0") as (process, port):
        wait_until_ready(process, port)
        found = wait_for(process, lambda one: one["foreshock_ready"] == one["foreshock_live"] == 1)
        assert found["foreshock_desk_processes"] == 2
        assert found["foreshock_database_schema_current"] == 1
        assert found["foreshock_desk_resident_memory_bytes"] > 2e7
        assert ask(port, "/metrics")[0] == 404, "not where everybody may ask"
        asked = 12
        for _ in range(asked):
            ask(port, "/v1/users/nobody/score", Authorization=f"Bearer {token}")
        ask(port, "/no-such-page")
        # The last answer is counted after it was sent.
        found = wait_for(process, lambda one: one.get(score) == asked)
        assert found["foreshock_desk_request_seconds_count none 4xx"] == 2
        first = min(workers_of(process), key=psutil.Process.create_time)
        first.kill()
        wait_for(process, lambda one: "ended by itself" in process.log_text() and one[score] == asked)
        ask(port, "/v1/users/nobody/score", Authorization=f"Bearer {token}")
        assert wait_for(process, lambda one: one[score] == asked + 1)["foreshock_live"] == 1
        wait_for(process, lambda one: time.time() - one["foreshock_desk_turn_timestamp_seconds"] < 10)


def test_tries_to_sign_in_are_counted(client: TestClient, desk: Desk) -> None:
    new_account(desk.engine, "reader", "anna")
    for password in ("not it", PASSWORD):
        client.post("/sign-in", data={"name": "anna", "password": password})
    for _ in range(40):
        client.post("/sign-in", data={"name": "nobody", "password": "x"})
    found = desk.figures.sign_ins
    assert found["accepted"] == 1
    assert found["refused"] > 20
    assert found["limited"] > 5
    kinds = {kind.route for kind, _, _ in desk.figures.requests()}
    assert kinds == {"GET /", "GET /queue", "POST /sign-in"}


def test_sigterm_ends_it_after_what_it_has_begun(desk_database: DatabaseConnection, tmp_path: Path) -> None:
    with served(desk_database, tmp_path) as (process, port):
        wait_until_ready(process, port)
        # A request that waits for a lock, held here.
        answers: list[int] = []
        with desk_database.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            thread = threading.Thread(target=lambda: answers.append(ask(port, "/readyz")[0]))
            thread.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%alembic%'"
            with desk_database.connect() as looking:
                deadline_s = time.monotonic() + 20
                while looking.execute(waiting.encode()).fetchone() == (0,):
                    assert time.monotonic() < deadline_s
                    time.sleep(0.02)
            os.kill(process.identity.pid, signal.SIGTERM)
            deadline_s = time.monotonic() + 20
            while True:  # it takes no new connection
                try:
                    ask(port, "/livez")
                except OSError:
                    break
                assert time.monotonic() < deadline_s
        thread.join(20)
        assert answers == [200]
        deadline_s = time.monotonic() + 20
        while process.alive:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    assert "Traceback" not in process.log_text()


def test_it_speaks_tls(desk_database: DatabaseConnection, tmp_path: Path, token: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(cert), append=True)
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(cafile=str(ca))
    options = ("--tls-certfile", str(cert), "--tls-keyfile", str(key))
    with served(desk_database, tmp_path, *options) as (process, port):
        wait_until_ready(process, port, secure=context)
        status, _ = ask(port, "/v1/users/nobody/score", secure=context, Authorization=f"Bearer {token}")
        assert status == 404
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        assert answer.getheader("strict-transport-security")
        assert answer.getheader("server") is None
        connection.close()
        assert ask(port, "/livez", secure=context, Host="elsewhere.example")[0] == 421
        old = ssl.create_default_context(cafile=str(ca))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert ask(port, "/livez", secure=old)[0] == 200
    with pytest.raises(SettingsError, match=r"desk_tls_certfile: .* cannot be used"):
        require_safe(load_settings(desk_tls_certfile=key, desk_tls_keyfile=cert))
    with pytest.raises(SettingsError, match="desk_tls_keyfile: is of no use"):
        require_safe(load_settings(desk_tls_keyfile=key))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"desk_host": "0.0.0.0"}, "desk_host: 0.0.0.0 can be reached from other machines"),
        ({"desk_host": "desk.example"}, "desk_host: desk.example can be reached"),
        ({"desk_trusted_proxies": ["proxy"]}, "desk_trusted_proxies: 'proxy' is neither"),
        ({"desk_public_url": "desk.example"}, "desk_public_url: 'desk.example' is no address"),
        ({"desk_public_url": "https://desk.example/path"}, "desk_public_url"),
    ],
)
def test_what_is_not_safe_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        require_safe(load_settings(**options))


@pytest.mark.parametrize("options", [
    {}, {"desk_host": "::1"}, {"desk_host": "localhost"}, {"desk_host": "0.0.0.0", "desk_behind_proxy": True},
    {"desk_public_url": "https://desk.example/", "desk_trusted_proxies": ["10.0.0.0/8"]},
])  # fmt: skip
def test_what_is_safe_is_not(options: dict[str, Any]) -> None:
    require_safe(load_settings(**options))


def test_a_port_that_is_taken_is_told_of() -> None:
    taken = listen(load_settings(desk_port=0))
    taken.listen()
    try:
        with pytest.raises(CannotServe, match=r"cannot be served on.*--port"):
            listen(load_settings(desk_port=taken.getsockname()[1]))
    finally:
        taken.close()


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, {"127.0.0.1", "localhost", "[::1]"}),
        ({"desk_public_url": "https://desk.example:8443"}, {"127.0.0.1", "localhost", "[::1]", "desk.example"}),
        ({"desk_host": "10.0.0.7"}, {"127.0.0.1", "localhost", "[::1]", "10.0.0.7"}),
        ({"desk_host": "0.0.0.0"}, None),
        ({"desk_behind_proxy": True}, None),
        (
            {"desk_behind_proxy": True, "desk_public_url": "https://desk.example"},
            {"127.0.0.1", "localhost", "[::1]", "desk.example"},
        ),
    ],
)
def test_names_under_which_it_answers(settings: dict[str, Any], hosts: set[str] | None) -> None:
    found: Settings = load_settings(**settings)
    assert allowed_hosts(found) == hosts
