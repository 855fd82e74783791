"""Reads the TOML file of the settings; what is no TOML is named by file, line and column. Knows no key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class SettingsFileError(ValueError):
    """The file cannot be read or is no TOML; the message is one line that names file, line and column."""


def read_settings_file(path: Path) -> dict[str, Any]:
    """The keys and values of a TOML file in UTF-8, with or without a byte order mark. Raises `SettingsFileError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsFileError(f"config: {path} cannot be read: {error.strerror or error}") from None
    encoding = _OTHER_ENCODINGS.get(content[:2])
    if encoding is not None:
        raise SettingsFileError(f"config: {path}, line 1, column 1: the file is {encoding}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Its position is one in what follows a byte order mark.
        body = content.removeprefix(b"\xef\xbb\xbf")
        before = body[: error.start].decode()
        raise SettingsFileError(
            f"config: {path}, {_place(before)}: byte 0x{body[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsFileError(f"config: {path}, {_described(error, text)}") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond what Python reads
        raise SettingsFileError(f"config: {path}: {error}") from None


def line_of(path: Path, key: str) -> int | None:
    """The line, from 1, that sets a key, or begins a table of that name; None where no line obviously does."""
    sets_it = re.compile(rf"""\s*(?:\[\s*)?(["']?){re.escape(key)}\1\s*[=.\]]""")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return next((number for number, line in enumerate(lines, start=1) if sets_it.match(line)), None)


def _described(error: tomllib.TOMLDecodeError, text: str) -> str:
    said = str(error)
    found = _PLACE.search(said)
    reason = said[: found.start()] if found else said
    if found is None or found[1] is None:
        place, line = _place(text), (text.splitlines() or [""])[-1]
    else:
        place, line = f"line {found[1]}, column {found[2]}", text.split("\n")[int(found[1]) - 1]
    # In double quotes a backslash begins an escape: some ask for digits, some are none, one hides the closing quote.
    hint = "; write a path with backslashes in single quotes" if "\\" in line else ""
    return f"{place}: {reason}{hint}"


def _place(before: str) -> str:
    """Line and column, from 1, of the character that follows `before`."""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
