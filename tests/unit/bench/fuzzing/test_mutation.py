"""Mutations are repeatable, bounded, and reach values that only a grammar knows."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bench.fuzzing.mutation import BYTES, JSON, mutate

EVENT = b'{"event_id":"e1","amount":12.5,"kind":"paid"}'


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(0, 2**32), st.integers(0, 60))
def test_any_input_gives_another_of_bounded_size(content: bytes, other: bytes, seed: int, largest: int) -> None:
    for grammar in (BYTES, JSON):
        found = mutate(content, other, Random(seed), grammar, largest)
        assert len(found) <= largest
        assert found == mutate(content, other, Random(seed), grammar, largest)


def test_most_mutations_change_something() -> None:
    random = Random(1)
    changed = [mutate(EVENT, EVENT, random, JSON, 1_000) != EVENT for _ in range(1_000)]
    assert sum(changed) > 900


def test_values_are_replaced_so_that_the_rest_stays_json() -> None:
    random = Random(1)
    kept = 0
    for _ in range(1_000):
        try:
            found = msgspec.json.decode(mutate(EVENT, EVENT, random, JSON, 10_000))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        kept += isinstance(found, dict) and len(found) == 3
    assert kept > 150
