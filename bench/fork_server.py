"""A process that has imported what worker, sink and the other commands import, and forks one of them for each request.

A program of its own, which `bench.forks` starts and talks to: importing takes a command longer than all else that
most tests and chaotic runs have it do. What it forks is set up as if it had been started: environment, folder, standard
streams, session and signals. Knows nothing of Foreshock but the names of modules.

A request is a line of JSON on standard input. For each that it takes it writes a line `started`, and one `ended` when
that process has ended. At the end of its input, which comes when its owner ends, it ends its processes and itself.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import os
import runpy
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil

_PR_SET_PDEATHSIG = 1
_REQUESTS, _REPLIES = 0, 3
"""File descriptors: the pipe of requests, and where that of replies is put so that nothing else writes into it."""


def main(modules: Sequence[str]) -> None:
    """Import `modules` and serve; returns in a forked process, when that has done its work."""
    os.dup2(1, _REPLIES, inheritable=False)
    os.dup2(2, 1)
    for module in modules:
        import_module(module)
    # Faust asks for the module of a frame, which `inspect` looks for among the files of all modules, once.
    inspect.getmodule(sys._getframe())
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads run after the imports, which a forked process would lack")
    # What is there now is never looked at again, and so stays in memory that all share.
    gc.collect()
    gc.freeze()
    request = _serve()
    if request is not None:
        _run(request["command"])


def _serve() -> dict[str, Any] | None:
    """Serve until the requests end. In a forked process: the request that it is to run."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: set[int] = set()
    while True:
        readable, _, _ = select.select([_REQUESTS, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
        # Before the dead are collected, whose times of creation could not be looked up any more.
        if _REQUESTS in readable:
            line = _line()
            if not line:
                _end(running)
                return None
            request: dict[str, Any] = json.loads(line)
            server = os.getpid()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number in (woken, wake, _REPLIES):
                    os.close(number)
                _set_up(request, server)
                return request
            running.add(pid)
            _reply({"started": pid, "created_s": psutil.Process(pid).create_time()})
        for pid, status in _ended(running):
            _reply({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _line() -> bytes:
    """The next request, which alone is in the pipe: its sender waits for the reply. Empty at the end of the input."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_REQUESTS, 65_536)
        if not part:
            return b""
        line += part
    return line


def _reply(found: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the owner is ending, which the pipe of requests will tell
        os.write(_REPLIES, json.dumps(found).encode() + b"\n")


def _ended(running: set[int]) -> list[tuple[int, int]]:
    """Collects processes that have ended, with their status."""
    found = [(pid, status) for pid, status in (os.waitpid(each, os.WNOHANG) for each in running) if pid]
    running -= {pid for pid, _ in found}
    return found


def _end(running: set[int]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _set_up(request: dict[str, Any], server: int) -> None:
    """Make of a forked process what a started one would be."""
    os.setsid()
    # It ends with the server even if that is killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        file = os.open(path, flags, 0o666)
        os.dup2(file, number)
        os.close(file)


def _run(command: list[str]) -> None:
    """`-c CODE …` or `-m MODULE …`, as the interpreter would."""
    kind, what, *arguments = command
    if kind == "-c":
        sys.argv = ["-c", *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
