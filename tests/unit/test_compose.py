"""docker-compose.yml says what the command line and the settings understand; `docker compose` itself reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from stream.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "foreshock"}


def compose_is_installed() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, timeout=60).returncode == 0


def test_parts_of_a_deployment() -> None:
    assert set(SERVICES) == {"kafka", "postgres", "migrate", "topics", "worker", "sink"}
    assert set(OURS) == {"migrate", "topics", "worker", "sink"}


@pytest.mark.parametrize("name", OURS)
def test_command_is_one_of_the_command_line(name: str) -> None:
    from stream.cli import app

    command: Any = typer.main.get_command(app)
    for word in OURS[name]["command"]:
        assert hasattr(command, "commands"), f"{command.name} takes no subcommand {word}"
        assert word in command.commands, f"{word} is none of {sorted(command.commands)}"
        command = command.commands[word]
    assert not hasattr(command, "commands"), f"{OURS[name]['command']} is a group of commands, not a command"
    required = [parameter.name for parameter in command.params if parameter.required]
    assert required == []


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str) -> None:
    fields = {f"FORESHOCK_{field.upper()}" for field in Settings.model_fields}
    assert set(OURS[name]["environment"]) <= fields


def test_workers_can_be_many() -> None:
    worker = SERVICES["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert worker["deploy"]["replicas"] >= 2


def test_ports_are_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_each_waits_for_what_it_needs() -> None:
    needs = {
        name: {other: how["condition"] for other, how in service["depends_on"].items()}
        for name, service in OURS.items()
    }
    assert needs["migrate"] == {"postgres": "service_healthy"}
    assert needs["topics"] == {"kafka": "service_healthy"}
    assert needs["worker"] == {"topics": "service_completed_successfully"}
    assert needs["sink"] == dict.fromkeys(("topics", "migrate"), "service_completed_successfully")
    assert all("healthcheck" in SERVICES[name] for name in ("kafka", "postgres"))


@pytest.mark.skipif(not compose_is_installed(), reason="the docker client with its compose plugin is not installed")
def test_docker_compose_reads_it() -> None:
    result = subprocess.run(
        ["docker", "compose", "-f", "docker-compose.yml", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
