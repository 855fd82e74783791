from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.webhooks.schedule import (
    DELIVERY_LONGEST_S,
    RECEIVER_LONGEST_S,
    STRUGGLING_FAILURES,
    Answer,
    Outcome,
    delivery_pause_s,
    receiver_pause_s,
)

CHANCES = st.floats(0, 1)


@given(st.integers(1, 10_000), CHANCES)
def test_pauses_grow_up_to_a_limit(attempts: int, chance: float) -> None:
    pause_s = delivery_pause_s(attempts, chance)
    assert 2.5 <= pause_s <= DELIVERY_LONGEST_S
    assert delivery_pause_s(attempts + 1, chance) >= pause_s
    assert 0 <= receiver_pause_s(attempts, chance) <= RECEIVER_LONGEST_S


def test_ten_tries_take_about_a_day() -> None:
    assert 0.5 * 86_400 < sum(delivery_pause_s(attempts, 0.9) for attempts in range(1, 10)) < 1.2 * 86_400


@given(CHANCES, CHANCES)
def test_chance_spreads_pauses_over_a_half(one: float, other: float) -> None:
    assert delivery_pause_s(3, one) <= 2 * delivery_pause_s(3, other)


def test_a_receiver_is_left_alone_after_some_failures() -> None:
    assert [receiver_pause_s(failures, 1) for failures in range(1, STRUGGLING_FAILURES)] == [0.0, 0.0]
    assert receiver_pause_s(STRUGGLING_FAILURES, 1) == 1.0
    assert receiver_pause_s(STRUGGLING_FAILURES + 3, 1) == 8.0


@given(st.floats(allow_nan=False), st.integers(1, 100))
def test_a_receiver_cannot_put_us_off_for_long(wait_s: float, attempts: int) -> None:
    assert receiver_pause_s(1, 1, wait_s) <= RECEIVER_LONGEST_S
    assert delivery_pause_s(attempts, 1, wait_s) <= DELIVERY_LONGEST_S


def test_a_receiver_that_asks_for_a_pause_gets_it() -> None:
    assert receiver_pause_s(1, 0, 30.0) == 30.0
    assert delivery_pause_s(1, 0, 30.0) == 30.0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Outcome.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Outcome.REFUSED) for status in (100, 301, 302, 307, 400, 401, 403, 404, 422)),
        *((status, Outcome.UNAVAILABLE) for status in (None, 408, 425, 429, 500, 502, 503, 504)),
        (410, Outcome.GONE),
    ],
)
def test_what_an_answer_means(status: int | None, outcome: Outcome) -> None:
    assert Answer(status).outcome is outcome
