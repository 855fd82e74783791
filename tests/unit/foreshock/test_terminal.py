"""Text from outside is printed as it is: neither as markup nor as terminal escapes; into a pipe it is never wrapped."""

from __future__ import annotations

import io

import pytest
import typer

from foreshock.terminal import TerminalConsole, fail, printable, styled

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ünïcödé 😀", "plain – ünïcödé 😀"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\udc80", "\\udc80"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_some_characters_can_be_kept() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


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


@pytest.mark.parametrize("text", ODD)
def test_an_error_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as exit_:
        fail(f"user {text} is unknown", code=3)
    assert exit_.value.exit_code == 3
    assert capsys.readouterr().err == f"error: user {printable(text)} is unknown\n"
