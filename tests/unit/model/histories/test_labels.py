from __future__ import annotations

import datetime as dt

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from events.types import Activity
from model.datasets.dataset import Outcome
from model.histories.labels import NEVER_MS, Truth, known_by, targets, truth_of, within_horizons
from model.histories.sequences import build_sequences
from model.networks.likelihood import hazard_loss

DAY = 86_400_000
HORIZONS = (30, 60, 90, 180)


def _truth(defaulted_day: float | None, until_day: float) -> Truth:
    default_date_ms = NEVER_MS if defaulted_day is None else int(defaulted_day * DAY)
    return Truth(np.array([default_date_ms]), np.array([int(until_day * DAY)]))


@settings(deadline=None, max_examples=300)
@given(day=st.integers(0, 300), defaulted_day=st.one_of(st.none(), st.integers(0, 400)), until=st.integers(0, 500))
def test_targets_against_their_definition(day: int, defaulted_day: int | None, until: int) -> None:
    found = targets(np.array([day * DAY]), np.array([0]), _truth(defaulted_day, until), HORIZONS)
    low = 0
    for interval, high in enumerate(HORIZONS):
        observed = min(max((until - day - low) / (high - low), 0.0), 1.0)
        over = defaulted_day is not None and defaulted_day - day <= low
        observed_share = 0.0 if over else observed
        assert found.observed_share[0, interval] == np.float32(observed_share)
        inside = defaulted_day is not None and low < defaulted_day - day <= high
        assert found.happened[0, interval] == (inside and observed_share > 0)
        low = high


def test_nothing_on_or_after_the_default_date_is_an_example() -> None:
    times = np.array([99, 100, 101]) * DAY
    found = targets(times, np.zeros(3, np.int64), _truth(100, 500), HORIZONS)
    assert found.observed_share.sum(1).tolist() == [1.0, 0.0, 0.0]
    _, known = within_horizons(times, np.zeros(3, np.int64), _truth(100, 500), HORIZONS)
    assert known.any(1).tolist() == [True, False, False]


def test_an_outcome_is_known_only_when_the_whole_horizon_was_observed() -> None:
    # Equally for a default on day 10 and for none: else near defaults would be kept and near non-defaults dropped.
    for defaulted_day in (10, None):
        happened, known = within_horizons(np.array([0]), np.array([0]), _truth(defaulted_day, 45), HORIZONS)
        assert known.tolist() == [[True, False, False, False]]
        assert bool(happened[0, 0]) is (defaulted_day is not None)


def test_a_cutoff_hides_what_came_later() -> None:
    truth = Truth(np.array([50, 80]) * DAY, np.array([200, 200]) * DAY)
    known = known_by(truth, 60 * DAY)
    assert known.default_date_ms.tolist() == [50 * DAY, NEVER_MS]
    assert known.observation_end_ms.tolist() == [60 * DAY, 60 * DAY]


def test_a_user_in_default_is_observed_to_the_end_of_the_data() -> None:
    moment = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
    users = ("defaulted", "censored", "unknown")
    events = [Activity(event_id=user, user_id=user, occurred_at=moment, kind="session") for user in users]
    outcomes = {
        "defaulted": Outcome("defaulted", default_date_ms=5 * DAY, observation_end_ms=5 * DAY),
        "censored": Outcome("censored", default_date_ms=None, observation_end_ms=7 * DAY),
        "elsewhere": Outcome("elsewhere", default_date_ms=None, observation_end_ms=9 * DAY),
    }
    truth = truth_of(build_sequences(events), outcomes)
    assert truth.default_date_ms.tolist() == [5 * DAY, NEVER_MS, NEVER_MS]
    assert truth.observation_end_ms.tolist() == [9 * DAY, 7 * DAY, 0]


def test_the_loss_finds_the_true_hazard_under_censoring() -> None:
    """A constant rate, observed for random times: the fitted hazards must be those of the rate."""
    random = np.random.default_rng(0)
    users, rate = 60_000, 1 / 200
    default_date_ms = random.exponential(1 / rate, users) * DAY
    until = random.uniform(5, 200, users) * DAY
    seen = np.where(default_date_ms < until, default_date_ms, NEVER_MS).astype(np.int64)
    found = targets(np.zeros(users, np.int64), np.arange(users), Truth(seen, until.astype(np.int64)), HORIZONS)
    logits = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=60, line_search_fn="strong_wolfe")
    observed_share, happened = torch.from_numpy(found.observed_share), torch.from_numpy(found.happened).float()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = hazard_loss(logits.expand(users, 4), observed_share, happened)
        loss.backward()
        return loss

    optimiser.step(closure)
    lengths = np.diff([0, *HORIZONS])
    np.testing.assert_allclose(torch.sigmoid(logits.detach()).numpy(), 1 - np.exp(-rate * lengths), rtol=0.06)


def test_unobserved_intervals_have_no_gradient_and_no_infinities() -> None:
    logits = torch.tensor([[-30.0, 30.0, 0.0], [30.0, -30.0, 2.0]], requires_grad=True)
    observed_share = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]])
    loss = hazard_loss(logits, observed_share, torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[observed_share == 0] == 0).all()
