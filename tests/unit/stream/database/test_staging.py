import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.database.staging import (
    ALERTS,
    DEAD_LETTERS,
    SCORES,
    dead_letter_row,
    record_time,
    score_rows,
    without_nul,
)
from stream.outputs import DeadLetter, Score

IS_LATEST = SCORES.names.index("is_latest")


def score(user_id: str, sequence: int) -> Score:
    return Score(
        score_id=f"transactions:0:{sequence}",
        event_id="e",
        user_id=user_id,
        occurred_at=dt.datetime(2023, 5, 6, tzinfo=dt.UTC),
        sequence=sequence,
        score=0.5,
        horizons={"90": 0.5},
        level="LOW",
        baseline=0.25,
        delta=0.25,
        days_past_due=None,
        source_topic="transactions",
        source_partition=0,
        source_offset=sequence,
        model="m",
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=30))
def test_exactly_one_latest_per_user_and_it_has_the_highest_sequence(drawn: list[tuple[str, int]]) -> None:
    rows = score_rows([score(user_id, sequence) for user_id, sequence in drawn])

    latest = [(row[2], row[4]) for row in rows if row[IS_LATEST]]
    assert sorted(latest) == sorted({user: max(s for u, s in drawn if u == user) for user, _ in drawn}.items())


def test_ids_that_become_equal_are_one_user() -> None:
    rows = score_rows([score("a\x00", 1), score("a\u2400", 2)])

    assert [row[IS_LATEST] for row in rows] == [False, True]


@given(st.text())
def test_no_text_keeps_a_nul_and_others_stay_as_they_are(text: str) -> None:
    assert "\x00" not in without_nul(text)
    if "\x00" not in text:
        assert without_nul(text) is text


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (0, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        (1_683_331_200_123, dt.datetime(2023, 5, 6, 0, 0, 0, 123_000, tzinfo=dt.UTC)),
        (-1, None),
        (2**62, None),
        (2**63 - 1, None),
    ],
)
def test_record_time(timestamp_ms: int, expected: dt.datetime | None) -> None:
    assert record_time(timestamp_ms) == expected


@given(st.none() | st.binary(), st.none() | st.binary())
def test_a_dead_letter_keeps_its_bytes(key: bytes | None, value: bytes | None) -> None:
    row = dead_letter_row(
        DeadLetter(
            dead_letter_id="d",
            reason="not_json",
            message="m",
            topic="t",
            partition=0,
            offset=0,
            timestamp_ms=-1,
            key=key,
            value=value,
        )
    )

    assert row[-2:] == (key, value)
    assert len(row) == len(DEAD_LETTERS.columns)


def test_no_column_is_staged_twice() -> None:
    for table in (SCORES, ALERTS, DEAD_LETTERS):
        assert len(set(table.names)) == len(table.names)
