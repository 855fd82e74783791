"""Augmentation changes what it says, as much as it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from events.columns import COLUMNS, FIRST_CATEGORY_CODE, UNSEEN_CODE
from events.types import KINDS, Event
from model.histories.sequences import build_sequences
from model.training.augmentation import GAPS, SIZES, Augmentation, pace
from model.training.batches import Batch, pad


@pytest.fixture
def batch(make_history: Callable[..., list[Event]]) -> Batch:
    sequences = build_sequences([event for user in range(4) for event in make_history(f"u{user}", 60, user)])
    return pad(sequences, np.arange(4), np.diff(sequences.merged_starts))


def test_what_is_off_draws_nothing_and_changes_nothing(batch: Batch) -> None:
    state = torch.get_rng_state()
    assert Augmentation().numeric(batch) is batch.numeric
    assert torch.equal(state, torch.get_rng_state())


def test_jitter_scales_an_event_s_amounts_by_one_factor_and_leaves_the_rest(batch: Batch) -> None:
    torch.manual_seed(1)
    changed = Augmentation(jitter=0.2).numeric(batch)
    for kind in KINDS:
        names = COLUMNS[kind].numeric_inputs
        sizes = [names.index(name) for name in SIZES[kind]]
        others = [position for position in range(len(names)) if position not in sizes]
        before, after = batch.numeric[kind], changed[kind]
        assert torch.equal(before[..., others].nan_to_num(), after[..., others].nan_to_num())
        assert torch.equal(before.isnan(), after.isnan())
        factors = (after / before)[..., sizes]
        known = factors.isfinite() & (before[..., sizes].abs() > 1e-3)
        logs = factors.log()[known]
        assert logs.numel() > 20
        assert 0.1 < float(logs.std()) < 0.3
        spread = torch.where(known, factors, torch.nan)
        highest = torch.where(known, spread, -torch.inf).amax(-1)
        lowest = torch.where(known, spread, torch.inf).amin(-1)
        several = known.sum(-1) > 1
        torch.testing.assert_close(highest[several], lowest[several], rtol=1e-5, atol=1e-6)


def test_time_warp_changes_gaps_alone_and_all_kinds_of_a_user_alike(batch: Batch) -> None:
    torch.manual_seed(1)
    changed = Augmentation(time_warp=0.3).numeric(batch)
    firsts = []
    for kind in KINDS:
        names = COLUMNS[kind].numeric_inputs
        gap = names.index("gap_days")
        others = [position for position, name in enumerate(names) if name not in GAPS]
        assert torch.equal(batch.numeric[kind][..., others].nan_to_num(), changed[kind][..., others].nan_to_num())
        ratio = changed[kind][..., gap] / batch.numeric[kind][..., gap]
        # The second event of a kind, whose gap is the first that is known, has the pace of nearly the first knot.
        firsts.append(ratio[:, 1].log())
    assert float(torch.stack(firsts).nan_to_num().abs().max()) > 0.02
    same_sign = torch.stack(firsts).nan_to_num().sign()
    assert bool(((same_sign.amax(0) - same_sign.amin(0)) < 2).all())


@settings(deadline=None, max_examples=40)
@given(events=st.integers(1, 50), values=st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_the_pace_runs_through_its_knots_and_stays_between_them(events: int, values: list[float]) -> None:
    factors = pace(torch.tensor([values]), events)
    assert factors.shape == (1, events)
    logs = factors.log()[0]
    assert min(values) - 1e-5 <= float(logs.min()) <= float(logs.max()) <= max(values) + 1e-5
    assert abs(float(logs[0]) - values[0]) < 1e-5
    if events > 1:
        assert abs(float(logs[-1]) - values[-1]) < 1e-5


def test_known_categories_become_unseen_at_the_rate_given(batch: Batch) -> None:
    torch.manual_seed(1)
    changed = Augmentation(unseen_rate=0.5).categorical(batch)
    known = torch.cat([(codes >= FIRST_CATEGORY_CODE).flatten() for codes in batch.categorical.values()])
    now_unseen = torch.cat(
        [((changed[k] == UNSEEN_CODE) & (batch.categorical[k] != UNSEEN_CODE)).flatten() for k in KINDS]
    )
    assert 0.4 < float(now_unseen.sum() / known.sum()) < 0.6
    assert not bool((now_unseen & ~known).any())
    assert 0.6 < float(Augmentation(blank_rate=0.3).keep(1_000).mean()) < 0.8


@pytest.mark.parametrize("values", [{"jitter": -0.1}, {"time_warp": 5.0}, {"blank_rate": 1.0}, {"unseen_rate": -1}])
def test_impossible_amounts_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Augmentation(**values)
