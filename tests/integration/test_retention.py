"""What topics keep, on a real broker: as it is, as it should be, and changed to that alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from foreshock import app
from stream.doctor import examine
from stream.kafka.provisioning import DAY_MS, ConfigChange, ProvisioningError, change_configs, topic_states
from stream.kafka.topic_sizes import group_lags, holdings

Deploy = Callable[..., Any]


def command(deployment: Any, *given: str) -> Result:
    settings = deployment.settings
    found = CliRunner().invoke(
        app,
        ["retention", *given, "--bootstrap-servers", str(deployment.kafka), "--topic-prefix", settings.topic_prefix,
         "--application-id", settings.application_id],
    )  # fmt: skip
    assert found.exit_code in (0, 2), found.output
    return found


def test_what_differs_is_shown_and_changed_and_nothing_else(deploy: Deploy) -> None:
    deployment = deploy()
    topics, kafka = deployment.topics, deployment.kafka
    activity, scores = topics.of_kind("activity"), topics.scores
    deployment.send_raw("activity", [(b"u", b"{}")] * 20)
    deployment.send_raw("scores", [(b"u", b"{}")] * 5)
    assert json.loads(command(deployment, "plan", "--json").stdout)["topics"][2]["changes"] == []
    deployment.configure(activity, {"retention.ms": str(10 * DAY_MS), "segment.bytes": "2000000"})
    deployment.configure(scores, {"cleanup.policy": "compact", "segment.ms": "1000000"})

    plan = json.loads(command(deployment, "plan", "--json").stdout)
    by_name = {topic["topic"]: topic for topic in plan["topics"]}
    assert by_name[activity]["kept"]["ms"] == 10 * DAY_MS
    assert 9.9 < by_name[activity]["first_goes_days"] <= 10
    assert (by_name[activity]["size"]["records"], by_name[activity]["size"]["removed"]) == (20, 0)
    assert by_name[activity]["size"]["size_bytes"] > 0
    changes = {(each["topic"], each["key"]): each["wanted"] for topic in by_name.values() for each in topic["changes"]}
    assert changes == {(activity, "retention.ms"): "-1", (scores, "cleanup.policy"): "delete"}
    said = " ".join(finding["message"] for finding in plan["findings"])
    assert "its first records go in" in said
    assert "keep events for different times" in said
    assert plan["offsets_retention_ms"] > 0
    subjects = {finding.subject for finding in examine(deployment.settings, kafka, None) if finding.level != "ok"}
    assert {f"retention of {activity}", "retention of the inputs", f"topic {scores}"} <= subjects

    assert "add --yes" in command(deployment, "apply").output
    before = topic_states(kafka, lambda name: name.startswith(topics.prefix))
    assert "retention.ms 10.0 days → without limit" in command(deployment, "apply", "--yes").stdout
    after = topic_states(kafka, lambda name: name.startswith(topics.prefix))
    different = {
        (name, key): value
        for name, state in after.items()
        for key, value in state.configs.items()
        if before[name].configs[key] != value
    }
    assert different == changes
    assert "nothing to change" in command(deployment, "apply", "--yes").stdout

    with pytest.raises(ProvisioningError, match=rf"refuses retention.ms=never for topic {re.escape(activity)}"):
        change_configs(
            kafka, [ConfigChange(activity, "retention.ms", "-1", "never")], lambda change: pytest.fail(str(change))
        )


def test_what_topics_hold_and_who_is_behind(deploy: Deploy) -> None:
    deployment = deploy()
    topic, kafka, now_ms = deployment.topics.of_kind("activity"), deployment.kafka, time.time_ns() // 1_000_000
    deployment.send_raw("activity", [(b"u", b"{}")] * 3)
    held = holdings(kafka, {topic, "no-such-topic"}, now_ms)
    assert held.free_bytes is not None
    assert held.free_bytes > 0
    assert list(held.topics) == [topic]
    size = held.topics[topic]
    assert size.records == 3
    assert size.oldest_ms is not None
    assert size.newest_ms is not None
    assert now_ms - 60_000 < size.oldest_ms <= size.newest_ms
    assert size.per_day is None, "after seconds nobody knows"
    (lag,) = group_lags(kafka, {"nobody": [topic, "no-such-topic"]})
    assert (lag.group, lag.records, lag.oldest_ms) == ("nobody", 3, size.oldest_ms)
    (empty,) = group_lags(kafka, {"nobody": [deployment.topics.alerts]})
    assert (empty.records, empty.oldest_ms) == (0, None)
