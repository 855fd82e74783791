"""What `dead-letters` says of wrong options, and how it shows bytes."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from foreshock import app
from foreshock.dead_letters import _as_json, _moment, _text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reason", "nonsense"), "--reason nonsense: is none of not_json, wrong_type"),
        (("--topic", "salaries"), "--topic salaries: is none of risk.repayments, risk.transactions"),
        (("--since", "yesterday"), "yesterday"),
    ],
)
@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_wrong_filter_is_named_before_anything_is_asked(command: str, arguments: tuple[str, ...], said: str) -> None:
    where = ("--topic-prefix", "risk.", "--bootstrap-servers", "127.0.0.1:1")
    result = CliRunner().invoke(app, ["dead-letters", command, *arguments, *where])
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", "")


def test_bytes_are_shown_as_one_may_read_them() -> None:
    assert _text(None) == "(none)"
    assert _text(b"") == ""
    assert _text(b"\xff\x00") == "b'\\xff\\x00'"
    assert _text(b'{"a":"\xc3\xa9"}', indented=True) == '{\n  "a": "é"\n}'
    assert _text(b'{"a":', indented=True) == '{"a":'
    assert [_as_json(each) for each in (None, b"1", b"x", b"\xff")] == [
        None,
        {"json": 1},
        {"text": "x"},
        {"base64": b"\xff"},
    ]


def test_a_time_beyond_every_calendar_is_a_number() -> None:
    assert _moment(0) == "1970-01-01T00:00:00+00:00"
    assert _moment(2**62) == f"{2**62} ms since 1970-01-01"
