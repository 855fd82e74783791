"""How fast a worker that follows may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.worker.following import Following, Pace


@given(st.floats(1.0, 10_000.0), st.lists(st.tuples(st.integers(0, 500), st.floats(0.0, 3.0)), min_size=1))
def test_no_more_is_taken_than_the_pace_allows(events_per_s: float, batches: list[tuple[int, float]]) -> None:
    """At whatever speed batches are worked on, and after a time in which nothing came."""
    pace, now_s, taken = Pace(events_per_s), 100.0, 0
    for events, work_s in batches:
        taken += events
        now_s += pace.pause_s(events, now_s)
        assert taken <= (now_s - 100.0) * events_per_s + 1e-3
        now_s += work_s


def test_a_time_that_was_idle_is_not_made_up_for() -> None:
    pace = Pace(10.0)
    assert pace.pause_s(10, 0.0) == 1.0
    assert pace.pause_s(0, 100.0) == 0.0
    assert pace.pause_s(10, 100.0) == 1.0


def test_what_of_the_journal_is_not_followed_now_is_read_by_whoever_goes_on() -> None:
    following = Following("order", {0: 10})
    assert [following.follows(0, offset) for offset in (9, 10)] == [True, False]
    assert [following.until(0, position) for position in (4, 10, 25)] == [4, 10, 10]
    assert following.until(1, 25) == 25, "where there is no end, to the last"
