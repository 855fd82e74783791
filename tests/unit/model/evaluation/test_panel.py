"""Which scores count as matured, and that each user counts once a month."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.panel import Panel, month_name, monthly_panel, months_of
from model.histories.labels import NEVER_MS, Truth

DAY_MS = 86_400_000


def day(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


def truth(default_dates: list[str | None], until: str) -> Truth:
    default_date_ms = [NEVER_MS if text is None else day(text) for text in default_dates]
    return Truth(np.array(default_date_ms), np.full(len(default_dates), day(until)))


def test_the_first_matured_score_of_each_month() -> None:
    moments = ["2023-01-03", "2023-01-20", "2023-02-05", "2023-03-05", "2023-01-10", "2023-04-20"]
    times = np.array([day(text) for text in moments])
    users = np.array([0, 0, 0, 0, 1, 1])
    panel = monthly_panel(times, users, np.arange(6) / 10, truth(["2023-03-01", None], "2023-06-01"), 60)
    # User 0's default on 1 March makes the score of 5 March no forecast; user 1's of 20 April is not matured.
    assert panel.users.tolist() == [0, 0, 1]
    assert [month_name(int(month)) for month in panel.months] == ["2023-01", "2023-02", "2023-01"]
    assert panel.scores.tolist() == pytest.approx([0.0, 0.2, 0.4])
    assert panel.happened.tolist() == [True, True, False]
    assert len(panel.latest(1)) == 1


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), max_size=60),
    default_dates=st.lists(st.one_of(st.none(), st.integers(0, 500)), min_size=5, max_size=5),
)
def test_no_user_counts_twice_a_month_nor_after_default(
    rows: list[tuple[int, int]], default_dates: list[int | None]
) -> None:
    rows = sorted(rows)
    users = np.array([user for user, _ in rows], dtype=np.int64)
    times = np.array([number * DAY_MS for _, number in rows], dtype=np.int64)
    default_date_ms = np.array([NEVER_MS if number is None else number * DAY_MS for number in default_dates])
    known = Truth(default_date_ms, np.full(5, 450 * DAY_MS))
    scores = np.arange(len(rows)).astype(np.float64)
    panel = monthly_panel(times, users, scores, known, 90)
    keys = list(zip(panel.users.tolist(), panel.months.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    for row, place in enumerate(panel.scores.astype(int)):
        moment, last = times[place], default_date_ms[panel.users[row]]
        assert moment < last
        assert moment + 90 * DAY_MS <= 450 * DAY_MS
        assert panel.happened[row] == (last - moment <= 90 * DAY_MS)
        assert not ((users == users[place]) & (months_of(times) == panel.months[row]) & (times < moment)).any()


def test_the_choice_of_a_score_does_not_look_at_the_outcome() -> None:
    """With a constant hazard and events at random, as many defaults follow the chosen scores as the hazard says."""
    random = np.random.default_rng(0)
    users, per_day = 4_000, 0.004
    default_date_ms = random.exponential(1 / per_day, users) * DAY_MS
    times = np.sort(random.uniform(0, 300, size=(users, 30)), axis=1) * DAY_MS
    owner = np.repeat(np.arange(users), 30)
    known = Truth(default_date_ms.astype(np.int64), np.full(users, 400 * DAY_MS))
    panel = monthly_panel(times.astype(np.int64).ravel(), owner, np.zeros(users * 30), known, 90)
    assert panel.happened.mean() == pytest.approx(1 - np.exp(-90 * per_day), abs=0.01)


def test_nothing_is_a_panel_too() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    panel = monthly_panel(nothing, nothing, np.zeros(0), truth([None], "2023-01-01"), 90)
    assert len(panel) == 0
    assert isinstance(panel.latest(3), Panel)
