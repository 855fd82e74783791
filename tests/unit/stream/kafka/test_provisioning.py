"""Judgements on topics, from what a broker might say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.provisioning import Finding, TopicState, judge_topics, specifications
from stream.settings import Settings

SETTINGS = Settings(partitions=4, topic_prefix="risk.")
WANTED = specifications(SETTINGS)
CHANGELOG = SETTINGS.topics.changelog(SETTINGS.application_id)
ORDER = SETTINGS.topics.order(SETTINGS.application_id)


def states(partitions: Mapping[str, int] = {}, configs: Mapping[str, Mapping[str, str]] = {}) -> dict[str, TopicState]:
    """As specified, but for the topics named."""
    return {
        topic.name: TopicState(
            topic.name,
            partitions.get(topic.name, topic.partitions),
            1,
            {**topic.configs, **configs.get(topic.name, {})},
        )
        for topic in WANTED
    }


def problems(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "ok"]


def test_every_topic_and_the_changelog_are_specified_with_one_partition_count() -> None:
    assert {topic.name for topic in WANTED} == {*SETTINGS.topics.all, CHANGELOG, ORDER}
    assert {topic.partitions for topic in WANTED} == {4}


def test_what_is_kept() -> None:
    configs = {topic.name: topic.configs for topic in WANTED}
    assert configs["risk.profiles"]["cleanup.policy"] == "compact"
    assert configs[CHANGELOG]["cleanup.policy"] == "compact"
    assert configs["risk.repayments"]["retention.ms"] == "-1"
    assert int(configs["risk.dead-letters"]["max.message.bytes"]) == 8 * 1024 * 1024
    assert int(configs["risk.dead-letters"]["retention.ms"]) > 0


def test_as_specified_is_well() -> None:
    assert problems(judge_topics(SETTINGS, WANTED, states())) == []


@given(st.sampled_from(WANTED), st.integers(1, 50))
def test_the_topic_that_differs_is_the_one_named(topic: object, count: int) -> None:
    name = topic.name  # type: ignore[attr-defined]
    found = problems(judge_topics(SETTINGS, WANTED, states({name: count})))
    if count == SETTINGS.partitions:
        assert found == []
        return
    (problem,) = found
    assert problem.level == "error"
    assert f"{name} has {count}" in problem.message
    assert not any(other.name + " has" in problem.message for other in WANTED if other.name != name)


def test_setting_that_differs_from_all_topics_names_the_setting() -> None:
    (problem,) = problems(judge_topics(SETTINGS, WANTED, states({topic.name: 7 for topic in WANTED})))
    assert problem.level == "error"
    assert "FORESHOCK_PARTITIONS=7" in problem.remedy


@pytest.mark.parametrize(
    ("topic", "key", "value", "level"),
    [
        (CHANGELOG, "cleanup.policy", "delete", "error"),
        (CHANGELOG, "cleanup.policy", "compact,delete", "error"),
        ("risk.repayments", "cleanup.policy", "compact", "error"),
        ("risk.transactions", "retention.ms", "604800000", "warning"),
        ("risk.dead-letters", "max.message.bytes", "1048588", "warning"),
    ],
)
def test_setting_of_a_topic_that_loses_records(topic: str, key: str, value: str, level: str) -> None:
    (problem,) = problems(judge_topics(SETTINGS, WANTED, states(configs={topic: {key: value}})))
    assert (problem.level, problem.subject) == (level, f"topic {topic}")
    assert key in problem.remedy


@pytest.mark.parametrize(
    ("topic", "key", "value", "said"),
    [
        ("risk.dead-letters", "retention.ms", "1000", "deleted 0.0 days after their time, the settings say after 90.0"),
        ("risk.dead-letters", "retention.ms", "-1", "kept without limit, the settings say 90.0 days"),
        ("risk.activity", "retention.bytes", "5000000", "deleted when it has 5,000,000 bytes"),
        ("risk.profiles", "delete.retention.ms", "86400000", "may miss that a user was forgotten"),
        (CHANGELOG, "delete.retention.ms", "86400000", "may miss that a user was forgotten"),
        ("risk.profiles", "max.compaction.lag.ms", "9223372036854775807", "may stay in the topic for longer"),
    ],
)
def test_what_is_kept_for_longer_or_shorter_than_the_settings_say_is_told(
    topic: str, key: str, value: str, said: str
) -> None:
    (problem,) = problems(judge_topics(SETTINGS, WANTED, states(configs={topic: {key: value}})))
    assert problem.level == "warning"
    assert said in problem.message
    assert key in problem.remedy


def test_days_of_retention_come_from_the_settings() -> None:
    settings = Settings(input_retention_days=400, output_retention_days=30, dead_letter_retention_days=7)
    configs = {topic.name: topic.configs for topic in specifications(settings)}
    days = {
        name: int(config["retention.ms"]) / 86_400_000 for name, config in configs.items() if "retention.ms" in config
    }
    inputs = dict.fromkeys(("repayments", "transactions", "activity", ORDER), 400)
    assert days == {**inputs, "scores": 30, "alerts": 30, "alert-actions": 30, "dead-letters": 7}
    assert int(configs["profiles"]["delete.retention.ms"]) == 400 * 86_400_000, "tombstones stay as long as events"


def test_settings_that_may_not_be_read_are_not_judged() -> None:
    blind = {name: TopicState(name, 4, 1, {}) for name in states()}
    assert problems(judge_topics(SETTINGS, WANTED, blind)) == []


def test_nothing_there() -> None:
    found = judge_topics(SETTINGS, WANTED, {})
    assert len(found) == len(WANTED)
    assert {finding.remedy for finding in found} == {"create it: `foreshock topics create`"}


def test_fewer_replicas_than_set() -> None:
    settings = Settings(partitions=4, topic_prefix="risk.", replication_factor=3)
    found = problems(judge_topics(settings, specifications(settings), states()))
    assert {finding.level for finding in found} == {"warning"}
    assert len(found) == len(WANTED)


@given(st.data())
def test_every_problem_says_what_to_do(data: st.DataObject) -> None:
    names = [topic.name for topic in WANTED]
    there = data.draw(st.sets(st.sampled_from(names)))
    counts = data.draw(st.dictionaries(st.sampled_from(names), st.integers(1, 9)))
    policies = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["delete", "compact"])))
    given_states = states(counts, {name: {"cleanup.policy": policy} for name, policy in policies.items()})
    found = judge_topics(SETTINGS, WANTED, {name: given_states[name] for name in there})
    assert all(finding.remedy and finding.message for finding in problems(found))
    assert {finding.subject for finding in found} >= {f"topic {name}" for name in names}
