"""The environment of the other frameworks: pinned exactly, from no named place, believed only when complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from bench.peers import PEERS_FILE, folder_of, python_of

ROOT = Path(__file__).parents[3]


def test_versions_are_exact() -> None:
    lines = PEERS_FILE.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+!]*", line)] == []
    names = {line.partition("==")[0].lower() for line in lines}
    assert {"quixstreams", "bytewax", "onnxruntime", "numpy", "msgspec"} <= names


def test_both_sides_run_the_same_versions_of_what_computes() -> None:
    peers = dict(line.split("==") for line in PEERS_FILE.read_text().split())
    ours = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for name in ("onnxruntime", "numpy", "msgspec"):
        assert peers[name] == ours[name]


def test_the_bench_extra_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().split()}
    assert set(project["optional-dependencies"]["bench"]) <= pinned


def test_an_environment_that_was_cut_short_is_not_used(tmp_path: Path) -> None:
    assert python_of(tmp_path) is None
    (folder_of(tmp_path) / "bin").mkdir(parents=True)
    assert python_of(tmp_path) is None
    (folder_of(tmp_path) / "installed").touch()
    assert python_of(tmp_path) == folder_of(tmp_path) / "bin" / "python"
