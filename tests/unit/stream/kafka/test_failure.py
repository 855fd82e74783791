"""What is done once and at once when a worker or sink cannot go on."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from stream.kafka import failure as failure_module
from stream.kafka.connection import KafkaConnection
from stream.kafka.consumer_thread import OffsetNotThere
from stream.kafka.failure import Failure
from stream.kafka.lineage import HandedOver, OtherLineage
from stream.kafka.reconnection import BrokersUnreachable
from stream.kafka.transactions import Fenced


class App:
    connection = KafkaConnection.parse("127.0.0.1:1")

    def __init__(self) -> None:
        self.crashed: list[BaseException] = []

    async def crash(self, error: BaseException) -> None:
        self.crashed.append(error)


async def test_the_first_error_counts_and_crashes_the_app(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    failure = Failure(app, "sink")
    assert not failure
    first = RuntimeError("a column is missing")
    failure(first)
    failure(RuntimeError("and so on"))
    await asyncio.sleep(0)
    assert failure
    assert failure.error is first
    assert app.crashed == [first]
    (line,) = caplog.records
    assert (line.name, line.levelno) == ("foreshock.sink", logging.CRITICAL)
    assert line.getMessage() == "sink stops: RuntimeError: a column is missing"


@pytest.mark.parametrize("kind", [HandedOver, OtherLineage, Fenced, BrokersUnreachable, OffsetNotThere])
async def test_an_end_that_its_message_tells_in_full_has_no_traceback(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    failure = Failure(App(), "worker")
    try:
        raise kind("a was handed over to b: stop these workers")
    except kind as error:
        failure(error)
    await asyncio.sleep(0)
    (line,) = caplog.records
    assert line.levelno == logging.CRITICAL
    assert line.getMessage() == f"worker stops: {kind.__name__}: a was handed over to b: stop these workers"
    assert line.exc_info is None


async def test_a_fault_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    fault = RuntimeError("the state is ahead")
    Failure(App(), "worker")(fault)
    await asyncio.sleep(0)
    (line,) = caplog.records
    assert line.exc_info is not None
    assert line.exc_info[1] is fault


async def test_an_app_that_does_not_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(failure_module, "SHUTDOWN_LIMIT_S", 0.01)
    Failure(App(), "worker")(ValueError())
    assert codes == []
    await asyncio.sleep(0.1)
    assert codes == [1]
