"""Pseudonyms on the command line: the key comes from a file, lines are turned, and what is no event is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from events.pseudonyms import Pseudonyms
from foreshock import app
from foreshock.people import known_as
from stream.settings import SettingsError, load_settings

KEY = bytes(range(32)).hex()
PSEUDONYMS = Pseudonyms.from_hex("p1", KEY)


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pseudonym_key"
    path.write_text(f"{KEY}\n")
    monkeypatch.setenv("FORESHOCK_PSEUDONYM_KEY_FILE", str(path))
    return path


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


@pytest.mark.usefixtures("key_file")
def test_a_pseudonym_is_printed() -> None:
    assert run("pseudonym", "customer-4711").output.strip() == PSEUDONYMS.of("customer-4711")


def test_without_a_key_it_is_said_how_to_make_one() -> None:
    result = run("pseudonym", "customer-4711")
    assert result.exit_code == 2
    assert "openssl rand -hex 32" in result.output


def test_a_wrong_key_is_named_and_not_repeated(key_file: Path) -> None:
    key_file.write_text("swordfish")
    result = run("pseudonym", "customer-4711")
    assert result.exit_code == 2
    assert "pseudonym_key" in result.output
    assert "swordfish" not in result.output
    with pytest.raises(SettingsError, match="hexadecimal"):
        _ = load_settings().pseudonyms


@pytest.mark.usefixtures("key_file")
def test_simulated_events_are_those_without_pseudonyms_under_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("simulate", "--users", "5", "--months", "2", "--limit", "300", "--out")
    assert run(*options, str(tmp_path / "pseudonyms.jsonl")).exit_code == 0
    monkeypatch.delenv("FORESHOCK_PSEUDONYM_KEY_FILE")
    assert run(*options, str(tmp_path / "names.jsonl")).exit_code == 0
    monkeypatch.setenv("FORESHOCK_PSEUDONYM_KEY", KEY)
    result = run("pseudonym", "--events", str(tmp_path / "names.jsonl"), "--out", str(tmp_path / "turned.jsonl"))
    assert result.exit_code == 0, result.output
    turned = (tmp_path / "turned.jsonl").read_text()
    assert turned == (tmp_path / "pseudonyms.jsonl").read_text()
    assert len(turned.splitlines()) > 50
    names = {json.loads(line)["event"]["user_id"] for line in (tmp_path / "names.jsonl").read_text().splitlines()}
    assert not any(name in turned for name in names)


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "line 2: "),
        ('{"topic":"salaries","event":{}}', "line 2: the topic 'salaries' is none of"),
        ('{"topic":"risk.activity","event":{"user_id":"u"}}', "line 2: "),
    ],
)
def test_a_line_that_is_no_event_is_named(line: str, said: str) -> None:
    good = '{"topic":"risk.activity","event":{"event_id":"a","user_id":"u","occurred_at":"2024-01-01T00:00:00Z","kind":"session"}}'  # noqa: E501
    result = run("pseudonym", "--events", "-", given=f"{good}\n{line}\n")
    assert result.exit_code == 1
    assert said in result.output
    assert PSEUDONYMS.of("u") in result.output


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("arguments", [(), ("u", "--events", "-")])
def test_it_is_either_a_user_or_events(arguments: tuple[str, ...]) -> None:
    assert run("pseudonym", *arguments).exit_code == 2


@pytest.mark.usefixtures("key_file")
def test_a_user_is_known_by_pseudonym_unless_it_is_one() -> None:
    settings, name = load_settings(), PSEUDONYMS.of("u")
    assert [known_as(settings, user, False) for user in ("u", name)] == [name, name]
    assert known_as(settings, "u", True) == "u"
