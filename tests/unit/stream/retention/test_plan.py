"""The plan names what differs, what that deletes, and withholds what a reader still needs."""

from __future__ import annotations

from collections.abc import Callable

from stream.kafka.provisioning import DAY_MS, specifications
from stream.kafka.topic_sizes import GroupLag, growth_per_day
from stream.retention.plan import changes_of, make_plan
from stream.retention.rules import Facts
from stream.settings import Settings
from tests.unit.stream.retention.conftest import NOW_MS

FactsOf = Callable[..., Facts]
SETTINGS = Settings(output_retention_days=30)
WANTED = {topic.name: topic for topic in specifications(SETTINGS)}


def test_nothing_to_change_where_all_is_as_specified(facts_of: FactsOf) -> None:
    facts = facts_of(SETTINGS)
    found = make_plan(SETTINGS, facts, changes_of(WANTED, facts), {})
    assert found.changes == []
    assert [topic.name for topic in found.topics] == list(WANTED)


def test_each_change_says_what_it_deletes(facts_of: FactsOf) -> None:
    facts = facts_of(SETTINGS, {"scores": {"retention.ms": "-1"}, "activity": {"cleanup.policy": "compact"}})
    found = make_plan(SETTINGS, facts, changes_of(WANTED, facts), {"scores": 77})
    told = {(change.topic, change.key): (change.found, change.wanted) for change in found.changes}
    assert told == {
        ("scores", "retention.ms"): ("-1", str(30 * DAY_MS)),
        ("activity", "cleanup.policy"): ("compact", "delete"),
    }
    (planned,) = next(topic.changes for topic in found.topics if topic.name == "scores")
    assert (planned.deletes, planned.withheld) == (77, "")


def test_what_the_sink_has_to_read_is_not_deleted(facts_of: FactsOf) -> None:
    for behind_days, withheld in ((29, False), (31, True)):
        lag = GroupLag("foreshock-sink", "scores", 3, NOW_MS - behind_days * DAY_MS)
        facts = facts_of(SETTINGS, {"scores": {"retention.ms": "-1"}}, lags=(lag,))
        found = make_plan(SETTINGS, facts, changes_of(WANTED, facts), {})
        (planned,) = next(topic.changes for topic in found.topics if topic.name == "scores")
        assert bool(planned.withheld) == withheld
        assert len(found.changes) == (not withheld)
        if withheld:
            assert "foreshock-sink has yet to read records of 31.0 days ago" in planned.withheld


def test_keeping_longer_is_never_withheld(facts_of: FactsOf) -> None:
    lag = GroupLag("foreshock", "activity", 3, 0)
    facts = facts_of(SETTINGS, {"activity": {"retention.ms": "5"}}, lags=(lag,))
    assert len(make_plan(SETTINGS, facts, changes_of(WANTED, facts), {}).changes) == 1


def test_topics_of_replays_come_last(facts_of: FactsOf) -> None:
    facts = facts_of(SETTINGS, {"alerts.replay.march": {"cleanup.policy": "delete"}})
    assert [topic.name for topic in make_plan(SETTINGS, facts, [], {}).topics][-1] == "alerts.replay.march"


def test_growth_is_over_the_last_days_or_since_the_first_record() -> None:
    assert growth_per_day(700, NOW_MS - 100 * DAY_MS, NOW_MS) == 100
    assert growth_per_day(700, NOW_MS - 2 * DAY_MS, NOW_MS) == 350
    assert growth_per_day(700, NOW_MS - 1_000, NOW_MS) is None
    assert growth_per_day(0, None, NOW_MS) is None


def test_outputs_that_nobody_needs_for_ever_are_named(facts_of: FactsOf) -> None:
    endless = Settings(output_retention_days=None)
    (advice,) = make_plan(endless, facts_of(endless), [], {}).advice
    assert advice.startswith("scores, alerts and alert-actions (0.0 MB)")
    assert make_plan(SETTINGS, facts_of(SETTINGS), [], {}).advice == ()
