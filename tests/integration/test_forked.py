"""Forked processes are what started ones would be: environment, folder, streams, exit codes, end with their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from stream.embedded.server import Identity
from tests import forked
from tests.forked import ForkedProcess

PRINTS = """
import os, sys
print(os.environ["WORD"], os.getcwd(), sys.argv[1:], __name__)
sys.stderr.write("oh")
sys.exit(7)
"""


def test_one_is_set_up_and_its_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output, errors = tmp_path / "output", tmp_path / "errors"
    started = forked.server().start(["-c", PRINTS, "a", "b"], output, errors, {"WORD": "w\udce4"})
    assert forked.server().await_end(started, 30) == 7
    assert output.read_bytes() == f"w\udce4 {tmp_path} ['a', 'b'] __main__\n".encode(errors="surrogateescape")
    assert errors.read_text() == "oh"
    assert started.process() is None


def test_a_command_and_one_that_is_wrong() -> None:
    done = forked.run(["worker", "--help"])
    assert done.returncode == 0
    assert "Score events until stopped" in done.stdout
    assert forked.run(["no-such-command"]).returncode == 2


COPIES = """
import os, sys
from pathlib import Path
from bench.forks import ForkServer
sys.marker = "kept"
with ForkServer.of_this_process() as server:
    inner = ["import os, sys; print(sys.marker, sys.argv[1:], flush=True); sys.exit(int(sys.argv[1]))"]
    for code in (0, 3):
        started = server.start(["-c", *inner, str(code)], Path("inner"), Path("inner"), os.environ)
        print(server.await_end(started, 30), flush=True)
    sleeper = server.start(["-c", "import time; time.sleep(60)"], Path("inner"), Path("inner"), os.environ)
    print(sleeper.pid, flush=True)
    if sys.argv[1:]:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("more", [[], ["is killed"]], ids=["it ends", "it is killed"])
def test_a_process_forks_from_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    """What it forks has what it has, and ends with it."""
    monkeypatch.chdir(tmp_path)
    outer = tmp_path / "outer"
    started = forked.server().start(["-c", COPIES, *more], outer, outer, os.environ)
    assert forked.server().await_end(started, 30) == (-signal.SIGKILL if more else 0), outer.read_text()
    *codes, sleeper = outer.read_text().splitlines()
    assert codes == ["0", "3"]
    assert (tmp_path / "inner").read_text() == "kept ['0']\nkept ['3']\n"
    deadline_s = time.monotonic() + 10
    while psutil.pid_exists(int(sleeper)):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_one_is_killed_and_one_is_stopped(tmp_path: Path) -> None:
    code = "import os, signal, time; print(os.getsid(0) == os.getpid(), flush=True); time.sleep(60)"
    process = ForkedProcess("sleeper", [sys.executable, "-c", code], tmp_path / "log")
    for end in (lambda pid: os.kill(pid, signal.SIGKILL), lambda _: process.stop()):
        process.start()
        while process.log_text() != "True\n":
            assert process.alive, process.log_text()
            time.sleep(0.02)
        end(process.identity.pid)
        deadline_s = time.monotonic() + 10
        while process.alive:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        process.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_their_owner(tmp_path: Path, how: signal.Signals) -> None:
    code = textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from bench.forks import ForkServer
        server = ForkServer(())
        log = Path({str(tmp_path / "log")!r})
        started = server.start(["-c", "import time; time.sleep(60)"], log, log, os.environ)
        print(server._process.pid, started.pid, started.created_s, flush=True)
        time.sleep(60)
    """)
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        server_pid, pid, created_s = owner.stdout.readline().split()
    server, process = Identity.of(int(server_pid)), Identity(int(pid), float(created_s))
    assert process.process() is not None
    owner.send_signal(how)
    owner.wait()
    deadline_s = time.monotonic() + 10
    while process.process() is not None or server.process() is not None:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_threads_are_told_of_their_own_processes(tmp_path: Path) -> None:
    def code(number: int) -> int | None:
        output = tmp_path / str(number)
        command = ["-c", f"import sys, time; time.sleep({number % 3} / 10); sys.exit({number})"]
        return forked.server().await_end(forked.server().start(command, output, output, os.environ), 30)

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(code, range(24))) == list(range(24))
