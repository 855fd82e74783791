"""What `demo` shows at its end: figures, and the worst users with their reasons, at any width."""

from __future__ import annotations

import datetime as dt
import io

import pytest

from foreshock import demo
from foreshock.demo_run import DemoReport
from foreshock.terminal import TerminalConsole
from stream.database.summary import Summary, WorryingUser
from stream.outputs import Reason

IDS = ["u0000123", "[red]x[/]", "[/foo]", "\x1b[31mred"]
TEXT = "payments are getting later: 12 days late now, 3 days on average"


def shown(monkeypatch: pytest.MonkeyPatch, width: int | None) -> list[str]:
    reasons = (Reason(code="overdue", text=TEXT, contribution=1.0),)
    opened = dt.datetime(2023, 11, 2, tzinfo=dt.UTC)
    users = tuple(
        WorryingUser(name, "a", "HIGH", 0.8, 0.7, 0.1, 31.0, 2, 12_000.0, loss, opened, ("level",), reasons)
        for name, loss in zip(IDS, (4_321.0, 300.0, None, None), strict=True)
    )
    summary = Summary(4, 100, 4, 5, 3, {"HIGH": 4}, {"HIGH": 4}, users)
    figures = DemoReport("simulator", events_published=1_000, events_scored=997, users=4, dead_letters=3)
    file = io.StringIO()
    monkeypatch.setattr(demo, "console", TerminalConsole(file=file, width=width, force_terminal=width is not None))
    demo._show(figures, summary, own=False, prefix="", kept=None)
    return file.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[3m", "").splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_it_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in (
        "foreshock on simulator",
        "events scored",
        "997 of 4 users",
        "12,000",
        "4,321",
        "[red]x[/]",
        "[/foo]",
        r"\x1b[31mred",
        TEXT,
    ):
        assert part in text
    assert "\x1b" not in text


def test_in_a_pipe_each_user_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, None)
    assert sum(line.endswith(TEXT) for line in lines) == len(IDS)
