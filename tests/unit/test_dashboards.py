"""Dashboards are JSON that Grafana can load, and show metrics that there are. Their SQL runs in
`tests/integration/test_dashboards.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.telemetry.catalogue import METRICS
from tests.promql import labels, metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
SOURCES: dict[str, str] = {
    source["uid"]: source["type"]
    for source in yaml.safe_load((GRAFANA / "provisioning/datasources/foreshock.yml").read_text())["datasources"]
}
SAMPLES = {name for metric in METRICS.values() for name in metric.sample_names}
OF_PROCESSES = {"process_resident_memory_bytes"}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
RULES = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text()))


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []) if "expr" in target)


def filled_in(expression: str) -> str:
    """As Grafana asks it of Prometheus, with a value for the interval; other variables stand in quotes."""
    return expression.replace("$__rate_interval", "5m")


def test_there_are_two() -> None:
    assert set(DASHBOARDS) == {"operations", "portfolio"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == 2


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_of_their_own_a_place_and_a_description(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_data_source_that_is_provisioned(name: str) -> None:
    panels = [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]
    variables = DASHBOARDS[name]["templating"]["list"]
    for asking in (*panels, *(target for panel in panels for target in panel["targets"]), *variables):
        assert SOURCES[asking["datasource"]["uid"]] == asking["datasource"]["type"]
    for target in (target for panel in panels for target in panel["targets"]):
        assert ("expr" in target) == (target["datasource"]["type"] == "prometheus")
        assert ("rawSql" in target) != ("expr" in target)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_expressions_name_metrics_labels_and_variables_that_there_are(name: str) -> None:
    variables = {variable["name"] for variable in DASHBOARDS[name]["templating"]["list"]}
    found = list(expressions(DASHBOARDS[name]))
    assert found
    for expression in found:
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}
        named = metrics(filled_in(expression))
        assert named <= SAMPLES | OF_PROCESSES, expression
        known = {label for metric in METRICS.values() if named & set(metric.sample_names) for label in metric.labels}
        assert labels(filled_in(expression)) <= known | LABELS_OF_PROMETHEUS, expression
    for variable in DASHBOARDS[name]["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.+), job\)", variable["query"]["query"])
        assert asked is not None
        assert metrics(asked[1]) <= SAMPLES


@pytest.mark.parametrize("name", DASHBOARDS)
def test_rules_that_a_description_names_exist(name: str) -> None:
    descriptions = " ".join(panel.get("description", "") for panel in DASHBOARDS[name]["panels"])
    assert set(re.findall(r"Foreshock[A-Z]\w+", descriptions)) <= RULES


def test_most_metrics_are_shown() -> None:
    shown = {
        name
        for dashboard in DASHBOARDS.values()
        for expression in expressions(dashboard)
        for name in metrics(filled_in(expression))
    }
    of_parts = [metric for metric in METRICS.values() if "drift" not in metric.sources]
    unseen = {metric.name for metric in of_parts if not set(metric.sample_names) & shown}
    assert unseen <= {"foreshock_contracts_evicted_total"}


def test_dashboards_are_provisioned_from_where_compose_mounts_them() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/foreshock.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
