"""The Kustomize base: valid for Kubernetes, of the least rights, and in agreement with settings, image and commands."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import trustme
import typer.main
import yaml

from desk.app import allowed_hosts
from desk.serving import require_safe
from stream.settings import Settings, SettingsError, load_settings, secret_settings

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"
VERSIONS = ("1.29", "1.33")
"""Kubernetes versions that the manifests are for: the oldest and the newest."""

KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
OBJECTS: dict[str, dict[str, Any]] = {
    f"{one['kind']}/{one['metadata']['name']}": one
    for name in KUSTOMIZATION["resources"]
    for one in yaml.safe_load_all((BASE / name).read_text())
}
OWN = {name: one for name, one in OBJECTS.items() if not one["apiVersion"].startswith("keda.sh/")}
PODS: dict[str, dict[str, Any]] = {
    name: one["spec"]["template"] for name, one in OBJECTS.items() if "template" in one.get("spec", {})
}
SETTINGS = dict(line.split("=", 1) for line in (BASE / "settings.env").read_text().split())
RUNNING = {
    "worker": "StatefulSet/foreshock-worker",
    "sink": "Deployment/foreshock-sink",
    "webhooks": "Deployment/foreshock-webhooks",
    "desk": "Deployment/foreshock-desk",
}
"""The parts that run until they are stopped."""

VARIABLES = {f"FORESHOCK_{field.upper()}" for field in Settings.model_fields}


def container(pod: str) -> dict[str, Any]:
    (found,) = PODS[pod]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_there_is_everything() -> None:
    assert {path.name for path in BASE.glob("*.yaml")} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}
    assert set(OBJECTS) == {
        "ServiceAccount/foreshock",
        "Job/foreshock-topics",
        "Job/foreshock-migrate",
        "Service/foreshock-worker",
        "StatefulSet/foreshock-worker",
        "Deployment/foreshock-sink",
        "Deployment/foreshock-webhooks",
        "Service/foreshock-desk",
        "Deployment/foreshock-desk",
        "PodDisruptionBudget/foreshock-worker",
        "PodDisruptionBudget/foreshock-sink",
        "PodDisruptionBudget/foreshock-webhooks",
        "PodDisruptionBudget/foreshock-desk",
        "NetworkPolicy/foreshock",
        "NetworkPolicy/foreshock-database",
        "NetworkPolicy/foreshock-desk",
        "NetworkPolicy/foreshock-webhooks",
        "TriggerAuthentication/foreshock-kafka",
        "ScaledObject/foreshock-worker",
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OWN)
def test_an_object_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(OWN[name], version, strict=True)


def test_an_object_that_is_not_valid_is_found() -> None:
    wrong = json.loads(json.dumps(OWN["Deployment/foreshock-sink"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_the_least_rights(name: str) -> None:
    pod, own = PODS[name]["spec"], container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["serviceAccountName"] == "foreshock"
    assert pod["automountServiceAccountToken"] is False
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(own["resources"]["requests"]) == {"cpu", "memory"}
    assert set(own["resources"]["limits"]) == {"memory"}


def test_the_user_is_the_images_own() -> None:
    dockerfile = (BASE.parents[2] / "Dockerfile").read_text()
    assert "--uid 10001" in dockerfile


@pytest.mark.parametrize("name", PODS)
def test_what_is_mounted_is_there_and_can_be_written_to_where_it_must(name: str) -> None:
    spec = PODS[name]["spec"]
    claims = [one["metadata"]["name"] for one in OBJECTS[name]["spec"].get("volumeClaimTemplates", [])]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]} | set(claims)
    assert mounts["tmp"] == "/tmp"
    secrets = Path(mounts["secrets"])
    assert Path(SETTINGS["FORESHOCK_SECRETS_DIR"]) == secrets == Path(SETTINGS["FORESHOCK_SSL_CAFILE"]).parent


def environment(name: str) -> dict[str, str]:
    """Variables of a pod: settings that all have, and its own."""
    own = container(name)
    assert own["envFrom"] == [{"configMapRef": {"name": KUSTOMIZATION["configMapGenerator"][0]["name"]}}]
    return SETTINGS | {each["name"]: each["value"] for each in own.get("env", [])}


@pytest.mark.parametrize("name", PODS)
def test_the_settings_take_what_a_pod_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables = environment(name)
    assert set(variables) <= VARIABLES
    (tmp_path / "sasl_password").write_text("s")
    for variable, value in (variables | {"FORESHOCK_SECRETS_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.metrics_port == 9464
    assert not settings.insecure
    assert not {f"FORESHOCK_{secret.upper()}" for secret in secret_settings() if secret != "database_url"} & set(
        variables
    )
    assert "sslmode=verify-full" in variables.get("FORESHOCK_DATABASE_URL", "sslmode=verify-full")


@pytest.mark.parametrize("name", PODS)
def test_the_command_is_one_of_the_command_line(name: str) -> None:
    from foreshock import app

    command: Any = typer.main.get_command(app)
    for word in container(name)["args"]:
        command = command.get_command(None, word)
        assert command is not None, word
    assert not hasattr(command, "commands")


@pytest.mark.parametrize("name", RUNNING.values())
def test_probes_ask_the_paths_that_are_served(name: str) -> None:
    own = container(name)
    (port,) = (one for one in own["ports"] if one["name"] == "metrics")
    assert str(port["containerPort"]) == SETTINGS["FORESHOCK_METRICS_PORT"]
    asked = {kind: own[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: get["path"] for kind, get in asked.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {get["port"] for get in asked.values()} == {port["name"]}
    assert PODS[name]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    assert SETTINGS["FORESHOCK_METRICS_HOST"] == "0.0.0.0", "the kubelet asks from outside the pod"
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > 15


def test_workers_keep_states_on_a_volume_of_their_own() -> None:
    own = container("StatefulSet/foreshock-worker")
    mounts = {mount["name"]: mount["mountPath"] for mount in own["volumeMounts"]}
    assert environment("StatefulSet/foreshock-worker")["FORESHOCK_STATE_DIR"] == mounts["state"]
    assert "replicas" not in OBJECTS["StatefulSet/foreshock-worker"]["spec"], "the autoscaler's"
    assert OBJECTS["StatefulSet/foreshock-worker"]["spec"]["serviceName"] == "foreshock-worker"


def selected(by: dict[str, Any]) -> set[str]:
    """Pods that a selector finds."""
    found = set()
    for name, pod in PODS.items():
        labels = pod["metadata"]["labels"]
        matches = all(labels.get(key) == value for key, value in by.get("matchLabels", {}).items())
        within = all(labels.get(one["key"]) in one["values"] for one in by.get("matchExpressions", []))
        if matches and within:
            found.add(name)
    return found


def test_selectors_find_their_pods() -> None:
    for part, name in RUNNING.items():
        assert selected(OBJECTS[name]["spec"]["selector"]) == {name}
        budget = OBJECTS[f"PodDisruptionBudget/foreshock-{part}"]["spec"]
        assert selected(budget["selector"]) == {name}
        assert budget["maxUnavailable"] == 1
    for part in ("worker", "desk"):
        service = OBJECTS[f"Service/foreshock-{part}"]["spec"]
        assert selected({"matchLabels": service["selector"]}) == {RUNNING[part]}
        assert {one["targetPort"] for one in service["ports"]} <= {
            one["name"] for one in container(RUNNING[part])["ports"]
        }
    for part in ("webhooks", "desk"):
        assert selected(OBJECTS[f"NetworkPolicy/foreshock-{part}"]["spec"]["podSelector"]) == {RUNNING[part]}
    assert selected(OBJECTS["NetworkPolicy/foreshock"]["spec"]["podSelector"]) == set(PODS)
    assert (
        selected(OBJECTS["NetworkPolicy/foreshock-database"]["spec"]["podSelector"])
        == {
            "Deployment/foreshock-sink",
            "Deployment/foreshock-webhooks",
            "Deployment/foreshock-desk",
            "Job/foreshock-migrate",
        }
        == {name for name in PODS if "FORESHOCK_DATABASE_URL" in environment(name)}
    )


def ports(rules: list[dict[str, Any]]) -> Iterator[int]:
    return (port["port"] for rule in rules for port in rule["ports"])


def test_the_network_lets_out_to_what_the_settings_name() -> None:
    policy = OBJECTS["NetworkPolicy/foreshock"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert list(ports(policy["ingress"])) == [int(SETTINGS["FORESHOCK_METRICS_PORT"])]
    brokers = {int(each.rsplit(":", 1)[1]) for each in SETTINGS["FORESHOCK_BOOTSTRAP_SERVERS"].split(",")}
    assert set(ports(policy["egress"])) == {53, *brokers}
    assert list(ports(OBJECTS["NetworkPolicy/foreshock-database"]["spec"]["egress"])) == [5432]


def test_the_desk_is_reached_from_the_ingress_and_by_https_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = RUNNING["desk"]
    variables = environment(name)
    mounts = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    files = [variables[f"FORESHOCK_DESK_TLS_{kind}FILE"] for kind in ("CERT", "KEY")]
    assert {str(Path(file).parent) for file in files} <= mounts
    authority = trustme.CA().issue_cert("desk.example")
    for file, pem in zip(files, (authority.cert_chain_pems[0], authority.private_key_pem), strict=True):
        written = str(tmp_path / Path(file).name)
        pem.write_to_path(written)
        variables = {key: written if value == file else value for key, value in variables.items()}
    (tmp_path / "sasl_password").write_text("s")
    for variable, value in (variables | {"FORESHOCK_SECRETS_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    require_safe(settings)
    with pytest.raises(SettingsError, match="desk_tls_certfile"):
        require_safe(settings.model_copy(update={"desk_tls_certfile": None, "desk_tls_keyfile": None}))
    assert "desk.example" in (allowed_hosts(settings) or ())
    (port,) = (one["containerPort"] for one in container(name)["ports"] if one["name"] == "https")
    assert list(ports(OBJECTS["NetworkPolicy/foreshock-desk"]["spec"]["ingress"])) == [port] == [settings.desk_port]


def test_webhooks_get_out_at_https_and_to_no_private_address() -> None:
    (rule,) = OBJECTS["NetworkPolicy/foreshock-webhooks"]["spec"]["egress"]
    assert list(ports([rule])) == [443]
    for block in (to["ipBlock"] for to in rule["to"]):
        whole = ipaddress.ip_network(block["cidr"])
        assert all(ipaddress.ip_network(one).subnet_of(whole) for one in block["except"])
        # The application's own rules refuse them, too, and all else that is not public.
        assert all(not ipaddress.ip_network(one).is_global for one in block["except"])


def test_workers_scale_on_the_lag_of_all_inputs_up_to_the_partitions() -> None:
    scaled = OBJECTS["ScaledObject/foreshock-worker"]["spec"]
    kind, _, name = "StatefulSet/foreshock-worker".partition("/")
    assert (scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"]) == (kind, name)
    assert scaled["maxReplicaCount"] == int(SETTINGS["FORESHOCK_PARTITIONS"])
    assert 1 <= scaled["minReplicaCount"] <= scaled["maxReplicaCount"]
    (trigger,) = scaled["triggers"]
    asked = trigger["metadata"]
    assert trigger["type"] == "kafka"
    assert "topic" not in asked, "of all topics that the group reads"
    assert {asked["bootstrapServersFromEnv"], asked["consumerGroupFromEnv"]} <= set(SETTINGS)
    assert asked["sasl"] == SETTINGS["FORESHOCK_SASL_MECHANISM"].lower().replace("-", "_").replace("sha_", "sha")
    assert asked["tls"] == "enable"
    assert int(asked["lagThreshold"]) > 0
    assert trigger["authenticationRef"]["name"] == "foreshock-kafka"
    parameters = {
        one["parameter"] for one in OBJECTS["TriggerAuthentication/foreshock-kafka"]["spec"]["secretTargetRef"]
    }
    assert parameters == {"username", "password", "ca"}


def built(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What Kustomize makes of a folder: objects, and the settings."""
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    found = [one for one in yaml.safe_load_all(result.stdout) if one is not None]
    (settings,) = (one for one in found if one["kind"] == "ConfigMap")
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found if one is not settings}, settings


def require_valid(objects: Iterable[dict[str, Any]]) -> None:
    """As Kubernetes checks objects, those of KEDA left out. Raises `kubernetes_validate.ValidationError`."""
    for one in objects:
        if not one["apiVersion"].startswith("keda.sh/"):
            for version in VERSIONS:
                kubernetes_validate.validate(one, version, strict=True)


def pods_of(objects: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in objects.values() if "template" in one.get("spec", {})]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it() -> None:
    objects, settings = built(BASE)
    assert set(objects) == set(OBJECTS)
    assert settings["data"] == SETTINGS
    named = {
        pod["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
        for pod in pods_of(objects)
    }
    assert named == {settings["metadata"]["name"]}
    require_valid([*objects.values(), settings])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_overlay_of_the_guide_builds(tmp_path: Path) -> None:
    (overlay,) = re.findall(r"^```yaml\n(.*?)^```", (BASE.parents[2] / "docs/deploy.md").read_text(), re.M | re.S)
    shutil.copytree(BASE, tmp_path / "base")
    (tmp_path / "overlay").mkdir()
    written = overlay.replace("../foreshock/deploy/kubernetes/base", "../base")
    (tmp_path / "overlay" / "kustomization.yaml").write_text(written)
    objects, settings = built(tmp_path / "overlay")
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"risk"}
    images = {pod["spec"]["template"]["spec"]["containers"][0]["image"] for pod in pods_of(objects)}
    assert images == {"registry.bank.example/foreshock:2026-12-01"}
    require_valid([*objects.values(), settings])
    most = objects["ScaledObject/foreshock-worker"]["spec"]["maxReplicaCount"]
    assert str(most) == settings["data"]["FORESHOCK_PARTITIONS"] == "16"
    assert settings["data"].keys() > SETTINGS.keys()
