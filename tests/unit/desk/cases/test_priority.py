"""How far ahead a default is, and what comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.cases.priority import lead, priority

RISING = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(
    lambda parts: {str(30 * (n + 1)): p for n, p in enumerate(sorted(parts))}
)


def test_each_step_counts_at_the_middle_of_its_days() -> None:
    found = lead({"30": 0.1, "90": 0.3, "180": 0.4})
    assert found is not None
    assert found.days == pytest.approx((0.1 * 15 + 0.2 * 60 + 0.1 * 135) / 0.4)
    assert found.share == pytest.approx(found.days / 180)
    assert priority(1_000.0, {"90": 0.5}) == pytest.approx(500.0)


def test_what_is_not_known_has_no_priority() -> None:
    assert lead({}) is None
    assert lead({"90": 0.0}) is None
    assert priority(None, {"90": 0.5}) is None
    assert priority(10.0, {}) is None


@given(RISING)
def test_a_default_lies_within_the_longest_horizon(horizons: dict[str, float]) -> None:
    found = lead(horizons)
    if found is not None:
        assert 0 < found.share <= 1
        assert 0 < found.days <= max(map(float, horizons))
