"""Names in a hand-over: those of whoever runs a command, and those that others have made up."""

from __future__ import annotations

from typing import Any, Never

import pytest
from typer.testing import CliRunner

from foreshock import app
from stream.hand_over.promotion import HandedOverPartitions
from stream.hand_over.situation import HandOverRefused

NOWHERE = ("--bootstrap-servers", "localhost:1")

ODD = ["", " ", "a b", "a,b", "a=b", "a/b", "../a", "a;b", "é", "-a", ".", "a\n", "\x1b[31ma", "x" * 101]
COMMANDS = ["replay promote", "replay rollback", "shadow run", "shadow report", "shadow remove"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_no_shadow_has_is_refused(command: str, name: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), *NOWHERE, "--", name])
    assert result.exit_code == 2, result.output
    assert "up to 100 letters" in " ".join(result.stderr.split())
    assert "\x1b[31m" not in result.output


@pytest.mark.parametrize("name", [odd for odd in ODD if len(odd) <= 100 and odd not in ("-a", ".")], ids=ascii)
def test_an_application_that_none_is_called_is_not_followed(name: str) -> None:
    result = CliRunner().invoke(app, ["worker", "--follow", name, *NOWHERE])
    assert result.exit_code == 2, result.output
    assert "letters, digits, dots, dashes and underscores" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", ["may", "_", "7", "MAY-2026.v2", "x" * 100])
def test_other_names_are_taken_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    _stand_in(monkeypatch, lambda giver, taker: asked.append((giver, taker)))
    for command in ("promote", "rollback"):
        result = CliRunner().invoke(app, ["replay", command, *NOWHERE, "--", name])
        assert result.exit_code == 0, result.output
    assert asked == [("foreshock", f"foreshock-shadow-{name}"), (f"foreshock-shadow-{name}", "foreshock")]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_others_have_written_into_offsets_moves_no_terminal(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata of offsets is what anybody who may commit them has put there."""

    def refuse(giver: str, _taker: str) -> Never:
        taker = "[red]\x1b[2J\x9b1;1H:skull:\r\nerror: gone"
        raise HandOverRefused(f"{giver} has handed partition 0 over to {taker}, and not to foreshock-shadow-may")

    _stand_in(monkeypatch, refuse)
    result = CliRunner().invoke(app, ["replay", "promote", "may", *NOWHERE, *(["--json"] if as_json else [])])
    assert result.exit_code == 1
    assert not (as_json and result.stdout), "what a program reads is JSON or nothing"
    assert not {"\x1b", "\x9b", "\r"} & set(result.output)
    assert "[red]" in result.stderr
    assert ":skull:" in result.stderr


def test_a_name_that_is_too_long_beside_the_application_is_refused() -> None:
    result = CliRunner().invoke(
        app, ["shadow", "run", "x" * 100, *NOWHERE], env={"FORESHOCK_APPLICATION_ID": "y" * 130}
    )
    assert result.exit_code == 2, result.output
    assert "too long beside application_id" in " ".join(result.stderr.split())


class _Reader:
    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def partitions(self, _topic: str) -> int:
        return 1


def _stand_in(monkeypatch: pytest.MonkeyPatch, handed_over: Any) -> None:
    """No broker: what is asked of a hand-over goes to `handed_over`, by giver and taker."""

    class Promotion:
        def __init__(self, _kafka: object, _topics: object, giver: str, taker: str, *_: object) -> None:
            self._names = giver, taker

        def run(self, *_: object) -> HandedOverPartitions:
            handed_over(*self._names)
            return HandedOverPartitions(frozenset({0}), 0, 0.5)

    monkeypatch.setattr("stream.hand_over.promotion.Promotion", Promotion)
    monkeypatch.setattr("stream.kafka.rights.require_rights", lambda *_: None)
    monkeypatch.setattr("stream.hand_over.promotion.require_history", lambda *_: None)
    monkeypatch.setattr("foreshock.promotion.TopicReader", _Reader)
