"""Live is what commits while it has work; ready is what works now; the two are told apart, and each with its reason."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.telemetry.health import Health, Progress, Standing

WORKING = Standing(commits=1, polls=1, work=True, partitions=2)


class Part:
    """Says what a test sets."""

    def __init__(self) -> None:
        self.now = WORKING
        self.health = Health(
            lambda: self.now, liveness_timeout_s=10.0, commit_interval_s=2.0, stall_timeout_s=60.0, look_s=1.0
        )

    def looks(self, number: int, loop_stalled_s: float = 0.0, **changes: int) -> None:
        """Look so often, while these counts grow by so much each time."""
        for _ in range(number):
            grown = {name: getattr(self.now, name) + by for name, by in changes.items()}
            self.now = dataclasses.replace(self.now, **grown)
            self.health.look(loop_stalled_s)


@pytest.fixture
def part() -> Part:
    return Part()


def test_what_commits_is_live_however_long_its_work_is(part: Part) -> None:
    part.looks(100, commits=1, polls=1)
    verdict = part.health.liveness()
    assert (verdict.ok, verdict.status, verdict.reason) == (True, "live", "commits what it reads")
    assert json.loads(verdict.as_json()) == {
        "status": "live",
        "reason": "commits what it reads",
        "checkpoint_age_s": 0.0,
        "loop_stalled_s": 0.0,
    }


def test_work_without_a_commit_is_not_live_after_the_limit_and_an_interval(part: Part) -> None:
    part.looks(12, polls=1)
    assert part.health.liveness().ok, "the first look saw the count for the first time"
    part.looks(1, polls=1)
    verdict = part.health.liveness()
    assert not verdict.ok
    assert verdict.reason == "there is work, and nothing was committed for 12 s"
    assert verdict.checkpoint_age_s == 12
    part.looks(1, commits=1, polls=1)
    assert part.health.liveness().ok


def test_what_has_no_work_need_not_commit(part: Part) -> None:
    part.now = dataclasses.replace(WORKING, work=False)
    part.looks(100, polls=1)
    assert part.health.liveness().reason == "has nothing to do"
    part.now = dataclasses.replace(part.now, work=True)
    part.looks(5, polls=1)
    assert part.health.liveness().ok, "time without work does not count"
    assert part.health.checkpoint_age_s == 5


def test_an_excuse_keeps_it_alive_and_starts_the_count_anew(part: Part) -> None:
    part.looks(11)
    part.now = dataclasses.replace(WORKING, excuse="the database is away", unready="the database is away")
    part.looks(100)
    assert part.health.liveness().reason == "waits: the database is away"
    verdict = part.health.readiness()
    assert (verdict.ok, verdict.status, verdict.reason) == (False, "not ready", "the database is away")
    part.now = WORKING
    part.looks(11, polls=1)
    assert part.health.liveness().ok


def test_a_consumer_that_brings_no_polls_is_not_live(part: Part) -> None:
    part.now = dataclasses.replace(WORKING, work=False)
    part.looks(13)
    assert part.health.liveness().reason == "its consumer has brought no poll for 12 s"


def test_who_stands_by_gets_no_polls_and_is_live_and_ready(part: Part) -> None:
    part.now = dataclasses.replace(WORKING, work=False, partitions=0)
    part.looks(100)
    assert part.health.liveness().ok
    assert part.health.readiness().reason == "stands by: all partitions are others'"


def test_a_loop_that_hangs_is_not_live_before_the_process_ends_itself(part: Part) -> None:
    part.looks(1, loop_stalled_s=29.0, commits=1, polls=1)
    assert part.health.liveness().ok
    part.looks(1, loop_stalled_s=30.0, commits=1, polls=1)
    assert part.health.liveness().reason == "its event loop has not turned for 30 s"


def test_what_ends_is_neither_live_nor_ready(part: Part) -> None:
    part.now = dataclasses.replace(WORKING, ends="Fenced: partition 1")
    assert part.health.liveness().reason == "it ends: Fenced: partition 1"
    assert part.health.readiness().reason == "Fenced: partition 1"


def test_ready_says_how_many_partitions(part: Part) -> None:
    assert part.health.readiness().reason == "works on 2 partitions"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_a_count_stands_still_for_as_long_as_it_was_expected_to_grow_and_did_not(
    looks: list[tuple[bool, bool]],
) -> None:
    progress, count, still = Progress(2.0), 0, 0
    for number, (grows, expected) in enumerate(looks):
        count += grows
        still = 0 if grows or not expected or number == 0 else still + 1
        progress.look(count, expected=expected)
        assert progress.stalled_s == 2.0 * still
