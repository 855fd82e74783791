"""What the image is built from is pinned with hashes, fits constraints.txt, and brings no server."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASHED = (ROOT / "requirements-hashed.txt").read_text()
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ENTRIES = {
    canonicalize_name(name): (version, re.findall(r"--hash=sha256:([0-9a-f]{64})(?![0-9a-f])", rest))
    for name, version, rest in re.findall(r"^([\w.-]+)==(\S+)((?: \\\n    --hash=\S+)+)$", HASHED, re.MULTILINE)
}


def test_every_line_is_a_pin_with_a_hash() -> None:
    lines = [line for line in HASHED.splitlines() if line and not line.startswith(("#", "    --hash=sha256:"))]
    assert len(lines) == len(ENTRIES) > 30
    assert all(hashes for _, hashes in ENTRIES.values())


def test_versions_are_those_of_the_constraints() -> None:
    pinned = {canonicalize_name(name): version for name, version in PINNED.items()}
    assert {name: version for name, (version, _) in ENTRIES.items()} == {name: pinned[name] for name in ENTRIES}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_all_that_is_needed_is_there_with_the_desk_and_no_other_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    assert names([*PROJECT["dependencies"], *extras["desk"], "setuptools"]) <= ENTRIES.keys()
    assert not names(extras["embedded"]) & ENTRIES.keys(), "a deployment has servers of its own"
    assert not {"torch", "pytest"} & ENTRIES.keys()


def test_compiled_packages_have_wheels_for_both_processors() -> None:
    """One for each of three Pythons, or one for all of them."""
    for name in ("aiokafka", "msgspec", "numpy", "onnxruntime", "rocksdict"):
        assert len(ENTRIES[name][1]) == 6, name
    for name in ("argon2-cffi-bindings", "cryptography", "psutil"):
        assert len(ENTRIES[name][1]) == 2, name
    assert len(ENTRIES["faust-streaming"][1]) == 4, "three wheels, and the source for ARM"


def test_no_address_is_written_down() -> None:
    assert not re.search(r"://|--(index|extra|find|trusted)", HASHED)


def test_the_image_is_built_from_it_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "pip install --require-hashes --only-binary :all: -r requirements-hashed.txt" in dockerfile
    assert "--only-binary :all: --no-binary faust-streaming -r requirements-hashed.txt" in dockerfile
    assert set(re.findall(r"'\.\[(.*?)\]'", dockerfile)) == {"desk"}
    final = dockerfile.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\S+)$", final, re.MULTILINE)
    assert user is not None
    assert user[1] not in ("root", "0")
    assert "pip" not in final
