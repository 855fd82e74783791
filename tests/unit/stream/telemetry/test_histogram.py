"""A histogram says what counting one value after the other would say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.telemetry.histogram import Histogram

values = st.lists(st.floats(0, 1e6, width=32), max_size=40)
bounds = st.lists(st.floats(0, 1e5, width=32), min_size=1, max_size=8, unique=True).map(sorted)


@given(bounds, st.lists(values, max_size=4))
def test_counts_what_does_not_exceed_each_bound(bounds: list[float], batches: list[list[float]]) -> None:
    histogram = Histogram(bounds)
    for batch in batches:
        histogram.observe(np.array(batch, dtype=np.float32))
    seen = [value for batch in batches for value in batch]
    expected = [sum(value <= bound for value in seen) for bound in bounds]
    assert [count for _, count in histogram.cumulative()] == [*expected, len(seen)]
    assert [bound for bound, _ in histogram.cumulative()] == [*map(str, histogram.bounds), "+Inf"]
    assert histogram.count == len(seen)
    assert np.isclose(histogram.total, sum(seen), rtol=1e-6)


@given(bounds, st.floats(0, 1e6), st.integers(0, 5))
def test_one_value_many_times_is_that_value_in_a_batch(bounds: list[float], value: float, times: int) -> None:
    one, other = Histogram(bounds), Histogram(bounds)
    one.observe_one(value, times)
    other.observe(np.full(times, value))
    assert one.cumulative() == other.cumulative()
    assert np.isclose(one.total, other.total)
