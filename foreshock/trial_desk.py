"""A desk over the embedded stack that keeps running, for trying: started, found again, and stopped with the stack."""

from __future__ import annotations

import datetime as dt
import secrets
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from stream.database.connection import DatabaseConnection
from stream.embedded.server import EmbeddedError, Identity, ServerProcess, free_ports, stop_process
from stream.settings import Settings

READY_LIMIT_S = 60.0
FIRST_ACCOUNT = "lead"


class TrialDesk(msgspec.Struct, frozen=True):
    """A desk that runs: its process and its address."""

    process: Identity
    address: str


def start(settings: Settings) -> str:
    """Start a desk over the stack that runs in `stack_dir`, or find the one that does; returns its address.

    Raises `EmbeddedError`.
    """
    present = _running(settings.stack_dir)
    if present is not None:
        return present.address
    (port,) = free_ports(1, [settings.desk_port] if settings.desk_port else [])
    command = [sys.executable, "-m", "foreshock", "desk", "--port", str(port)]
    command += ["--stack-dir", str(settings.stack_dir.resolve())]
    process = ServerProcess("desk", command, settings.stack_dir / "desk.log", detached=True)
    process.start()
    found = TrialDesk(process.identity, f"http://127.0.0.1:{port}")
    try:
        process.await_ready(lambda: _answers(found.address), READY_LIMIT_S, threading.Event())
    except EmbeddedError:
        process.stop()
        raise
    _file(settings.stack_dir).write_bytes(msgspec.json.encode(found))
    return found.address


def stop(directory: Path) -> bool:
    """Stop the desk of a stack; whether there was one."""
    present = _running(directory)
    if present is not None:
        stop_process(present.process)
    _file(directory).unlink(missing_ok=True)
    return present is not None


def first_account(database: DatabaseConnection) -> tuple[str, str] | None:
    """Make a lead where there is no account at all; returns name and password, None where there is one."""
    from desk.access import accounts
    from desk.access.passwords import hash_password

    with database.open_engine("foreshock-access").begin() as connection:
        if accounts.listed(connection):
            return None
        password = secrets.token_urlsafe(12)
        accounts.create(
            connection,
            FIRST_ACCOUNT,
            "lead",
            password_hash=hash_password(password, FIRST_ACCOUNT),
            by="foreshock up --desk",
            now=dt.datetime.now(dt.UTC),
        )
    return FIRST_ACCOUNT, password


def _running(directory: Path) -> TrialDesk | None:
    try:
        found = msgspec.json.decode(_file(directory).read_bytes(), type=TrialDesk)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return None if found.process.process() is None else found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _file(directory: Path) -> Path:
    return directory / "desk.json"
