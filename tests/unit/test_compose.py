"""docker-compose.yml says what the command line and the settings understand; `docker compose` itself reads it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml

from desk.app import allowed_hosts
from desk.serving import require_safe
from stream.settings import Settings, load_settings
from stream.webhooks.service import sealing_keys

ROOT = Path(__file__).parents[2]
WRITTEN = (ROOT / "docker-compose.yml").read_text()
AS_IS = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", WRITTEN)
"""With the value of every variable that is not set."""

COMPOSE: dict[str, Any] = yaml.safe_load(AS_IS)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "foreshock"}
RUNNING = ("worker", "sink", "webhooks", "desk")
CADDY_OPTIONS = {
    "--access-log", "--change-host-header", "--debug", "--disable-redirects", "--from", "--header-down", "--header-up",
    "--insecure", "--internal-certs", "--to",
}  # fmt: skip
"""What `caddy reverse-proxy` takes, of 2.7 and newer."""

KNOWN = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
"""Of the keys that the Compose specification has for a service, those in use: another may be a slip of the pen."""


def compose_is_installed() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, timeout=60).returncode == 0


def test_parts_of_a_deployment() -> None:
    parts = {"migrate", "topics", "worker", "sink", "webhooks", "desk"}
    assert set(SERVICES) == {"kafka", "postgres", "proxy", "prometheus", "grafana", *parts}
    assert set(OURS) == parts


@pytest.mark.parametrize("name", OURS)
def test_command_is_one_of_the_command_line(name: str) -> None:
    from foreshock import app

    command: Any = typer.main.get_command(app)
    for word in OURS[name]["command"]:
        assert hasattr(command, "commands"), f"{command.name} takes no subcommand {word}"
        found = command.get_command(None, word)
        assert found is not None, f"{word} is none of {command.list_commands(None)}"
        command = found
    assert not hasattr(command, "commands"), f"{OURS[name]['command']} is a group of commands, not a command"
    required = [parameter.name for parameter in command.params if parameter.required]
    assert required == []


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str) -> None:
    fields = {f"FORESHOCK_{field.upper()}" for field in Settings.model_fields}
    assert set(OURS[name]["environment"]) <= fields


@pytest.mark.parametrize("name", OURS)
def test_settings_take_what_the_variables_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    settings = load_settings()
    kafka, postgres = SERVICES["kafka"]["environment"], SERVICES["postgres"]["environment"]
    assert settings.bootstrap_servers is not None
    assert f"INTERNAL://{settings.bootstrap_servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    database = urlsplit(settings.database_url or "")
    assert database.hostname in SERVICES
    assert (database.username, database.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
    assert database.path == f"/{postgres['POSTGRES_DB']}"
    assert SERVICES["worker"]["deploy"]["replicas"] <= settings.partitions


def test_every_variable_has_a_value_where_none_is_set() -> None:
    assert "$" not in json.dumps(COMPOSE)


def test_keys_are_those_of_compose() -> None:
    assert set(COMPOSE) == {"name", "x-foreshock", "x-live", "services", "networks", "volumes"}
    assert {key for service in SERVICES.values() for key in service} <= KNOWN


def test_a_client_outside_reaches_what_the_broker_advertises() -> None:
    kafka = SERVICES["kafka"]
    (port,) = kafka["ports"]
    host, outside, inside = port.split(":")
    assert f"HOST://{host}:{outside}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    listeners = dict(each.split("://:") for each in kafka["environment"]["KAFKA_LISTENERS"].split(","))
    assert listeners["HOST"] == inside
    protocols = dict(p.split(":") for p in kafka["environment"]["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert set(listeners) == set(protocols)
    checked = kafka["healthcheck"]["test"]
    assert checked[checked.index("--bootstrap-server") + 1] == f"localhost:{listeners['INTERNAL']}"


def test_volumes_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    folders = {name for name in used if name.startswith("./")}
    assert used - folders == set(COMPOSE["volumes"])
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    assert all(re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image) for image in images), images


def test_prometheus_asks_each_part_where_it_answers() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {
        (name, one["port"])
        for job in config["scrape_configs"]
        for one in job["dns_sd_configs"]
        for name in one["names"]
    }
    assert targets == {(name, int(OURS[name]["environment"]["FORESHOCK_METRICS_PORT"])) for name in RUNNING}
    for name, _ in targets:
        assert f":{OURS[name]['environment']['FORESHOCK_METRICS_PORT']}/livez" in OURS[name]["healthcheck"]["test"][-1]
    (mounted,) = (volume for volume in SERVICES["prometheus"]["volumes"] if volume.startswith("./"))
    inside = mounted.split(":")[1]
    assert f"--config.file={inside}/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert config["rule_files"] == [f"{inside}/alerts.yml"]


def test_grafana_reads_what_the_database_lets_it() -> None:
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/foreshock.yml").read_text())[
        "datasources"
    ]
    addresses = {source["type"]: source["url"].removeprefix("http://") for source in sources}
    assert addresses == {"prometheus": "prometheus:9090", "grafana-postgresql-datasource": "postgres:5432"}
    assert {address.split(":")[0] for address in addresses.values()} <= set(SERVICES)
    password = SERVICES["grafana"]["environment"]["POSTGRES_PASSWORD"]
    assert password == SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_health_is_asked_by_a_command_within_a_time() -> None:
    checks = {name: service["healthcheck"] for name, service in SERVICES.items() if "healthcheck" in service}
    assert set(checks) == {"kafka", "postgres", *RUNNING}
    for check in checks.values():
        assert check["test"][0] == "CMD"
        assert all(re.fullmatch(r"\d+s", check[key]) for key in ("interval", "timeout", "start_period"))
        assert check["retries"] > 1
    user = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert f"--username={user}" in checks["postgres"]["test"]


def test_the_image_is_built_from_what_is_here() -> None:
    assert all((ROOT / service["build"] / "Dockerfile").is_file() for service in OURS.values())
    dockerfile = (ROOT / "Dockerfile").read_text()
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    assert entry is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert json.loads(entry[1])[0] in project["project"]["scripts"]
    python = re.search(r"^FROM python:(\d+\.\d+)", dockerfile, re.MULTILINE)
    assert python is not None
    assert f"Programming Language :: Python :: {python[1]}" in project["project"]["classifiers"]
    taken = {line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {"pyproject.toml", "constraints.txt", "requirements-hashed.txt", project["project"]["readme"], "LICENSE"}
    assert taken == packages | files
    assert all((ROOT / name).exists() for name in taken)


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
    for name in ("sink", "webhooks", "desk"):
        assert needs[name] == dict.fromkeys(("topics", "migrate"), "service_completed_successfully")
    assert SERVICES["proxy"]["depends_on"] == {"desk": {"condition": "service_healthy"}}
    assert all("healthcheck" in SERVICES[name] for name in ("kafka", "postgres", "desk"))


def test_what_is_waited_for_comes() -> None:
    """Nothing waits in a circle, for an end that does not come, or for a health that nobody asks for."""
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert list(TopologicalSorter({name: set(others) for name, others in waits.items()}).static_order())
    for others in waits.values():
        for other, how in others.items():
            ends = SERVICES[other].get("restart") in (None, "no", "on-failure")
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            assert ends == (how["condition"] == "service_completed_successfully")
            assert ends or "healthcheck" in SERVICES[other]


def test_a_published_port_is_published_once() -> None:
    published = [port.rsplit(":", 1)[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


def test_read_only_parts_write_to_what_they_are_given() -> None:
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert "state_dir" not in {name.removeprefix("FORESHOCK_").lower() for name in service["environment"]}


def test_the_desk_is_served_by_https_through_the_proxy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, proxy = SERVICES["desk"], SERVICES["proxy"]
    for variable, value in desk["environment"].items():
        monkeypatch.setenv(variable, str(value))
    settings = load_settings()
    require_safe(settings)
    assert "ports" not in desk
    command = proxy["command"]
    assert command[:2] == ["caddy", "reverse-proxy"], "the image has no entry point"
    assert {word for word in command if word.startswith("-")} <= CADDY_OPTIONS
    assert {"--internal-certs", "--disable-redirects"} <= set(command), "port 80 is not published"
    assert tuple(map(int, proxy["image"].partition(":")[2].split(".")[:2])) >= (2, 7)
    assert proxy["volumes"] == ["proxy:/data"], "where it keeps its authority"
    assert command[command.index("--to") + 1] == f"desk:{settings.desk_port}"
    (published,) = proxy["ports"]
    _, outside, inside = published.split(":")
    public = urlsplit(settings.desk_public_url or "")
    assert (public.scheme, public.port) == ("https", int(outside))
    inner = urlsplit(command[command.index("--from") + 1])
    assert (inner.scheme, inner.hostname, inner.port) == ("https", public.hostname, int(inside))
    assert public.hostname in (allowed_hosts(settings) or ())
    (subnet,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert settings.desk_trusted_proxies == [subnet["subnet"]]


def test_the_key_of_webhooks_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES["webhooks"]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    assert sealing_keys(load_settings()) is not None


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
