"""How long a topic keeps what it holds about somebody who was forgotten, in words."""

from __future__ import annotations

import pytest

from stream.kafka.provisioning import TopicState, specifications
from stream.people.places import kept
from stream.settings import load_settings


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, "without limit (retention.ms)"),
        ({"cleanup.policy": "delete", "retention.ms": "86400000"}, "at most about 1.0 days after the record's time"),
        ({"cleanup.policy": "compact", "max.compaction.lag.ms": "604800000"}, "at most about 7.0 days after the tom"),
        ({"cleanup.policy": "compact", "max.compaction.lag.ms": "9223372036854775807"}, "without limit"),
        ({"cleanup.policy": "compact,delete", "retention.ms": "86400000"}, ", or at most about 1.0 days"),
        ({}, "could not be read"),
    ],
)  # fmt: skip
def test_in_words(configs: dict[str, str], said: str) -> None:
    assert said in kept(TopicState("topic", 1, 1, configs))


def test_of_the_topics_that_we_make() -> None:
    settings = load_settings(input_retention_days=400)
    said = {topic.name: kept(TopicState(topic.name, 1, 1, topic.configs)) for topic in specifications(settings)}
    assert "400.0 days" in said["activity"]
    assert "7.0 days" in said["profiles"]
    assert "7.0 days" in said[settings.topics.changelog(settings.application_id)]
    assert "90.0 days" in said["dead-letters"]
    assert "without limit" in said["scores"]
