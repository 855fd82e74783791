"""What is no TOML is named in one line: file, line, column, and what to do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.settings_file import SettingsFileError, line_of, read_settings_file


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "foreshock.toml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", {}),
        (b"partitions = 4\n", {"partitions": 4}),
        (b"\xef\xbb\xbfpartitions = 4\r\n", {"partitions": 4}),
        (b"\xef\xbb\xbf", {}),
        (b"bundle = 'C:\\Users\\x'\n", {"bundle": "C:\\Users\\x"}),
        ('topic_prefix = "é."\n'.encode(), {"topic_prefix": "é."}),
    ],
)
def test_toml_in_utf_8_is_read(tmp_path: Path, content: bytes, found: dict[str, object]) -> None:
    assert read_settings_file(file_of(tmp_path, content)) == found


BAD: dict[str, tuple[bytes, str]] = {
    "a comma": (b"a = 1\npartitions = 4,\n", "line 2, column 15: "),
    "a comma after a BOM": (b"\xef\xbb\xbfpartitions = 4,\n", "line 1, column 15: "),
    "no value": (b"partitions =\n", "line 1, column 13: "),
    "end of document": (b'a = 1\nb = "x', "line 2, column 7: "),
    "end in a list": (b"a = [1,\n", "line 2, column 1: "),
    "a key twice": (b"a = 1\na = 2\n", "line 2, column 6: "),
    "Latin-1": (
        b'a = 1\ntopic_prefix = "\xe9."\n',
        "line 2, column 17: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    "Latin-1 after a BOM": (b'\xef\xbb\xbfa = "\xe9"\n', "line 1, column 6: byte 0xe9 is not UTF-8"),
    "Latin-1 after UTF-8": ('a = "é'.encode() + b'\xe9"\n', "line 1, column 7: byte 0xe9 is not UTF-8"),
    "UTF-16": ("a = 1\n".encode("utf-16"), "line 1, column 1: the file is UTF-16; save it as UTF-8"),
    "a Windows path": (b'bundle = "C:\\Users\\x"\n', "line 1, column "),
    "another Windows path": (b'bundle = "C:\\Models"\n', "line 1, column "),
    "a Windows folder": (b'bundle = "C:\\"\n', "line 1, column "),
    "a NUL": (b"a = \x00\n", "line 1, column 5: "),
    "deep nesting": (b"a = " + b"[" * 100_000, ": "),
    "many digits": (b"a = " + b"9" * 10_000, ": "),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_none_is_named_by_line_and_column(tmp_path: Path, case: str) -> None:
    content, said = BAD[case]
    path = file_of(tmp_path, content)
    with pytest.raises(SettingsFileError) as caught:
        read_settings_file(path)
    message = str(caught.value)
    assert message.startswith(f"config: {path}")
    assert said in message
    assert "\n" not in message
    assert ("single quotes" in message) == ("Windows" in case)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsFileError, match="cannot be read"):
        read_settings_file(tmp_path)


@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = file_of(tmp_path_factory.getbasetemp(), content)
    with contextlib.suppress(SettingsFileError):
        assert isinstance(read_settings_file(path), dict)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"# partitions = 3\n\npartitions = 4\n", 3),
        (b"\xef\xbb\xbfpartitions=4", 1),
        (b'"partitions" = 4', 1),
        (b"\n [partitions]\n", 2),
        (b"partitions.a = 4", 1),
        (b"my_partitions = 4\npartitions_of = 3\n", None),
    ],
)
def test_the_line_of_a_key(tmp_path: Path, content: bytes, line: int | None) -> None:
    assert line_of(file_of(tmp_path, content), "partitions") == line
