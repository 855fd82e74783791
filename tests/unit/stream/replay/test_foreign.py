"""What others wrote into output topics is left out and told of once."""

from __future__ import annotations

import pytest

from stream.kafka.record import RawRecord
from stream.outputs import DeadLetter, encode_output
from stream.replay.foreign import ForeignRecords, OutputValues
from stream.scoring.intake import dead_letter

LETTERS = [dead_letter(RawRecord("activity", 0, offset, 0, b"u", b"{"), "not_json", "cut off") for offset in range(3)]


def test_ours_come_with_their_bytes_and_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    ours = [encode_output(letter) for letter in LETTERS]
    foreign = ForeignRecords()
    letters = OutputValues("dead-letters", DeadLetter, foreign)
    found = list(letters.of([None, ours[0], b"\xff", b"[" * 5_000, ours[1]]))
    assert found == [(LETTERS[0], ours[0]), (LETTERS[1], ours[1])]
    assert letters.one(ours[2]) == LETTERS[2]
    assert letters.one(b"{}") is None
    assert foreign.counts == {"dead-letters": 4}
    assert not caplog.records
    foreign.tell()
    (record,) = caplog.records
    assert record.getMessage() == (
        "dead-letters: 4 records are none of ours and are left out; the first: a record without a value (tombstone)"
    )


def test_nothing_is_told_of_topics_without_any(caplog: pytest.LogCaptureFixture) -> None:
    foreign = ForeignRecords()
    assert not list(OutputValues("dead-letters", DeadLetter, foreign).of([]))
    foreign.tell()
    assert not caplog.records
