"""A crash, a hang, a flood of memory and an exception where inputs are tried are findings with their input."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bench.fuzzing import run
from bench.fuzzing.run import Finding, fuzz


def test_a_run_tries_as_many_inputs_as_it_is_told() -> None:
    told: list[int] = []
    found = fuzz("rows", 2_000, seed=3, tell=told.append)
    assert (found.inputs, found.findings) == (2_000, [])
    assert sum(found.outcomes.values()) == 2_000
    assert found.peak_mib > 10


def _goes_wrong(kind: str) -> str:
    if kind == "crash":
        os.abort()
    if kind == "exception":
        raise KeyError("not documented")
    kept = b"x" * (512 << 20) if kind == "memory" else b""
    while kind in ("hang", "memory"):
        pass
    return str(len(kept))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("crash", "code -6"), ("hang", "processor time"), ("memory", "MiB before"), ("exception", "not documented")],
)
def test_what_no_input_may_do_is_found(monkeypatch: pytest.MonkeyPatch, kind: str, message: str) -> None:
    monkeypatch.setenv("FORESHOCK_FUZZ_TEST", kind)
    monkeypatch.setattr(run, "_try_all", _try_badly)
    monkeypatch.setattr(run, "FINDINGS_BEFORE_GIVING_UP", 1)
    monkeypatch.setattr(run, "MOST_MEMORY_MIB", 256)
    found = fuzz("rows", 100, longest_s=20.0 if kind == "memory" else 0.5)
    assert [each.kind for each in found.findings] == [kind]
    assert message in found.findings[0].message
    assert found.findings[0].content == b"third"
    assert found.inputs == 3


def _try_badly(name: str, inputs: int, seed: int, shared: run._Shared, sender: Connection) -> None:
    """As `_try_all`, with a check that goes wrong at the third input. Runs in the process that tries them."""
    contents = iter([b"first", b"second", b"third"])

    def check(content: bytes) -> str:
        if content != b"third":
            return "fine"
        time.sleep(0.3)  # so that the other process looks once before
        return _goes_wrong(os.environ["FORESHOCK_FUZZ_TEST"])

    run.made_of = lambda *_: next(contents)
    run.TARGETS[name] = replace(run.TARGETS[name], seeds=list, prepare=lambda: check)
    _original(name, inputs, seed, shared, sender)


_original = run._try_all


def test_an_input_is_stored_under_its_hash(tmp_path: Path) -> None:
    path = Finding("rows", "crash", "", b"input").store(tmp_path / "findings")
    assert path.read_bytes() == b"input"
    assert path == Finding("rows", "hang", "", b"input").store(tmp_path / "findings")
