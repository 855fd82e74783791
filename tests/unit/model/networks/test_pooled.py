"""A state per contract, pooled: with one contract it is the plain encoder, contracts have no order, and nothing that
comes later counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import Event, Repayment
from model.architectures import Architecture
from model.histories.sequences import Sequences, build_sequences
from model.networks.encoders.encoder import Encoder
from model.networks.pooled import PooledEncoder, PooledModel
from model.networks.risk_model import RiskModel
from model.training.forward_pass import score_users, vocabulary_sizes
from model.training.variations import numbered

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
SMALL = Architecture(hidden=(12, 12, 8), profile_embedding=6, fusion=8)
MakeModel = Callable[..., RiskModel]
MakeNumeric = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def encoder(make_model: MakeModel) -> Encoder:
    return make_model(architecture=SMALL).repayments.double().eval()


def _events(make_numeric: MakeNumeric, numbers: list[list[int]], seed: int) -> tuple[Tensor, Tensor]:
    """Random events of the contracts `numbers`, by user, with padding behind them."""
    random = np.random.default_rng(seed)
    events = max(map(len, numbers))
    numeric = make_numeric(random, "repayments", len(numbers) * events).reshape(len(numbers), events, -1)
    number = np.array([[*mine, *[0] * (events - len(mine))] for mine in numbers], dtype=np.float32)
    numeric[number == 0] = 0.0
    columns = len(COLUMNS["repayments"].categorical)
    codes = random.integers(0, FIRST_CATEGORY_CODE, (len(numbers), events, columns))
    together = np.concatenate([numeric, number[..., None]], axis=2)
    return torch.from_numpy(together).double(), torch.from_numpy(codes)


NUMBERS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=9), min_size=1, max_size=4)


@torch.no_grad()
def test_one_contract_is_the_plain_encoder(encoder: Encoder, make_numeric: MakeNumeric) -> None:
    numeric, codes = _events(make_numeric, [[1] * 9, [1] * 9, [1] * 9], 0)
    plain, plain_logits = encoder.sequence(numeric[..., :-1], codes)
    found, logits = PooledEncoder(encoder).sequence(numeric, codes)
    assert torch.equal(found, torch.cat([plain, plain], -1))
    assert torch.equal(logits, plain_logits)


@settings(deadline=None, max_examples=40)
@given(numbers=NUMBERS, seed=st.integers(0, 1_000))
@torch.no_grad()
def test_after_each_event_the_latest_of_every_contract_counts(
    encoder: Encoder, make_numeric: MakeNumeric, numbers: list[list[int]], seed: int
) -> None:
    numeric, codes = _events(make_numeric, numbers, seed)
    found, _ = PooledEncoder(encoder).sequence(numeric, codes)
    for user, mine in enumerate(numbers):
        latest: dict[int, Tensor] = {}
        for event, number in enumerate(mine):
            so_far = [place for place in range(event + 1) if mine[place] == number]
            own, _ = encoder.sequence(numeric[user : user + 1, so_far, :-1], codes[user : user + 1, so_far])
            latest[number] = own[0, -1]
            held = torch.stack(list(latest.values()))
            expected = torch.cat([held.mean(0), held.amax(0)])
            torch.testing.assert_close(found[user, event], expected, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(numbers=NUMBERS, order=st.permutations([1, 2, 3, 4]), seed=st.integers(0, 1_000))
@torch.no_grad()
def test_other_numbers_for_the_contracts_change_nothing(
    encoder: Encoder, make_numeric: MakeNumeric, numbers: list[list[int]], order: list[int], seed: int
) -> None:
    numeric, codes = _events(make_numeric, numbers, seed)
    other, _ = _events(make_numeric, [[order[number - 1] for number in mine] for mine in numbers], seed)
    found, _ = PooledEncoder(encoder).sequence(numeric, codes)
    again, _ = PooledEncoder(encoder).sequence(other, codes)
    for user, mine in enumerate(numbers):
        torch.testing.assert_close(found[user, : len(mine)], again[user, : len(mine)], rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(numbers=NUMBERS, kept=st.integers(1, 9), seed=st.integers(0, 1_000))
@torch.no_grad()
def test_nothing_that_comes_later_counts(
    encoder: Encoder, make_numeric: MakeNumeric, numbers: list[list[int]], kept: int, seed: int
) -> None:
    numeric, codes = _events(make_numeric, numbers, seed)
    whole, _ = PooledEncoder(encoder).sequence(numeric, codes)
    part, _ = PooledEncoder(encoder).sequence(numeric[:, :kept], codes[:, :kept])
    for user, mine in enumerate(numbers):
        known = min(kept, len(mine))
        torch.testing.assert_close(whole[user, :known], part[user, :known], rtol=0, atol=1e-9)


def _repayments(contracts: dict[str, str | None]) -> list[Event]:
    """Bills of each user in `contracts`, by turns of the user's two contracts, or of the one that is named."""
    return [
        Repayment(
            event_id=f"{user}-{number}",
            user_id=user,
            occurred_at=START + dt.timedelta(days=10 * number),
            kind="due",
            contract_id=only or f"c{number % 2}",
            amount_due=100.0 + number,
            balance=1_000.0 - 10 * number,
            days_past_due=float(number),
        )
        for user, only in contracts.items()
        for number in range(8)
    ]


def _scores(sequences: Sequences, seed: int = 3) -> np.ndarray:
    torch.manual_seed(seed)
    return score_users(PooledModel(SMALL, vocabulary_sizes(sequences.vocabularies)).double(), numbered(sequences))


def test_histories_carry_the_contract_of_each_repayment() -> None:
    sequences = build_sequences(_repayments({"one": "only", "two": None}))
    assert sequences.contract_place.tolist() == [0] * 8 + [0, 1] * 4
    assert numbered(sequences).numeric["repayments"][:, -1].tolist() == [1] * 8 + [1, 2] * 4


def test_the_whole_model_scores_a_user_as_if_alone() -> None:
    together = _scores(build_sequences(_repayments({"one": "only", "two": None})))
    alone = _scores(build_sequences(_repayments({"two": None})))
    np.testing.assert_allclose(together[8:], alone, rtol=0, atol=1e-9)
    assert np.ptp(together[:, 2]) > 1e-4


def test_it_cannot_be_served(encoder: Encoder) -> None:
    with pytest.raises(NotImplementedError, match="is measured, not served"):
        PooledEncoder(encoder).step()
