"""Dead letters listed, shown and sent back on a real broker: each once, whatever ends the command in between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from foreshock import app
from stream.kafka.record import Header, RawRecord
from stream.outputs import SENT_BACK_HEADER, DeadLetter
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.intake import Intake

Deploy = Callable[..., Any]
NOW_MS = 1_700_000_000_000
LETTERS = 1_200
"""More than two transactions."""

IN_THE_SECOND = """
import os, signal, sys, time
from pathlib import Path
from stream.dead_letters.sending_back import Sender
send, calls = Sender._send, []
async def disturbed(self, producer, chunk):
    calls.append(chunk)
    if len(calls) < 2:
        return await send(self, producer, chunk)
    if {killed}:
        await send(self, producer, chunk)
        os.kill(os.getpid(), signal.SIGKILL)
    Path("{folder}/waiting").touch()
    while not Path("{folder}/go-on").exists():
        time.sleep(0.05)
    await send(self, producer, chunk)
Sender._send = disturbed
from foreshock import main
main()
"""
"""A run that is killed in its second transaction, or hangs there until another has overtaken it."""


def event(number: int, **fields: Any) -> bytes:
    base = {"event_id": f"e{number}", "user_id": f"u{number}", "occurred_at": "2024-05-01T00:00:00Z", "kind": "session"}
    return msgspec.json.encode({**base, **fields})


def arguments(deployment: Any, *given: str) -> list[str]:
    where = ("--bootstrap-servers", str(deployment.kafka), "--topic-prefix", deployment.topics.prefix)
    return ["dead-letters", *given, *where]


def command(deployment: Any, *given: str) -> Result:
    found = CliRunner().invoke(app, arguments(deployment, *given))
    assert found.exit_code == 0, found.output
    return found


def refuse(deployment: Any, records: list[RawRecord], intake: Intake) -> None:
    """Write the dead letters of records, as a worker does whose clock is at `NOW_MS`."""
    for record in records:
        letter = intake.take(record, NOW_MS)
        assert isinstance(letter, DeadLetter)
        headers: list[Header] = letter.record_headers()
        deployment.send_raw("dead-letters", [(letter.key, letter.value, headers)], partition=letter.partition)


@pytest.fixture
def letters(deploy: Deploy) -> tuple[Any, list[RawRecord]]:
    """A deployment with dead letters of events that were in the future, and the records that were refused."""
    deployment = deploy(watchdog=False)
    topic = deployment.topics.of_kind("activity")
    later = "2025-05-01T00:00:00Z"
    records = [
        RawRecord(topic, n % 2, n, NOW_MS, f"u{n}".encode(), event(n, occurred_at=later), [("trace", str(n).encode())])
        for n in range(LETTERS)
    ]
    intake, sent = Intake("activity", DeadLetters("risk")), list[Any]()
    for record in records:
        letter = intake.take(record, NOW_MS)
        assert isinstance(letter, DeadLetter)
        sent.append((letter.key, letter.value, letter.record_headers()))
    for partition in (0, 1):
        deployment.send_raw("dead-letters", sent[partition::2], partition=partition)
    return deployment, records


@pytest.mark.parametrize("killed", [True, False])
def test_each_is_sent_once_though_the_command_is_killed_or_overtaken(
    letters: tuple[Any, list[RawRecord]], killed: bool, tmp_path: Path
) -> None:
    deployment, records = letters
    listed = json.loads(command(deployment, "list", "--json").stdout)
    assert listed["letters"] == LETTERS
    assert [(group["reason"], group["sent_back"]) for group in listed["groups"]] == [("in_the_future", 0)]
    planned = json.loads(command(deployment, "replay", "--dry-run", "--json").stdout)
    assert (planned["to_send"][0]["records"], planned["sent"]) == (LETTERS, 0)
    arrived = deployment.topics.of_kind("activity")
    assert deployment.records(arrived) == []

    start = IN_THE_SECOND.format(killed=killed, folder=tmp_path)
    first = subprocess.Popen(
        [sys.executable, "-c", start, *arguments(deployment, "replay", "--yes")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        if killed:
            first.communicate(timeout=60)
        else:
            deployment.wait((tmp_path / "waiting").exists, "the first run's second transaction")
        once = json.loads(command(deployment, "replay", "--yes", "--json").stdout)
        (tmp_path / "go-on").touch()
        said, _ = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == (-signal.SIGKILL if killed else 1)
    assert (b"another `dead-letters replay` of these topics began" in said) == (not killed)
    assert 0 < once["sent_before"] < LETTERS, "the first transaction counts"
    assert once["sent"] == LETTERS - once["sent_before"]
    again = json.loads(command(deployment, "replay", "--yes", "--json").stdout)
    assert (again["sent"], again["sent_before"]) == (0, LETTERS)

    expected = Counter(
        (record.partition, record.key, record.value, (*record.headers, (SENT_BACK_HEADER, b"1"))) for record in records
    )
    found = Counter(
        (record.partition, record.key, record.value, tuple(record.headers)) for record in deployment.records(arrived)
    )
    assert found == expected
    listed = json.loads(command(deployment, "list", "--json").stdout)
    assert sum(group["sent_back"] for group in listed["groups"]) == LETTERS


def test_what_was_sent_back_is_judged_as_any_record(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    topic = deployment.topics.of_kind("activity")
    bad, good = event(1, kind="\x1b[31m\u202e"), event(2)
    deployment.send_raw("activity", [(b"u2", good), (b"u2", good), (b"u1", bad, [("trace", b"\x1b[2J")])])
    ahead = RawRecord(topic, 0, 7, NOW_MS, b"u3", event(3, occurred_at="2025-05-01T00:00:00Z"))
    refuse(deployment, [ahead], Intake("activity"))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        sent = json.loads(command(deployment, "replay", "--yes", "--json").stdout)
        assert {entry["reason"]: entry["records"] for entry in sent["to_send"]} == {
            "unknown_kind": 1,
            "in_the_future": 1,
        }
        assert [(entry["letters"], "scored twice" in entry["why"]) for entry in sent["not_sent"]] == [(1, True)]
        deployment.wait_until_scored(worker)
    found = [DeadLetter.from_record(record) for record in deployment.records(deployment.topics.dead_letters)]
    counted = Counter((letter.reason, letter.sent_back) for letter in found)
    assert counted == {
        ("in_the_future", 0): 1,
        ("unknown_kind", 0): 1,
        ("unknown_kind", 1): 1,
        ("duplicate_event_id", 0): 1,
    }
    scored = {json.loads(record.value)["event_id"] for record in deployment.records(deployment.topics.scores)}
    assert scored == {"e2", "e3"}

    again = next(letter for letter in found if letter.reason == "unknown_kind" and letter.sent_back)
    shown = command(deployment, "show", again.dead_letter_id).stdout
    assert "sent back before" in shown
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    listed = json.loads(command(deployment, "list", "--json", "--reason", "unknown_kind").stdout)
    (place, *_) = listed["groups"][0]["examples"]
    told = json.loads(command(deployment, "show", place, "--json").stdout)
    assert told["value"]["json"]["event_id"] == "e1"
    assert told["headers"][0][0] == "trace"
