"""A process of the desk that is killed in the middle of its work: an action is done or not done, and never half."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2

from stream.database.connection import DatabaseConnection
from tests.integration.pages.conftest import PASSWORD

SERVE = """
import socket, sys, uvicorn
from desk.app import create_app
from stream.database.connection import DatabaseConnection
from stream.settings import load_settings
database = DatabaseConnection(sys.argv[1])
app = create_app(load_settings(database_url=database.url), database)
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listening])
"""


@contextmanager
def process(database: DatabaseConnection) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of the desk, and its address."""
    with subprocess.Popen([sys.executable, "-c", SERVE, database.url], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            yield started, f"http://127.0.0.1:{int(started.stdout.readline())}"
        finally:
            started.kill()


def sign_in(client: httpx2.Client) -> None:
    assert client.post("/sign-in", data={"name": "lea", "password": PASSWORD}).status_code == 303


def note(client: httpx2.Client, alert_id: str, text: str) -> None:
    """Write a note, by the form of the page as it is now."""
    form = client.get(f"/cases/{alert_id}").text
    fields = {
        name: re.findall(rf'action="/cases/{alert_id}/note".*?name="{name}" value="([^"]+)"', form, re.DOTALL)[0]
        for name in ("csrf", "version", "action_id")
    }
    client.post(f"/cases/{alert_id}/note", data={**fields, "reason": text})


def test_killed_in_the_middle_of_its_work(desk_database: DatabaseConnection) -> None:
    with desk_database.connect() as connection:
        cases = [str(row[0]) for row in connection.execute("SELECT alert_id FROM cases WHERE closed_at IS NULL")][:4]
    answered: list[str] = []
    with process(desk_database) as (desk, url):
        stop = threading.Event()

        def work(alert_id: str) -> None:
            with httpx2.Client(base_url=url, timeout=30) as client:
                sign_in(client)
                for number in range(1_000):
                    if stop.is_set():
                        return
                    try:
                        note(client, alert_id, f"{alert_id} {number}")
                    except httpx2.HTTPError:
                        return
                    answered.append(f"{alert_id} {number}")

        with ThreadPoolExecutor(len(cases)) as workers:
            working = [workers.submit(work, alert_id) for alert_id in cases]
            until = time.monotonic() + 150
            while len(answered) < 8 and time.monotonic() < until and not all(each.done() for each in working):
                time.sleep(0.02)
            os.kill(desk.pid, signal.SIGKILL)
            stop.set()
        for each in working:
            each.result()
    assert len(answered) >= 8
    with desk_database.connect() as connection:
        kept = {str(row[0]) for row in connection.execute("SELECT reason FROM case_actions WHERE action = 'note'")}
        torn = connection.execute(
            "SELECT alert_id FROM cases WHERE version <> (SELECT max(version) FROM case_actions AS done "
            "WHERE done.alert_id = cases.alert_id) OR version <> (SELECT count(*) FROM case_actions AS done "
            "WHERE done.alert_id = cases.alert_id)"
        ).fetchall()
    assert set(answered) <= kept, "what was answered is kept"
    assert torn == [], "a case and its actions are written together"
    with process(desk_database) as (_, url), httpx2.Client(base_url=url, timeout=30) as client:
        sign_in(client)
        note(client, cases[0], "after")
    with desk_database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM case_actions WHERE reason = 'after'").fetchone() == (1,)
