"""Lines of the log: text and JSON, nothing of events, and what a library repeats once in a while."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import gc
import inspect
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import mode
import msgspec
import psycopg
import pytest
from aiokafka.errors import KafkaTimeoutError, ProducerFenced

from stream.kafka.refusal import BrokerRefuses
from stream.logs import (
    REPEAT_PASSWORDS,
    REPEATED_EVERY_S,
    Echoed,
    JsonLines,
    Repeated,
    TextLines,
    logs_json,
    set_up_logging,
    told,
)
from stream.outputs import ForeignRecord, OutputDecoder, Score
from stream.settings import load_settings

ROOT = Path(__file__).parents[3]
ANN = "user-00000042"
"""What an event says of somebody, and no line may repeat."""


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


def test_what_faust_says_of_an_end_that_was_told_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """In the words of the installed version, which may change."""

    class Fails(mode.Service):
        async def on_start(self) -> None:
            await self.crash(ValueError("told before"))

    async def end() -> None:
        await Fails().maybe_start()

    asyncio.run(end())
    (line,) = [found for found in caplog.records if "told before" in found.getMessage()]
    assert line.levelno == logging.ERROR
    assert not Echoed().filter(line)
    assert "We experienced a crash!" in inspect.getsource(mode.Worker)
    assert not Echoed().filter(record("faust.worker", "[^Worker]: We experienced a crash! Reraising …", 0.0))
    assert Echoed().filter(record("faust.worker", "a service does not stop", 0.0))
    try:
        raise ValueError("nobody has told of it")
    except ValueError:
        line.exc_info = sys.exc_info()
    assert Echoed().filter(line)


@pytest.mark.parametrize(("error", "shown"), [(ProducerFenced(), False), (KafkaTimeoutError(), True)])
def test_what_a_fenced_producer_leaves_behind_is_left_out(
    error: Exception, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In the words of asyncio, which may change."""

    async def leave() -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(leave())
    (line,) = caplog.records
    assert Echoed().filter(line) == shown


@pytest.mark.parametrize("level", ["debug", "info"])
def test_requests_with_passwords_are_never_logged(level: str) -> None:
    set_up_logging(load_settings(log_level=level))
    assert not any(logging.getLogger(name).isEnabledFor(logging.DEBUG) for name in REPEAT_PASSWORDS)
    assert logging.getLogger("aiokafka.client").isEnabledFor(logging.DEBUG) == (level == "debug")


@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_only_developers_of_a_library_can_act_on_is_logged_at_debug(level: str) -> None:
    set_up_logging(load_settings(log_level=level))
    of_its_loop = logging.getLogger("kafka.net.selector")
    assert of_its_loop.isEnabledFor(logging.WARNING) == (level == "debug")
    assert of_its_loop.isEnabledFor(logging.ERROR)
    assert logging.getLogger("kafka.net.manager").isEnabledFor(logging.WARNING)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(load_settings(log_format="text"))
    assert not logs_json()
    set_up_logging(load_settings(log_format="json"))
    assert logs_json()
    logger = logging.getLogger("foreshock.sink")
    logger.warning("trying\nagain in %d s “soon” \ud800", 3, extra={"pause_s": 3.5, "level": "forged", "of": Path("a")})
    try:
        raise OSError("the disk is full")
    except OSError:
        logger.exception("it stops")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert set(first) == {"time", "level", "logger", "message", "pause_s", "of"}
    assert (first["level"], first["logger"], first["pause_s"], first["of"]) == ("WARNING", "foreshock.sink", 3.5, "a")
    assert first["message"] == "trying\nagain in 3 s “soon” \ud800"
    assert first["time"].endswith("Z")
    since = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(first["time"])
    assert dt.timedelta(0) <= since + dt.timedelta(milliseconds=1) < dt.timedelta(minutes=1)
    assert second["exception"].startswith("Traceback (most recent call last):\n")
    assert second["exception"].endswith("\nOSError: the disk is full")


@pytest.mark.parametrize("odd", ["\x1b[31mred", "\x9b31m", "a\rb", "bad\udc80", "safe\u202egpj.exe", "\x00\x07"])
def test_what_a_message_repeats_cannot_reach_the_terminal(odd: str) -> None:
    made = record("foreshock", "skipped: %s", 0.0, odd)
    try:
        raise ValueError(odd)
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)
    for reveal in (False, True):
        shown = TextLines(reveal=reveal).format(made)
        assert shown.replace("\n", "").isprintable()
        assert "ERROR foreshock: skipped: " in shown.partition("\n")[0]


def test_what_a_message_repeats_cannot_pass_for_a_line_of_the_log() -> None:
    made = record("foreshock", "skipped: %s", 0.0, "x\n2026-01-01 00:00:00 INFO all is well\n\nquite")
    first, *rest = TextLines().format(made).split("\n")
    assert first.endswith("ERROR foreshock: skipped: x")
    assert all(line.startswith("    ") for line in rest)
    assert len(rest) == 3


def _invalid() -> Exception:
    try:
        msgspec.json.decode(json.dumps({"level": ANN}).encode(), type=Score)
    except msgspec.ValidationError as error:
        return error
    raise AssertionError("it is no score")


REPEATING: list[Exception] = [
    KeyError(ANN), ValueError(f"not a number: {ANN}"), TypeError(ANN), psycopg.errors.CheckViolation(f"row: {ANN}"),
    msgspec.ValidationError(f"Invalid enum value '{ANN}'"), UnicodeDecodeError("utf-8", ANN.encode(), 0, 1, ANN),
]  # fmt: skip


@pytest.mark.parametrize("error", REPEATING, ids=repr)
@pytest.mark.parametrize("lines", [TextLines, JsonLines])
def test_errors_that_repeat_values_are_shown_without(error: Exception, lines: type[TextLines]) -> None:
    """Also as the cause of another, and while another is handled; at the level debug with everything."""

    def fails() -> None:
        try:
            raise error
        except Exception as first:
            try:
                raise RuntimeError("while handling")
            except RuntimeError:
                raise BrokerRefuses("kafka:9092: no such user") from first

    try:
        fails()
    except BrokerRefuses as found:
        logged = record("foreshock.worker", "stops: %s", 0.0, told(found))
        logged.exc_info = (type(found), found, found.__traceback__)
    shown = lines().format(logged)
    assert ANN not in shown + told(error)
    assert all(word in shown for word in (type(error).__name__, "no such user", "direct cause", "in fails"))
    assert ANN in lines(reveal=True).format(logged)


def test_a_record_of_others_is_described_without_its_values() -> None:
    assert ANN in str(_invalid()) or "missing required" in str(_invalid())
    decode = OutputDecoder(Score)
    whole = {
        "score_id": "t:0:1", "event_id": "e", "user_id": ANN, "occurred_at": "2026-01-01T00:00:00Z", "sequence": 1,
        "score": 0.5, "horizons": {}, "level": ANN, "baseline": 0.5, "delta": 0.0, "days_past_due": None,
        "source_topic": "t", "source_partition": 0, "source_offset": 1, "model": "m",
    }  # fmt: skip
    for value in (json.dumps(whole).encode(), ANN.encode(), b'"' + ANN.encode() + b"\xff"):
        with pytest.raises(ForeignRecord) as caught:
            decode(value)
        assert ANN not in str(caught.value)
        assert str(caught.value)


LOGGED = ("info", "warning", "error", "critical", "exception")
OF_EVENTS = {
    "user_id", "key", "value", "event", "events", "taken", "record", "records", "row", "rows", "alert", "letter",
}  # fmt: skip
"""Names of what holds people's data. Counts of them may be logged: `len(rows)`."""


def logged_expressions(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything of `OF_EVENTS` that a call of a logger is given, at `info` or above."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOGGED):
            continue
        if "logger" not in ast.unparse(node.func.value).lower():
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if given and not isinstance(given[0], ast.Constant):
            yield node.lineno, "a message that is put together"
        counted = {
            id(inner)
            for argument in given
            for call in ast.walk(argument)
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "len"
            for inner in ast.walk(call)
        }
        for argument in given:
            for inner in ast.walk(argument):
                name = getattr(inner, "id", getattr(inner, "attr", None))
                if isinstance(inner, ast.Name | ast.Attribute) and name in OF_EVENTS and id(inner) not in counted:
                    yield node.lineno, str(name)


def test_no_line_is_given_what_events_hold() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} logs {name}: name the record by topic, partition and offset"
        for package in ("events", "model", "stream", "reports", "foreshock", "bench")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, name in logged_expressions(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('logger.info("%s", event.user_id)', 2),
        ('self._logger.error("%s", f"of {record.key}")', 2),
        ('logger.info(f"user {x}")', 1),
        ('logger.info("%d", len(rows))', 0),
        ('logger.debug("%s", user_id)', 0),
        ('logger.warning("%s", error, extra={"of": user_id})', 1),
    ],
)
def test_what_counts_as_given(source: str, count: int) -> None:
    assert len(list(logged_expressions(source))) == count
