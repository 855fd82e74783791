"""What is recorded of the machine beside each result."""

from __future__ import annotations

import time

import pytest

from bench.environment import ProcessorTime


def test_share_that_others_got() -> None:
    begin = ProcessorTime(total_s=100.0, stolen_s=3.0)
    assert ProcessorTime(total_s=120.0, stolen_s=8.0).stolen_share_since(begin) == pytest.approx(0.25)
    assert begin.stolen_share_since(begin) == 0.0, "no time has passed"


def test_the_clock_of_all_processors() -> None:
    begin = ProcessorTime.now()
    deadline_s = time.monotonic() + 30
    while (now := ProcessorTime.now()).total_s == begin.total_s:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert now.total_s > begin.total_s
    assert 0.0 <= now.stolen_share_since(begin) <= 1.0
