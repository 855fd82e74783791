"""Gaps between groups: found where there are some, rarely where there are none."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from events.types import Profile
from model.evaluation.panel import Panel
from model.evaluation.segments import MOST_GROUPS, OTHER, UNKNOWN, gaps, gathered, overall, profile_groups, segments
from model.histories.sequences import build_sequences

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)


def a_panel(seed: int, users: int = 1_200, excess: float = 1.0) -> tuple[Panel, np.ndarray]:
    """Calibrated scores, but that the second half of the users fares `excess` times as badly as its scores say."""
    random = np.random.default_rng(seed)
    group = np.where(np.arange(users) < users * 0.55, "a", "b")
    scores = random.beta(1, 6, users)
    happened = random.random(users) < np.clip(scores * np.where(group == "b", excess, 1.0), 0, 1)
    return Panel(np.arange(users), np.zeros(users, np.int64), scores, happened, 90), group


def test_an_underrated_group_shows_in_its_calibration() -> None:
    panel, group = a_panel(1, excess=1.8)
    (gap,) = gaps("field", panel, group, 0.3, resamples=100)
    assert (gap.group, gap.against) == ("b", "a")
    assert gap.gaps["calibration"].low > 0.03
    assert gap.gaps["alert_rate"].low < 0 < gap.gaps["alert_rate"].high


def test_equal_groups_are_rarely_told_apart() -> None:
    marked = 0
    for seed in range(30):
        panel, group = a_panel(seed, users=500)
        (gap,) = gaps("field", panel, group, 0.3, resamples=80)
        marked += sum(each.low > 0 or each.high < 0 for each in gap.gaps.values())
    assert marked / (30 * 4) < 0.15


def test_segments_add_up() -> None:
    panel, group = a_panel(2)
    parts = segments(panel, group, 0.3, resamples=20)
    every = overall(panel, 0.3, resamples=20)
    assert [part.name for part in parts] == ["a", "b"]
    assert sum(part.scores for part in parts) == every.scores == 1_200
    assert sum(part.default_count for part in parts) == every.default_count
    assert sum(part.alert_rate * part.scores for part in parts) == pytest.approx(every.alert_rate * 1_200)
    calm = panel.scores[~panel.happened]
    assert every.false_positive_rate == pytest.approx((calm >= 0.3).mean())
    assert every.observed_low < every.observed < every.observed_high


def test_small_groups_and_too_many_are_put_together() -> None:
    users = np.arange(3_000)
    panel = Panel(users, users * 0, users / 3_000, users % 2 == 0, 90)
    groups = np.array([f"g{int(np.sqrt(user)):02d}" for user in users])
    names = set(gathered(panel, groups))
    assert len(names) <= MOST_GROUPS + 2
    assert OTHER in names
    few = np.where(users < 10, "few", "many")
    assert set(gathered(panel, few)) == {OTHER, "many"}
    assert len(gathered(panel.where(users < 0), few)) == 0


def test_the_latest_profile_says_the_group() -> None:
    def profile(user: str, sex: str | None, number: int) -> Profile:
        return Profile(event_id=f"{user}{number}", user_id=user, occurred_at=START, sex=sex)

    plain = build_sequences([profile("u", "female", 0), profile("v", None, 0), profile("u", "male", 1)])
    assert profile_groups(plain, "sex").tolist() == ["male", UNKNOWN]
    assert profile_groups(plain, "region").tolist() == [UNKNOWN, UNKNOWN]
    with pytest.raises(ValueError, match="no category of a profile"):
        profile_groups(plain, "shoe_size")


def test_one_group_has_no_gap() -> None:
    panel, group = a_panel(3, users=100)
    assert gaps("field", panel, np.full(100, "only"), 0.3) == []
    assert gaps("field", panel, np.where(group == "a", "only", UNKNOWN), 0.3) == []
