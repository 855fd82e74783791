"""Every step is a function that there is, a fault comes when it is due and not before, and a clock jumps on time."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from importlib import import_module

import pytest

from bench.chaos.fault_points import SENDING, STEPS, Orders, Step, command


@pytest.mark.parametrize("step", [*STEPS.values(), SENDING], ids=str)
def test_a_step_is_a_function_that_there_is(step: Step) -> None:
    module, _, path = step.function.partition(":")
    owner, _, name = path.partition(".")
    assert inspect.isfunction(getattr(getattr(import_module(module), owner), name))


def ends(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


ARMED = """
import asyncio
from {module} import {owner}

async def done(self):
    print("done", flush=True)
{owner}.{name} = done
from bench.chaos.fault_points import arm
arm({step!r}, 2)

async def main():
    for number in range(3):
        await {owner}.{name}(None)
asyncio.run(main())
"""


@pytest.mark.parametrize(("step", "times"), [("rows", 1), ("rows acknowledged", 2)])
def test_a_process_ends_at_its_step_before_or_after_the_work(step: str, times: int) -> None:
    module, _, path = STEPS[step].function.partition(":")
    owner, _, name = path.partition(".")
    ended = ends(ARMED.format(step=step, module=module, owner=owner, name=name))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout == "done\n" * times
    assert ended.stderr == f"fault point: ends at {step!r}\n"


def test_a_clock_jumps_when_its_time_has_come_and_durations_go_on() -> None:
    program = """
import time
begun_s, begun_ns, monotonic_s = time.time(), time.time_ns(), time.monotonic()
from bench.chaos.fault_points import let_clock_jump
def wrong_by_s():
    since_s = time.monotonic() - monotonic_s
    return round(time.time() - begun_s - since_s, 1), round((time.time_ns() - begun_ns) / 1e9 - since_s, 1)
armed_s = time.monotonic()
let_clock_jump([(0.0, 600.0), (1.0, -86_400.0)])
print(*wrong_by_s())
while time.monotonic() - armed_s < 1.1:
    pass
print(*wrong_by_s())
"""
    ended = ends(program)
    assert ended.stdout == "600.0 600.0\n-86400.0 -86400.0\n", ended.stderr


def test_orders_reach_the_command_with_its_settings() -> None:
    """An unknown setting ends it: it has been read."""
    orders = Orders(settings={"commit_interval_s": "never"}, jumps=[(0.0, 5.0)])
    ended = subprocess.run(command(orders, "worker"), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "commit_interval_s" in ended.stderr
