"""The command line as a whole: its groups, its help, and what it says of missing things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from foreshock import COMMANDS, app

runner = CliRunner()
ROOT: Any = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--source", "taiwan"], "--path"),
        (["demo", "--source", "taiwan", "--path", "no-such-file.csv"], "no-such-file.csv"),
        (["demo", "--source", "files", "--path", "no-such.toml"], "no-such.toml"),
        (["demo", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["worker", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["sink", "--stack-dir", "no-such-stack", "--bootstrap-servers", "localhost:1"], "--database-url"),
        (["simulate", "--stack-dir", "no-such-stack"], "--bootstrap-servers"),
        (["topics", "create", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["db", "upgrade", "--stack-dir", "no-such-stack"], "--database-url"),
        (["worker", "--config", "no-such.toml"], "no-such.toml"),
        (["worker", "--state-dir", ""], "is empty"),
        (["worker", "--bundle", " "], "is empty"),
        (["topics", "check", "--stack-dir", ""], "is empty"),
        (["train", "--out", "bundle", "--architecture", "abacus"], "lstm-attention"),
        (["explain", "--user", "u", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["models", "list", "--stack-dir", "no-such-stack"], "--database-url"),
        (["models", "register", "no-such-bundle"], "no-such-bundle"),
        (["models", "approve", "1d75", "--reason", " "], "--reason is empty"),
        (["models", "retire", "1d75", "--reason", "old", "--actor", ""], "--actor is empty"),
        (["shadow", "run", "a b"], "up to 100 letters"),
        (["shadow", "run", "may", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["shadow", "report", "may", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["explain", "--user", "nobody", "--source", "simulator", "--users", "10", "--months", "1"], "'nobody'"),
        (["explain", "--user", "u", "--bundle", "no-such-bundle", "--source", "simulator"], "no-such-bundle"),
        (["archive", "check", "no-such-folder"], "is no archive"),
        (["archive", "export", "archive", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["archive", "import", "archive", "--topics", ",", "--bootstrap-servers", "localhost:1"], "names no topic"),
        (["archive", "forget", "no-such-folder", "u", "--yes", "--without-kafka"], "is no archive"),
        (["replay", "diff", "march", "--segment", "colour"], "marital_status"),
        (["replay", "plan", "a b", "--from", "2023-01-01", "--to", "2024-01-01"], "--bootstrap-servers"),
        (["reasons", "measure", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["reasons", "calibrate", "--source", "taiwan"], "--path"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], said: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr.replace("\n", "")


@pytest.mark.parametrize("content", [b"partitions = 4,", b"\xe9", b'bundle = "C:\\Users"', b'partitions = "many"'])
def test_a_file_of_settings_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "wrong.toml"
    file.write_bytes(content)
    result = runner.invoke(app, ["topics", "check", "--config", str(file)])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"{file}, line 1" in line


def commands(command: Any = ROOT, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):  # most are made when they are asked for
        yield from commands(command.get_command(None, name), *path, name)


FOUND = dict(commands())
PATHS = [path for path, command in FOUND.items() if not command.hidden]


def test_all_commands_are_found() -> None:
    assert {path[0] for path in PATHS} == {name for names in COMMANDS.values() for name in names}
    assert len(PATHS) > 70


def help_of(*path: str) -> str:
    result = runner.invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_lists_every_command_in_its_group() -> None:
    text = help_of()
    places = [text.index(f"─ {group} ─") for group in COMMANDS]
    assert places == sorted(places)
    for group, start, end in zip(COMMANDS, places, [*places[1:], len(text)], strict=True):
        shown = [line.split()[1] for line in text[start:end].splitlines() if line.startswith("│ ")]
        assert shown == list(COMMANDS[group]), "one line for each command"


@pytest.mark.parametrize("path", [(), *PATHS], ids=" ".join)
def test_the_help_fits_80_columns(path: tuple[str, ...]) -> None:
    assert max(map(len, help_of(*path).splitlines())) <= 80


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_and_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    command = FOUND[path]
    first = command.help.split("\n\n")[0]
    assert first.endswith(".")
    assert len(first) <= 68, "the list of commands shows it on one line"
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


RUNS_UNTIL_STOPPED = "runs until it is stopped; what a program reads is its log, by --log-format json, and its metrics"
WITHOUT_JSON = {
    ("worker",): RUNS_UNTIL_STOPPED,
    ("sink",): RUNS_UNTIL_STOPPED,
    ("desk",): RUNS_UNTIL_STOPPED,
    ("webhooks", "run"): RUNS_UNTIL_STOPPED,
    ("shadow", "run"): RUNS_UNTIL_STOPPED,
    ("demo",): "shows how all parts work together, to people; each part has a command of its own",
    ("db", "roles"): "prints SQL, for psql",
    ("pseudonym",): "prints one pseudonym, or lines of JSON in any case",
    ("docs", "write"): "for who develops Foreshock; what it writes are files",
    ("docs", "release-formats"): "for who develops Foreshock; what it writes are files",
}
"""Commands without `--json`, and why."""


def options_of(path: tuple[str, ...]) -> set[str]:
    return {name for parameter in FOUND[path].params for name in parameter.opts}


def test_what_a_command_prints_can_be_read_by_programs() -> None:
    assert {path for path in PATHS if "--json" not in options_of(path)} == WITHOUT_JSON.keys()
    for path, reason in WITHOUT_JSON.items():
        assert reason != RUNS_UNTIL_STOPPED or "--log-format" in options_of(path), path


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_examples_call_the_command_with_options_that_it_has(path: tuple[str, ...]) -> None:
    command = FOUND[path]
    known = {name for parameter in command.params for name in parameter.opts}
    for line in command.help.splitlines():
        if line.startswith("    foreshock "):
            assert len(line) <= 78, "the help shows it on one line"
            words = line.partition(" | ")[0].split()  # what follows is another program
            assert tuple(words[1 : 1 + len(path)]) == path
            assert {word for word in words if word.startswith("--")} <= known
