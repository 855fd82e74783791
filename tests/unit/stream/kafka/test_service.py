"""What a library repeats is told once in a while, everything of ours each time."""

from __future__ import annotations

import logging

import pytest

from stream.kafka.service import REPEAT_PASSWORDS, REPEATED_EVERY_S, OneRecordPerLine, Repeated, set_up_logging


def record(
    name: str, message: str, created_s: float, *arguments: object, level: int = logging.ERROR
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 1, message, arguments, None)
    made.created = created_s
    return made


def test_a_complaint_is_repeated_once_in_a_while_with_how_often() -> None:
    repeated = Repeated()
    message = "Unable connect to node with id %s: %s"
    passed = [
        found
        for number in range(1_000)
        if repeated.filter(found := record("aiokafka.client", message, number / 10, 1, f"refused {number}, 100%"))
    ]
    assert len(passed) == 1_000 / 10 / REPEATED_EVERY_S
    assert passed[0].getMessage() == "Unable connect to node with id 1: refused 0, 100%"
    assert passed[1].getMessage() == "Unable connect to node with id 1: refused 100, 100% (and 99 more of the kind)"


def test_other_complaints_and_our_own_lines_are_not_held_back() -> None:
    repeated = Repeated()
    assert repeated.filter(record("aiokafka.client", "one", 0.0))
    assert repeated.filter(record("aiokafka.client", "another", 0.0))
    assert repeated.filter(record("aiokafka.conn", "one", 0.0))
    assert not repeated.filter(record("aiokafka.conn", "one", 0.1))
    assert all(repeated.filter(record("foreshock.worker", "users=1", 0.0)) for _ in range(3))
    assert all(repeated.filter(record("aiokafka.client", "detail", 0.0, level=logging.INFO)) for _ in range(3))


@pytest.mark.parametrize("level", ["debug", "info"])
def test_requests_with_passwords_are_never_logged(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    names = ("aiokafka", "faust", "mode", "kafka", "stream", *REPEAT_PASSWORDS, "")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        set_up_logging(level)
        assert not any(logging.getLogger(name).isEnabledFor(logging.DEBUG) for name in REPEAT_PASSWORDS)
        assert logging.getLogger("aiokafka.client").isEnabledFor(logging.DEBUG) == (level == "debug")
    finally:
        for name, was in before.items():
            logging.getLogger(name).setLevel(was)


@pytest.mark.parametrize("odd", ["\x1b[31mred", "\x9b31m", "a\rb", "bad\udc80", "safe\u202egpj.exe", "\x00\x07"])
def test_what_a_message_repeats_cannot_reach_the_terminal(odd: str) -> None:
    try:
        raise ValueError(odd)
    except ValueError as error:
        made = logging.LogRecord("foreshock", 40, __file__, 1, "skipped: %s", (odd,), (ValueError, error, None))
    shown = OneRecordPerLine("%(levelname)s %(message)s").format(made)
    assert shown.replace("\n", "").isprintable()
    assert "Traceback" not in shown
    assert shown.startswith("ERROR skipped: ")


def test_what_a_message_repeats_cannot_pass_for_a_line_of_the_log() -> None:
    made = record("foreshock", "skipped: %s", 0.0, "x\n2026-01-01 00:00:00 INFO all is well\n\nquite")
    first, *rest = OneRecordPerLine("%(levelname)s %(message)s").format(made).split("\n")
    assert first == "ERROR skipped: x"
    assert all(line.startswith("    ") for line in rest)
    assert len(rest) == 3
