from __future__ import annotations

import contextlib
import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.feedback import Feedback, FeedbackError, feedback_of

AT = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
FEEDBACK = Feedback(alert_id="a", user_id="ann", opened_at=AT, known_at=AT)


@pytest.mark.parametrize(
    ("fields", "was_false", "was_treated"),
    [
        ({"closed_as": "false_alarm"}, True, False),
        *(({"closed_as": closed_as}, False, True) for closed_as in ("cured", "paid", "restructured")),
        *(({"closed_as": closed_as}, False, False) for closed_as in ("written_off", "handed_over", None)),
        ({"promises_kept": 1}, False, True),
        ({"promises_broken": 1}, False, False),
    ],
)
def test_what_feedback_means(fields: dict[str, object], was_false: bool, was_treated: bool) -> None:
    found = msgspec.structs.replace(FEEDBACK, **fields)
    assert (found.was_false, found.was_treated) == (was_false, was_treated)


def test_lines_are_read_as_they_are_written() -> None:
    lines = [msgspec.structs.replace(FEEDBACK, alert_id=str(number), promises_kept=number) for number in range(3)]
    written = b"\n".join([*(msgspec.json.encode(line) for line in lines), b"", b" "])
    assert feedback_of(written) == lines


@pytest.mark.parametrize(
    "line", [b"{}", b"secret", b"\xff", b"[" * 5000, msgspec.json.encode(FEEDBACK).replace(b'"a"', b"7")]
)
def test_a_line_that_is_none_is_named_and_not_repeated(line: bytes) -> None:
    with pytest.raises(FeedbackError, match="line 2 is no feedback") as caught:
        feedback_of(msgspec.json.encode(FEEDBACK) + b"\n" + line)
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(lines: bytes) -> None:
    with contextlib.suppress(FeedbackError):
        feedback_of(lines)
