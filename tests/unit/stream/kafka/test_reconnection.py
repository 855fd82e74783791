"""Pauses that grow while no broker answers, and an end to counting once one does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stream.kafka.reconnection import FIRST_PAUSE_S, LONGEST_PAUSE_S, Reconnection


class Client:
    """A client of which each metadata update ends as `answers` says."""

    def __init__(self, answers: Sequence[bool | Exception]) -> None:
        self.answers = list(answers)
        self.forced = 0

    async def _metadata_update(self, cluster: object, topics: object) -> bool:  # noqa: ARG002
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def force_metadata_update(self) -> None:
        self.forced += 1


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


async def test_pauses_grow_to_the_longest_and_begin_anew() -> None:
    client, clock = Client([False] * 40 + [True, False]), Clock()
    reconnection = Reconnection(client, monotonic=clock.monotonic, sleep=clock.sleep)
    assert reconnection.unreachable_s == 0
    for _ in range(40):
        assert not await client._metadata_update(None, None)
    assert reconnection.unreachable_s == pytest.approx(sum(clock.pauses))
    ceilings = [min(FIRST_PAUSE_S * 2**n, LONGEST_PAUSE_S) for n in range(40)]
    assert all(ceiling / 2 <= pause <= ceiling for pause, ceiling in zip(clock.pauses, ceilings, strict=True))
    assert await client._metadata_update(None, None)
    assert reconnection.unreachable_s == 0
    assert not await client._metadata_update(None, None)
    assert clock.pauses[-1] <= FIRST_PAUSE_S


async def test_a_failed_update_is_repeated_and_a_good_one_is_not() -> None:
    client, clock = Client([False, True]), Clock()
    Reconnection(client, monotonic=clock.monotonic, sleep=clock.sleep)
    for forced in (1, 1):
        await client._metadata_update(None, None)
        await asyncio.sleep(0)
        assert client.forced == forced


async def test_an_update_that_ends_with_any_error_is_repeated_as_well(caplog: pytest.LogCaptureFixture) -> None:
    client, clock = Client([RuntimeError("the handler is closed"), True]), Clock()
    Reconnection(client, monotonic=clock.monotonic, sleep=clock.sleep)
    assert not await client._metadata_update(None, None)
    await asyncio.sleep(0)
    assert client.forced == 1
    assert await client._metadata_update(None, None)
    assert "the handler is closed" in caplog.text
