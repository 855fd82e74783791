"""A shadow scores what live workers score, in their order, into topics of its own, and is compared with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bench.challenger import challenger_of
from foreshock import app
from model.datasets.sources import open_dataset
from stream.settings import PRETRAINED_BUNDLE
from stream.topics import shadow_application

Deploy = Callable[..., Any]


@pytest.fixture(scope="module")
def live(deploy_shared: Deploy) -> Any:
    """A portfolio that came in parts, so that topics interleave as they came and not as the events happened. One of
    its users, who had an alert, is `forgotten`."""
    deployment = deploy_shared(batch_max_records=200, partitions=2)
    events = list(open_dataset("simulator", users=40, months=6, seed=5).events())
    with deployment.running("worker") as worker:
        for start in range(0, len(events), 600):
            deployment.publish(events[start : start + 600])
        deployment.wait_until_scored(worker)
        alert = next(record for record in deployment.records(deployment.topics.alerts))
        deployment.send_raw("profiles", [(alert.key, None)], alert.partition)
        deployment.wait_until_scored(worker)
        deployment.wait_until_scored(worker)
    deployment.forgotten = alert.key.decode()
    return deployment


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return challenger_of(PRETRAINED_BUNDLE, tmp_path_factory.mktemp("bundles") / "lenient")


def foreshock(deployment: Any, *arguments: str) -> Result:
    options = ["--bootstrap-servers", str(deployment.kafka), "--topic-prefix", deployment.topics.prefix]
    return CliRunner().invoke(app, [*arguments, *options])


@contextmanager
def shadow(deployment: Any, name: str, bundle: Path, number: int = 0) -> Iterator[Any]:
    with deployment.running(f"shadow run {name}", f"{name}-{number}", bundle=bundle) as process:
        yield process


def scored(deployment: Any, name: str, process: Any) -> None:
    """Until the shadow has committed all that the input topics hold."""
    group, inputs = shadow_application(deployment.settings.application_id, name), deployment.topics.inputs
    deployment.wait(lambda: deployment.committed(group, inputs) == deployment.size(*inputs), "shadow", process)


def by_id(deployment: Any, topic: str, key: str) -> dict[str, bytes]:
    """Outputs without those of the user who was forgotten: a shadow that comes later scores none of them."""
    values = [record.value for record in deployment.records(topic) if record.value is not None]
    outputs = [(json.loads(value), value) for value in values]
    found = [(output[key], value) for output, value in outputs if output["user_id"] != deployment.forgotten]
    assert len(dict(found)) == len(found), "each once"
    return dict(found)


def report(deployment: Any, *arguments: str) -> Any:
    result = foreshock(deployment, "shadow", "report", *arguments, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_the_same_bundle_says_the_same_and_leaves_the_live_topics_alone(live: Any) -> None:
    """Also when it is killed on its way."""
    before = {topic: live.size(topic) for topic in live.topics.all}
    outputs = live.topics.shadow_scores("twin"), live.topics.shadow_alerts("twin")
    with shadow(live, "twin", PRETRAINED_BUNDLE) as process:
        group = shadow_application(live.settings.application_id, "twin")
        live.wait(lambda: live.committed(group, live.topics.inputs) > 0, "a commit", process)
        live.kill(process)
    with shadow(live, "twin", PRETRAINED_BUNDLE, 1) as process:
        scored(live, "twin", process)
    assert {topic: live.size(topic) for topic in live.topics.all} == before
    for topic, own, key in zip(
        (live.topics.scores, live.topics.alerts), outputs, ("score_id", "transition_id"), strict=True
    ):
        assert by_id(live, own, key) == by_id(live, topic, key)
    found = report(live, "twin")
    assert (
        found["scores"]["compared"] == found["scores"]["identical"] == len(by_id(live, live.topics.scores, "score_id"))
    )
    assert (found["scores"]["order_differs"], found["scores"]["level_changed"], found["not_compared"]) == (0, 0, {})
    alerts = found["alerts"]
    assert alerts["same"] == alerts["live"] == alerts["shadow"] > 0
    assert alerts["gained"] == alerts["lost"] == alerts["earlier"] == alerts["later"] == 0


def test_another_bundle_is_compared_and_removed(live: Any, lenient: Path, tmp_path: Path) -> None:
    before = {topic: live.size(topic) for topic in live.topics.all}
    with shadow(live, "lenient", lenient) as process:
        scored(live, "lenient", process)
        found = report(live, "lenient")
        refused = foreshock(live, "shadow", "remove", "lenient", "--application-id", live.settings.application_id)
        assert refused.exit_code == 1
        assert "stop them first" in refused.stderr
    scores, alerts = found["scores"], found["alerts"]
    assert scores["identical"] == scores["compared"] == sum(decile["scores"] for decile in scores["deciles"]) > 0
    assert (
        scores["level_changed"]
        == scores["levels"]["LOW"]["MEDIUM"] + scores["levels"]["LOW"]["HIGH"] + (scores["levels"]["MEDIUM"]["HIGH"])
    )
    assert scores["level_changed"] > 0
    assert alerts["shadow"] > alerts["live"]
    assert alerts["gained"] + alerts["earlier"] > 0
    assert alerts["lost"] + alerts["later"] < alerts["gained"] + alerts["earlier"]
    assert len(found["live_models"]) == len(found["shadow_models"]) == 1
    assert found["live_models"] != found["shadow_models"]
    assert sum(each["scores"] for each in found["products"]) == scores["compared"]
    assert {each["segment"] for each in found["products"]} != {"unknown"}
    assert found["segments"] == {}

    part = report(live, "lenient", "--from", "2023-03-01", "--to", "2023-04-01", "--report", str(tmp_path / "r.json"),
                  "--segment", "region", "--segment", "marital_status")  # fmt: skip
    live_scores = [json.loads(value) for value in by_id(live, live.topics.scores, "score_id").values()]
    assert part["scores"]["compared"] == sum(
        "2023-03-01" <= score["occurred_at"] < "2023-04-01" for score in live_scores
    )
    assert json.loads((tmp_path / "r.json").read_text()) == part
    assert set(part["segments"]) == {"region", "marital_status"}
    for segments in part["segments"].values():
        assert sum(each["scores"] for each in segments) == part["scores"]["compared"]
        assert len(segments) > 1
    said = foreshock(live, "shadow", "report", "lenient", "--segment", "marital_status")
    assert said.exit_code == 0, said.stderr
    for words in ("scores compared", "gained / lost", "decile", "product", "marital status", "shadow MEDIUM"):
        assert words in said.stdout

    removed = foreshock(live, "shadow", "remove", "lenient", "--application-id", live.settings.application_id)
    assert removed.exit_code == 0, removed.stderr
    for what in (live.topics.shadow_scores("lenient"), live.topics.shadow_alerts("lenient"), "-changelog", "group"):
        assert what in removed.stdout
    gone = foreshock(live, "shadow", "report", "lenient")
    assert gone.exit_code == 1
    assert "does not exist" in gone.stderr
    assert {topic: live.size(topic) for topic in live.topics.all} == before
