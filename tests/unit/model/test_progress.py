"""Long work tells how far it is, with and without a terminal."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console
from rich.progress import TextColumn

from model.progress import LongWork, line_of


def lines(shown: StringIO) -> list[str]:
    return [line for line in shown.getvalue().splitlines() if " after " in line]


def wait_for_lines(shown: StringIO, least: int) -> None:
    deadline = time.monotonic() + 20
    while len(lines(shown)) < least and time.monotonic() < deadline:
        time.sleep(0.01)


def test_without_a_terminal_a_line_comes_now_and_then_also_where_nothing_moves() -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=False, width=200)
    with LongWork(TextColumn("{task.description}"), console=console, line_every_s=0.02) as bars:
        first = bars.add_task("epoch [1] of 3", total=4_000)
        bars.update(first, advance=1_200)
        wait_for_lines(shown, 2)
        bars.advance(bars.add_task("exporting", total=None), 0)
        wait_for_lines(shown, len(lines(shown)) + 2)
    told = lines(shown)
    assert re.fullmatch(r"epoch \[1\] of 3: 1,200 of 4,000 after 0:00:\d\d", told[1])
    assert re.fullmatch(r"exporting: after 0:00:\d\d", told[-1])
    said = shown.getvalue()
    time.sleep(0.1)
    assert shown.getvalue() == said, "it has ended"


def test_short_work_is_quiet() -> None:
    shown = StringIO()
    with LongWork(console=Console(file=shown, force_terminal=False)) as bars:
        bars.update(bars.add_task("read", total=2), advance=2)
        assert shown.getvalue() == ""


@pytest.mark.parametrize(("terminal", "disabled"), [(True, False), (False, True)])
def test_a_terminal_has_bars_and_who_wants_none_has_nothing(terminal: bool, disabled: bool) -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=terminal, width=200)
    with LongWork(console=console, disable=disabled, line_every_s=0.01) as bars:
        bars.update(bars.add_task("read", total=None), advance=2)
        time.sleep(0.1)
    assert lines(shown) == []
    assert bool(shown.getvalue()) == terminal


def test_a_task_without_a_total_tells_what_it_has() -> None:
    bars = LongWork(disable=True)
    bars.update(bars.add_task("  reading ", total=None), completed=1_234)
    assert line_of(bars.tasks[0]) == "reading: 1,234 after 0:00:00"
