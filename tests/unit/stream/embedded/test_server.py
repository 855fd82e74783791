"""Real processes: started, ready, stopped, and gone when their owner is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stream.embedded.server import EmbeddedError, Identity, ServerProcess, StartCancelled, free_ports, stop_process

OBEDIENT = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {OBEDIENT}"


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def server(folder: Path, code: str, **options: object) -> ServerProcess:
    return ServerProcess("sleeper", [sys.executable, "-I", "-S", "-c", code], folder / "log", **options)  # type: ignore[arg-type]


def await_output(started: ServerProcess) -> None:
    started.await_ready(lambda: "ready" in started.log_tail(), 10, threading.Event())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[ServerProcess]:
    process = server(tmp_path, OBEDIENT)
    process.start()
    await_output(process)
    yield process
    process.stop()


def test_runs_until_stopped(started: ServerProcess) -> None:
    identity = started.identity
    assert started.alive
    started.stop()
    assert identity.process() is None
    assert not started.alive
    started.stop()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = started.identity


def test_survives_the_interrupt_key(started: ServerProcess) -> None:
    """Ctrl-C goes to the session's processes: the server is in another one, and is stopped in its turn."""
    assert os.getsid(started.identity.pid) != os.getsid(0)


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    process = server(tmp_path, STUBBORN, grace_s=0.3)
    process.start()
    await_output(process)
    identity = process.identity
    process.stop()
    assert identity.process() is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_ends_with_its_owner(tmp_path: Path, how: signal.Signals) -> None:
    identity, owner = start_in_another_process(tmp_path, detached=False)
    assert identity.process() is not None
    owner.send_signal(how)
    owner.wait()
    assert wait_until(lambda: identity.process() is None)


def test_ends_even_if_its_tether_is_killed(started: ServerProcess) -> None:
    identity = started.identity
    process = identity.process()
    assert process is not None
    parent = process.parent()
    assert parent is not None
    assert "tether.py" in " ".join(parent.cmdline())
    parent.kill()
    assert wait_until(lambda: identity.process() is None)


def test_ends_with_its_owner_while_a_forked_child_of_it_lives(tmp_path: Path) -> None:
    """The child holds a copy of the pipe that the tether listens to."""
    identity, owner = start_in_another_process(tmp_path, detached=False, fork=True)
    children = psutil.Process(owner.pid).children()
    forked = next(child for child in children if "tether.py" not in " ".join(child.cmdline()))
    try:
        owner.kill()
        owner.wait()
        assert wait_until(lambda: identity.process() is None)
        assert forked.is_running()
    finally:
        forked.kill()


def test_detached_stays_until_stopped(tmp_path: Path) -> None:
    identity, owner = start_in_another_process(tmp_path, detached=True)
    owner.kill()
    owner.wait()
    time.sleep(1.0)
    assert identity.process() is not None
    stop_process(identity)
    assert identity.process() is None


def start_in_another_process(
    folder: Path, *, detached: bool, fork: bool = False
) -> tuple[Identity, subprocess.Popen[str]]:
    code = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from stream.embedded.server import ServerProcess
        process = ServerProcess(
            "sleeper", [sys.executable, "-I", "-S", "-c", {OBEDIENT!r}], Path({str(folder)!r}) / "log",
            detached={detached},
        )
        process.start()
        if {fork} and os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        print(process.identity.pid, process.identity.created_s, flush=True)
        time.sleep(60)
    """)
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        pid, created_s = owner.stdout.readline().split()
    return Identity(int(pid), float(created_s)), owner


def test_end_while_starting_shows_the_log(tmp_path: Path) -> None:
    process = server(tmp_path, "import sys, time; print('no such port'); time.sleep(0.5); sys.exit(3)")
    process.start()
    with pytest.raises(EmbeddedError, match=r"(?s)sleeper ended while starting.*no such port"):
        process.await_ready(lambda: False, 10, threading.Event())
    process.stop()


def test_log_of_an_earlier_start_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an old failure\n")
    process = server(tmp_path, OBEDIENT)
    process.start()
    await_output(process)
    assert process.log_tail() == "ready"
    process.stop()


def test_never_ready_is_an_error_with_a_limit(started: ServerProcess) -> None:
    with pytest.raises(EmbeddedError, match="not ready after 0 s"):
        started.await_ready(lambda: False, 0.1, threading.Event())


def test_start_can_be_cancelled(started: ServerProcess) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StartCancelled):
        started.await_ready(lambda: False, 10, cancelled)


def test_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    process = ServerProcess("sleeper", [tmp_path / "no-such-program"], tmp_path / "log")
    with pytest.raises(EmbeddedError, match=r"sleeper could not be started: error: .*no-such-program"):
        process.start()


def test_another_process_with_the_same_id_is_not_it() -> None:
    me = Identity.of(os.getpid())
    assert me.process() is not None
    assert Identity(me.pid, me.created_s - 100).process() is None
    stop_process(Identity(me.pid, me.created_s - 100))


def test_zombie_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity.of(child.pid)
    child.kill()
    assert wait_until(lambda: identity.process() is None)
    child.communicate()


def test_preferred_ports_first_then_free_ones() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        occupied = taken.getsockname()[1]
        (free,) = free_ports(1)
        ports = free_ports(3, preferred=[occupied, free])
    assert ports[0] == free
    assert occupied not in ports
    assert len(set(ports)) == 3
