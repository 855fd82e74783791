"""Alert rules name metrics and labels that there are, and lead to a section of the runbook, which has no others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.telemetry.catalogue import LABELS, METRICS
from tests.promql import labels, metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
GROUPS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()

SAMPLES = {name for metric in METRICS.values() for name in metric.sample_names}
OF_PROMETHEUS = {"up"}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
QUESTIONS = ["Symptom", "Cause", "Command", "When to worry"]


def test_each_rule_has_a_name_of_its_own() -> None:
    assert sum(len(group["rules"]) for group in GROUPS) == len(RULES) > 20
    assert len({group["name"] for group in GROUPS}) == len(GROUPS)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_of_the_right_shape(name: str) -> None:
    rule = RULES[name]
    assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Foreshock([A-Z][a-z]+)+", name)
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert told <= labels(rule["expr"]) | set(LABELS) | LABELS_OF_PROMETHEUS


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_metrics_and_labels_that_there_are(name: str) -> None:
    expression = RULES[name]["expr"]
    named = metrics(expression)
    assert named
    assert named <= SAMPLES | OF_PROMETHEUS
    known = {label for metric in METRICS.values() if named & set(metric.sample_names) for label in metric.labels}
    assert labels(expression) <= known | LABELS_OF_PROMETHEUS


def test_every_rule_leads_to_its_section_of_the_runbook_and_no_section_is_of_another() -> None:
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    sections = re.findall(r"^## (.+)$", RUNBOOK, re.M)
    assert sorted(sections) == sorted(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_section_answers_the_questions_of_whoever_is_called(name: str) -> None:
    section = RUNBOOK.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*:", section, re.M) == QUESTIONS
    assert "`" in section.partition("**Command**")[2].partition("**When")[0]


def test_the_runbook_names_metrics_that_there_are() -> None:
    assert set(re.findall(r"foreshock_\w+[a-z]", RUNBOOK)) <= set(METRICS) | {"foreshock_reader"}


def test_prometheus_reads_the_rules_and_asks_the_parts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert [Path(path).name for path in config["rule_files"]] == ["alerts.yml"]
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert jobs == {"foreshock-worker", "foreshock-sink", "foreshock-webhooks", "foreshock-desk"}
    down = RULES["ForeshockDown"]["expr"]
    pattern = re.search(r'job=~"([^"]+)"', down)
    assert pattern is not None
    assert all(re.fullmatch(pattern[1], job) for job in jobs)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only", "prometheus.yml")]
)
def test_promtool_takes_rules_and_configuration(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
