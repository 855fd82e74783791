"""What the commands print, on a terminal and into a pipe. Every command prints through `console` and `errors`.

Ids, categories, messages and paths come from outside. The consoles here therefore take no text as Rich markup or as an
emoji code, and show control characters as escapes, so that no text can colour, move or rewrite what a terminal shows.
Styles are given beside the text, with `styled`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import IO, Any, Never

import msgspec
import typer
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from events.text import printable
from stream.logs import logs_json

PIPE_COLUMNS = 10_000
"""Width where no terminal shows the text: nothing is wrapped or cut off for whoever reads it by program."""


def styled(text: str, style: str = "") -> Text:
    """The text as it is, on one line, in a Rich style such as `bold red`."""
    return Text(printable(text), style=style)


class TerminalConsole(Console):
    """A Rich console that takes no text as markup and does not wrap, cut off or colour when it writes into a pipe."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr,
            file=file,
            width=width,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines: those of the terminal, `PIPE_COLUMNS` without one."""
        found = super().size
        return found if self.is_terminal else ConsoleDimensions(PIPE_COLUMNS, found.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich makes text of every `str` here; line breaks and tabs stay, other control characters are escaped."""
        return super().render_str(printable(text, keep="\n\t"), **options)


console = TerminalConsole()
errors = TerminalConsole(stderr=True)


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Print a value as JSON in ASCII, whatever it holds: safe on a terminal, and for programs to read.

    Indented, or on `one_line`. Times are as RFC 3339 has them, bytes base64, and what is no number or infinite is null.
    """
    plain = msgspec.json.decode(msgspec.json.encode(value))
    sys.stdout.write(json.dumps(plain, indent=None if one_line else 2) + "\n")
    sys.stdout.flush()


def tell(as_json: bool, facts: Any, *lines: str) -> None:
    """Print what a command has to say: `facts` as JSON, or the lines."""
    if as_json:
        print_json(facts)
        return
    for line in lines:
        console.print(line, soft_wrap=True)


def print_plain(text: str) -> None:
    """Print a line as it is, for programs to read: neither wrapped nor styled. `text` is our own, nobody else's."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(message: str, code: int = 1) -> Never:
    """End the command with an error that says what to do; where the log is JSON, as a line of it."""
    if logs_json():
        logging.getLogger("foreshock").critical("%s", message)
    else:
        errors.print(styled("error:", "bold red"), message, soft_wrap=True)
    raise typer.Exit(code)
