"""Text from outside is printed as it is: neither as markup nor as terminal escapes; into a pipe it is never wrapped."""

from __future__ import annotations

import ast
import io
import json
import re
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from events.text import printable
from foreshock.tables import Column, Table
from foreshock.terminal import TerminalConsole, fail, print_json, styled

ROOT = Path(__file__).parents[3]

ODD = [
    "[red]x[/]",
    "[/foo]",
    "[/]",
    "\x1b[31mred",
    ":smile:",
    "a\x00b\x07",
    "\x9b31m",
    "safe\u202egpj.exe",
    "bad\udc80",
]


def printed(*parts: object, terminal: bool, width: int = 80) -> str:
    file = io.StringIO()
    TerminalConsole(file=file, width=width, force_terminal=terminal).print(*parts)
    return file.getvalue()


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("terminal", [True, False])
def test_text_is_printed_as_it_is(text: str, terminal: bool) -> None:
    assert printed(text, terminal=terminal) == printable(text) + "\n"
    assert printed(styled(text), terminal=terminal) == printable(text) + "\n"


@pytest.mark.parametrize("text", ODD)
def test_a_style_does_not_let_escapes_through(text: str) -> None:
    assert printed(styled(text, "red"), "said", terminal=True) == f"\x1b[31m{printable(text)}\x1b[0m said\n"


def test_a_pipe_gets_whole_lines_without_colour() -> None:
    text = "word " * 100
    assert printed(styled(text, "bold red"), terminal=False) == text + "\n"
    assert len(printed(text, terminal=True).splitlines()) > 1


@pytest.mark.parametrize("text", ODD[:-1])
@pytest.mark.parametrize("one_line", [True, False])
def test_json_is_ascii_whatever_it_holds(text: str, one_line: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": text, "bytes": b"\xff", 1: ["x"]}, one_line=one_line)
    said = capsys.readouterr().out
    assert said.isascii()
    assert all(line.isprintable() for line in said.splitlines())
    assert (len(said.splitlines()) == 1) == one_line
    assert json.loads(said) == {"text": text, "bytes": "/w==", "1": ["x"]}


@pytest.mark.parametrize("text", ODD)
def test_an_error_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as exit_:
        fail(f"user {text} is unknown", code=3)
    assert exit_.value.exit_code == 3
    assert capsys.readouterr().err == f"error: user {printable(text)} is unknown\n"


@given(st.text())
@pytest.mark.parametrize("terminal", [True, False])
def test_no_text_reaches_a_terminal_as_an_escape(terminal: bool, text: str) -> None:
    """In running text, in a table's cell, in its heading and title."""
    table = Table(text, Column("other", prose=True), title=text)
    table.add_row(text, styled(text))
    for part in (text, table):
        shown = printed(part, terminal=terminal, width=60)
        plain = re.sub(r"\x1b\[[13]?m|\x1b\[0m", "", shown)  # our own headings and titles
        assert all(character.isprintable() or character in "\n\t" for character in plain)


PRINTS = (
    "print",
    "typer.echo",
    "typer.secho",
    "click.echo",
    "click.secho",
    "rich.print",
    "Console",
    "sys.stdout.write",
    "sys.stderr.write",
)
APART = {
    "foreshock/terminal.py": "the console itself",
    "stream/embedded/tether.py": "a program of its own, whose output another program reads",
    "bench/replay_memory.py": "a program of its own, whose output another program reads",
    "model/evaluation/evaluate.py": "progress bars, without markup; `model` knows nothing of the commands' console",
}


@pytest.mark.parametrize("package", ["foreshock", "reports", "bench", "stream", "model", "events"])
def test_nothing_prints_past_the_consoles(package: str) -> None:
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in (*PRINTS, "TextColumn")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in PRINTS and name not in APART:
                found.append(f"{name}:{node.lineno}: {ast.unparse(node.func)}")
            # Rich takes the text of this column as markup unless told otherwise.
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "TextColumn":
                assert "markup" in [each.arg for each in node.keywords], f"{name}:{node.lineno}"
    assert found == []
