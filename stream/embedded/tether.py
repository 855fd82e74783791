"""Runs one server as a child and ends it when the process that asked for it ends, however that one ended.

A program of its own: started by path, standard library only, so it costs a few megabytes. Its standard input is a pipe
whose other end only the owner holds, so an owner killed with SIGKILL shows as end of file. With `--detach` it starts
the server in a session of its own and leaves at once.

The first line on standard output is the server's process id, or `error: …` if the server could not be started.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading
from typing import Any

POLL_S = 0.5
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Exit status: the server's own, 0 after `--detach`, 127 if it could not be started."""
    options = _options()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    try:
        child = _start(options)
    except OSError as error:
        print(f"error: {error}", flush=True)
        return 127
    print(child.pid, flush=True)
    if options.detach:
        # Skips the interpreter's teardown, which would complain about a child that is still running, as it should be.
        os._exit(0)
    threading.Thread(target=_await_end_of_owner, args=(ended,), daemon=True).start()
    # A forked child of the owner holds a copy of the pipe's other end; the parent's id tells the truth even then.
    while child.poll() is None and not ended.wait(POLL_S) and os.getppid() == options.owner:
        pass
    if child.poll() is None:
        child.send_signal(options.stop_signal)
        try:
            child.wait(options.grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", type=int, required=True, help="process id of the owner")
    parser.add_argument("--log", required=True, help="file that the server's output is appended to")
    parser.add_argument("--stop-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace-s", type=float, default=15.0, help="time to stop before the server is killed")
    parser.add_argument("--user", help="system user that the server runs as")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _start(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if options.user:
        import pwd

        entry = pwd.getpwnam(options.user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    with open(options.log, "ab") as log:
        return subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if options.detach else _die_with_parent(options.stop_signal),
            **identity,
        )


def _die_with_parent(stop_signal: int) -> Any:
    """For the case that this very process is killed. Linux only; elsewhere the pipe alone must do.

    The kernel sends the signal when the thread that forked ends: here that is the main thread of a program that has
    no other when it forks. It is set after the change of user, which would clear it.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != parent:
            os._exit(1)

    return set_signal


def _await_end_of_owner(ended: threading.Event) -> None:
    # os.read and not sys.stdin: a daemon thread inside a buffered read would hold its lock at interpreter exit.
    while os.read(0, 4096):
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
