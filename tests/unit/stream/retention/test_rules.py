"""What is wrong with how long topics keep records, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.provisioning import DAY_MS, Finding, TopicState
from stream.kafka.topic_sizes import GroupLag
from stream.retention.rules import Facts, Kept, days_until_first_goes, judge_retention, kept
from stream.settings import Settings
from tests.unit.stream.retention.conftest import NOW_MS, make_facts, size

FactsOf = Callable[..., Facts]
SETTINGS = Settings(input_retention_days=None, output_retention_days=30)


def days(count: float) -> str:
    return str(round(count * DAY_MS))


def problems(settings: Settings, facts: Facts) -> list[Finding]:
    return [finding for finding in judge_retention(settings, facts) if finding.level != "ok"]


def only(settings: Settings, facts: Facts) -> Finding:
    (found,) = problems(settings, facts)
    assert found.remedy
    return found


def test_what_topics_create_makes_is_well(facts_of: FactsOf) -> None:
    (finding,) = judge_retention(SETTINGS, facts_of(SETTINGS))
    assert finding.level == "ok"


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ({}, None),
        ({"cleanup.policy": "compact", "retention.ms": "5"}, Kept(None, True)),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, Kept(None)),
        ({"cleanup.policy": "delete", "retention.ms": days(50_000)}, Kept(None)),
        ({"cleanup.policy": "delete", "retention.ms": "5"}, Kept(5)),
        ({"cleanup.policy": "compact,delete", "retention.ms": "5"}, Kept(5, True)),
        ({"cleanup.policy": "delete", "retention.bytes": "9"}, Kept(None, False, 9)),
    ],
)
def test_how_long_a_topic_keeps_a_record(configs: dict[str, str], expected: Kept | None) -> None:
    assert kept(TopicState("t", 1, 1, configs)) == expected


def test_days_until_the_first_record_goes() -> None:
    state = TopicState("t", 1, 1, {"cleanup.policy": "delete", "retention.ms": days(12)})
    assert days_until_first_goes(state, size("t"), NOW_MS) == pytest.approx(2)
    assert days_until_first_goes(state, size("t", oldest_ms=NOW_MS - 20 * DAY_MS), NOW_MS) == 0
    assert days_until_first_goes(state, size("t", oldest_ms=None), NOW_MS) is None
    endless = TopicState("t", 1, 1, {"cleanup.policy": "compact"})
    assert days_until_first_goes(endless, size("t"), NOW_MS) is None


@given(st.floats(0, 100), st.sampled_from([1.0, 10.0, 30.0, None]), st.integers(0, 5))
def test_a_reader_that_falls_behind_is_told_of_before_records_go(
    behind_days: float, kept_days: float | None, records: int
) -> None:
    configs = {"scores": {"retention.ms": "-1" if kept_days is None else days(kept_days)}}
    lag = GroupLag("foreshock-sink", "scores", records, NOW_MS - round(behind_days * DAY_MS))
    found = [each for each in problems(SETTINGS, make_facts(SETTINGS, configs, lags=(lag,))) if "sink" in each.message]
    share = 0.0 if kept_days is None or not records else round(behind_days * DAY_MS) / round(kept_days * DAY_MS)
    assert [each.level for each in found] == (["error"] if share >= 1 else ["warning"] if share >= 0.5 else [])


def test_alerts_that_webhooks_were_not_told_of_yet_are_told_of_before_they_go(facts_of: FactsOf) -> None:
    lag = GroupLag("foreshock-webhooks", "alert-actions", 3, NOW_MS - 20 * DAY_MS)
    found = only(SETTINGS, facts_of(SETTINGS, lags=(lag,)))
    assert (found.level, found.subject) == ("warning", "retention of alert-actions")
    assert "group foreshock-webhooks has yet to read 3 that begin 20.0 days ago" in found.message


def test_the_age_of_what_is_unread_that_cannot_be_seen_is_told(facts_of: FactsOf) -> None:
    lag = GroupLag("foreshock-sink", "scores", 5, None)
    assert "cannot be seen" in only(SETTINGS, facts_of(SETTINGS, lags=(lag,))).message


def test_inputs_whose_first_records_are_gone(facts_of: FactsOf) -> None:
    found = only(SETTINGS, facts_of(SETTINGS, sizes={"activity": {"removed": 12_000}}))
    assert "first 12,000 offsets are gone" in found.message
    meant = Settings(input_retention_days=400)
    assert problems(meant, facts_of(meant, sizes={"activity": {"removed": 12_000}})) == []


def test_inputs_whose_first_records_will_go_soon(facts_of: FactsOf) -> None:
    settings = Settings(input_retention_days=20)
    found = problems(settings, facts_of(settings))
    assert {finding.subject.removeprefix("retention of ") for finding in found} == {
        "repayments", "transactions", "activity"
    }  # fmt: skip
    assert all("go in 10.0 days" in finding.message for finding in found)
    assert problems(Settings(input_retention_days=25), facts_of(Settings(input_retention_days=25))) == []


def test_inputs_that_are_kept_for_different_times(facts_of: FactsOf) -> None:
    found = only(SETTINGS, facts_of(SETTINGS, {"activity": {"retention.ms": days(400)}}))
    assert "repayments without limit, transactions without limit, activity for 400.0 days" in found.message


@pytest.mark.parametrize(
    ("journal", "inputs_days", "wrong"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, None, False),
        ({"cleanup.policy": "delete", "retention.ms": days(400)}, None, True),
        ({"cleanup.policy": "delete", "retention.ms": days(400)}, 400, False),
        ({"cleanup.policy": "delete", "retention.ms": days(399)}, 400, True),
        ({"cleanup.policy": "compact"}, None, True),
    ],
)
def test_the_order_is_kept_for_as_long_as_the_inputs(
    journal: dict[str, str], inputs_days: float | None, wrong: bool, facts_of: FactsOf
) -> None:
    settings = Settings(input_retention_days=inputs_days)
    found = problems(settings, facts_of(settings, {"foreshock-order": journal}))
    assert ["order" in finding.subject for finding in found] == [True] * wrong


def test_a_book_that_forgets_what_was_sent_back(facts_of: FactsOf) -> None:
    book: dict[str, Any] = {"dead-letters.sent-back": {"cleanup.policy": "compact,delete"}}
    assert "sent once more" in only(SETTINGS, facts_of(SETTINGS, book)).message
    assert problems(SETTINGS, facts_of(SETTINGS, {"dead-letters.sent-back": {"cleanup.policy": "compact"}})) == []


def test_brokers_that_forget_offsets_soon(facts_of: FactsOf) -> None:
    found = only(SETTINGS, facts_of(SETTINGS, offsets_retention_ms=DAY_MS))
    assert "1.0 days" in found.message
    assert "10080" in found.remedy
    assert problems(SETTINGS, facts_of(SETTINGS, offsets_retention_ms=None)) == []


def test_disks_that_will_be_full_soon(facts_of: FactsOf) -> None:
    """Three inputs and their order are kept without limit, each grows by 1,500 bytes a day; outputs come and go."""
    assert problems(SETTINGS, facts_of(SETTINGS, free_bytes=4 * 1_500 * 31)) == []
    assert "in 29 days" in only(SETTINGS, facts_of(SETTINGS, free_bytes=4 * 1_500 * 29)).message
    still = {name: {"per_day": None} for name in (*SETTINGS.topics.all, "foreshock-order")}
    assert problems(SETTINGS, facts_of(SETTINGS, sizes=still, free_bytes=1)) == []


def test_settings_that_may_not_be_seen_are_not_judged(facts_of: FactsOf) -> None:
    facts = facts_of(SETTINGS, lags=(GroupLag("foreshock-sink", "scores", 5, 0),))
    blind = Facts(NOW_MS, {name: TopicState(name, 4, 1, {}) for name in facts.states}, facts.sizes, facts.lags, None)
    assert problems(SETTINGS, blind) == []
