import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.comparison.scores import BINS, MOST_SEGMENTS, ScoreShifts
from stream.outputs import LEVELS, Level

scores = st.floats(0, 1)
level = st.sampled_from(LEVELS)
PAIRS = st.lists(st.tuples(scores, scores, level, level, st.sampled_from(["loan", "card"])), max_size=60)

Rows = list[tuple[float, float, Level, Level, str]]


def add(shifts: ScoreShifts, rows: Rows) -> None:
    live, other, live_levels, other_levels, segments = ([row[place] for row in rows] for place in range(5))
    shifts.add(live, other, live_levels, other_levels, {"product": segments})  # type: ignore[arg-type]


@given(PAIRS, st.integers(0, 60))
def test_sums_are_those_of_all_pairs_however_they_come(rows: Rows, at: int) -> None:
    shifts, whole = ScoreShifts(), ScoreShifts()
    add(shifts, rows[:at])
    add(shifts, rows[at:])
    add(whole, rows)
    assert [decile.scores for decile in shifts.deciles()] == [decile.scores for decile in whole.deciles()]
    assert shifts.levels.tolist() == whole.levels.tolist()
    assert shifts.scores == len(rows)
    assert shifts.identical == sum(was == now for was, now, *_ in rows)
    assert shifts.level_changed == sum(was != now for _, _, was, now, _ in rows)
    assert shifts.largest_shift == max((abs(now - was) for was, now, *_ in rows), default=0.0)
    assert shifts.mean_absolute_shift * len(rows) == pytest.approx(sum(abs(now - was) for was, now, *_ in rows))
    assert sum(decile.scores for decile in shifts.deciles()) == len(rows)
    assert sum(decile.mean_live * decile.scores for decile in shifts.deciles()) == pytest.approx(
        sum(was for was, *_ in rows)
    )
    for segment in shifts.segments("product"):
        own = [row for row in rows if row[4] == segment.segment]
        assert (segment.scores, segment.level_changed) == (len(own), sum(row[2] != row[3] for row in own))
        assert segment.mean_shift == pytest.approx(float(np.mean([row[1] - row[0] for row in own])))
    assert sum(segment.scores for segment in shifts.segments("product")) == len(rows)


def test_deciles_are_tenths_of_the_live_scores() -> None:
    live = np.random.default_rng(1).beta(1, 20, 20_000)
    shifts = ScoreShifts()
    shifts.add(live.tolist(), (live * 0.5).tolist(), ["LOW"] * len(live), ["LOW"] * len(live), {})
    deciles = list(shifts.deciles())
    edges = np.quantile(live, np.linspace(0, 1, 11))
    assert [decile.scores for decile in deciles] == pytest.approx([2_000] * 10, rel=0.03)
    assert [decile.live_from for decile in deciles[1:]] == pytest.approx(edges[1:-1], rel=0.02)
    assert [decile.mean_other for decile in deciles] == pytest.approx([decile.mean_live / 2 for decile in deciles])
    assert [(decile.up, decile.down) for decile in deciles] == [(0.0, 1.0)] * 10
    assert all(one.live_to <= two.live_from for one, two in itertools.pairwise(deciles))


def test_the_stability_index_is_zero_for_the_same_scores_and_grows_with_the_shift() -> None:
    live = np.random.default_rng(2).beta(1, 20, 5_000)
    found = []
    for factor in (1.0, 1.2, 2.0):
        shifts = ScoreShifts()
        none: list[Level] = ["LOW"] * len(live)
        shifts.add(live.tolist(), np.minimum(live * factor, 1).tolist(), none, none, {})
        found.append(shifts.population_stability())
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.25
    assert ScoreShifts().population_stability() == 0


def test_the_stability_index_sees_scores_where_no_live_one_is() -> None:
    shifts = ScoreShifts()
    none: list[Level] = ["LOW"] * 1_000
    shifts.add([0.01] * 1_000, [0.5] * 1_000, none, none, {})
    assert shifts.population_stability() > 10


def test_the_ends_of_the_scale_have_bins() -> None:
    shifts = ScoreShifts()
    shifts.add([0.0, 1.0, 0.5], [1.0, 0.0, 0.5], ["LOW"] * 3, ["HIGH", "LOW", "LOW"], {})
    first, middle, last = shifts.deciles()
    assert (first.live_from, last.live_to, middle.mean_shift) == (0.0, 1.0, 0.0)
    assert shifts.levels.tolist() == [[2, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert BINS == 3_200


def test_segments_beyond_the_limit_are_put_together() -> None:
    shifts, count = ScoreShifts(), MOST_SEGMENTS + 5
    shifts.add(
        [0.5] * count, [0.6] * count, ["LOW"] * count, ["LOW"] * count, {"product": [f"p{n}" for n in range(count)]}
    )
    first, *rest = shifts.segments("product")
    assert (first.segment, first.scores, len(rest)) == ("other", 5, MOST_SEGMENTS)
