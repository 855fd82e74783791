"""The held-out share never changes, and neither does an outcome."""

from __future__ import annotations

import dataclasses

import pytest

from model.datasets.dataset import Outcome, in_held_out_share


def test_held_out_is_a_fifth_of_the_clients_and_never_changes():
    ids = [f"client-{number}" for number in range(20_000)]

    assert 0.19 < sum(map(in_held_out_share, ids)) / len(ids) < 0.21
    assert [in_held_out_share(f"u{number:07d}") for number in range(12)] == [
        False, False, False, False, False, False, False, False, False, False, False, True,
    ]  # fmt: skip


def test_an_outcome_cannot_be_changed():
    outcome = Outcome("u1", None, 0)

    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.default_date_ms = 1
