"""What others wrote into output topics is left out and told of once."""

from __future__ import annotations

import datetime as dt

import pytest

from stream.kafka.record import RawRecord
from stream.outputs import Score, encode_output
from stream.replay.foreign import ForeignRecords, OutputValues, dead_letters
from stream.scoring.dead_letters import DeadLetters

SCORES = [
    Score(
        f"activity:0:{offset}", "e", "u", dt.datetime(2024, 5, 1, tzinfo=dt.UTC), offset + 1, 0.5, {"90": 0.5}, "LOW",
        0.5, 0.0, None, "activity", 0, offset, "m",
    )
    for offset in range(3)
]  # fmt: skip


def test_ours_come_with_their_bytes_and_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    ours = [encode_output(score) for score in SCORES]
    foreign = ForeignRecords()
    scores = OutputValues("scores", Score, foreign)
    found = list(scores.of([None, ours[0], b"\xff", b"[" * 5_000, ours[1]]))
    assert found == [(SCORES[0], ours[0]), (SCORES[1], ours[1])]
    assert scores.one(ours[2]) == SCORES[2]
    assert scores.one(b"{}") is None
    assert foreign.counts == {"scores": 4}
    assert not caplog.records
    foreign.tell()
    (record,) = caplog.records
    assert record.getMessage() == (
        "scores: 4 records are none of ours and are left out; the first: a record without a value (tombstone)"
    )


def test_dead_letters_come_from_their_records() -> None:
    letters = [
        DeadLetters().of(RawRecord("activity", 0, offset, 0, b"u", b"{"), "not_json", "cut off") for offset in range(3)
    ]
    records = [RawRecord("dead-letters", 0, 0, 0, each.key, each.value, each.record_headers()) for each in letters]
    records[1:1] = [RawRecord("dead-letters", 0, 0, 0, None, None), RawRecord("dead-letters", 0, 0, 0, b"u", b"{")]
    foreign = ForeignRecords()
    assert list(dead_letters(records, "dead-letters", foreign)) == letters
    assert foreign.counts == {"dead-letters": 2}


def test_nothing_is_told_of_topics_without_any(caplog: pytest.LogCaptureFixture) -> None:
    foreign = ForeignRecords()
    assert not list(OutputValues("scores", Score, foreign).of([]))
    foreign.tell()
    assert not caplog.records
