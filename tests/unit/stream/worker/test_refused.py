"""Dead letters go in order, once they may, and several together."""

from __future__ import annotations

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.outputs import DeadLetter
from stream.worker.refused import LETTERS_EVERY_S, MOST_LETTER_BYTES, MOST_LETTERS, LetterBox, RefusedRecords
from tests.examples import dead_letter

INPUT = TP("activity", 0)


def letter(offset: int, value: bytes = b"") -> DeadLetter:
    return dead_letter(offset=offset, value=value)


@given(st.lists(st.integers(0, 30), unique=True).map(sorted), st.lists(st.integers(0, 35)).map(sorted))
def test_those_before_an_offset_are_taken_out_once_and_in_order(offsets: list[int], reached: list[int]) -> None:
    refused, taken = RefusedRecords(), list[int]()
    refused.add(INPUT, map(letter, offsets))
    for offset in reached:
        assert refused.first(INPUT) == next((left for left in offsets if left not in taken), None)
        taken += [one.offset for one in refused.before(INPUT, offset)]
    assert taken == [offset for offset in offsets if reached and offset < reached[-1]]
    assert refused.offsets(INPUT) == set(offsets) - set(taken)


def test_the_first_goes_at_once_and_those_after_it_together() -> None:
    box = LetterBox()
    assert not box.is_due(100.0)
    box.add([letter(1)])
    assert box.is_due(100.0)
    assert [one.offset for one in box.empty(100.0)] == [1]
    box.add([letter(2)])
    box.add([letter(3)])
    assert not box.is_due(100.0 + LETTERS_EVERY_S / 2)
    assert box.is_due(100.1 + LETTERS_EVERY_S)
    assert [one.offset for one in box.empty(101.0)] == [2, 3]
    assert len(box) == 0


def test_many_or_large_ones_do_not_wait() -> None:
    box = LetterBox()
    box.empty(100.0)
    box.add(letter(offset) for offset in range(MOST_LETTERS - 1))
    assert not box.is_due(100.0)
    box.add([letter(MOST_LETTERS)])
    assert box.is_due(100.0)
    box.empty(100.0)
    box.add([letter(1, bytes(MOST_LETTER_BYTES))])
    assert box.is_due(100.0)
    box.clear()
    assert not box.is_due(200.0)
