"""No command shows a secret: not in its help, not in what it prints, not where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from foreshock import app
from foreshock.reference_pages import settings_page
from stream.settings import secret_settings

SECRET = "correct-horse"
runner = CliRunner()


def paths(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    for name, found in getattr(command, "commands", {}).items():
        yield from paths(found, *path, name)
    if not hasattr(command, "commands"):
        yield path


@pytest.fixture(autouse=True)
def _secrets_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in secret_settings():
        monkeypatch.setenv(f"FORESHOCK_{name.upper()}", SECRET)
    monkeypatch.setenv("FORESHOCK_DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:1/d")
    monkeypatch.setenv("FORESHOCK_BOOTSTRAP_SERVERS", "127.0.0.1:1")


@pytest.mark.parametrize("path", list(paths(typer.main.get_command(app))), ids=" ".join)
def test_no_help_shows_a_secret(path: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert SECRET not in settings_page()


@pytest.mark.parametrize(
    "path", [("doctor",), ("topics", "check"), ("db", "upgrade"), ("sink",), ("worker",), ("drift",)]
)
def test_no_failure_shows_a_secret(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """First as it is, where settings contradict each other; then with servers that are not there."""
    result = runner.invoke(app, list(path))
    assert result.exit_code != 0
    assert SECRET not in result.output + repr(result.exception)
    if path in (("sink",), ("worker",)):
        return  # they would wait for brokers
    for name in ("SASL_PASSWORD", "SSL_KEYFILE_PASSWORD", "DATABASE_PASSWORD"):
        monkeypatch.delenv(f"FORESHOCK_{name}")
    result = runner.invoke(app, list(path))
    assert result.exit_code != 0
    assert SECRET not in result.output + repr(result.exception)
