"""Tokens from a command: what counts as one, how long it is kept, and that no message repeats it."""

from __future__ import annotations

import base64
import json
import shlex
import sys
from pathlib import Path

import pytest

from stream.kafka.oauth import UNKNOWN_LIFETIME_S, TokenCommand, TokenError


class Clock:
    def __init__(self) -> None:
        self.s = 1_000_000.0

    def __call__(self) -> float:
        return self.s


class Command:
    """Writes the text of a file, and counts how often it was asked."""

    def __init__(self, folder: Path) -> None:
        self.text, self.count = folder / "text", folder / "count"
        code = (
            f"import sys; sys.stdout.write(open({str(self.text)!r}).read()); open({str(self.count)!r}, 'a').write('x')"
        )
        self.line = shlex.join([sys.executable, "-c", code])

    def says(self, text: str) -> None:
        self.text.write_text(text)

    @property
    def runs(self) -> int:
        return len(self.count.read_text()) if self.count.exists() else 0


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def jwt(**claims: object) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{part}.c2ln"


@pytest.mark.parametrize(
    ("text", "lifetime_s"),
    [
        ('{"access_token": "abc", "expires_in": 600, "token_type": "Bearer"}', 600),
        ('{"access_token": "abc"}', UNKNOWN_LIFETIME_S),
        ("abc\n", UNKNOWN_LIFETIME_S),
    ],
)
def test_a_token_is_kept_until_shortly_before_it_expires(command: Command, text: str, lifetime_s: float) -> None:
    clock = Clock()
    command.says(text)
    tokens = TokenCommand(command.line, now_s=clock)
    assert tokens.token() == "abc"
    clock.s += lifetime_s - 31
    assert (tokens.token(), command.runs) == ("abc", 1)
    clock.s += 2
    assert (tokens.token(), command.runs) == ("abc", 2)


def test_a_jwt_says_when_it_expires(command: Command) -> None:
    clock = Clock()
    command.says(jwt(exp=clock.s + 300))
    tokens = TokenCommand(command.line, now_s=clock)
    tokens.token()
    clock.s += 265
    tokens.token()
    assert command.runs == 1
    clock.s += 10
    tokens.token()
    assert command.runs == 2


def test_a_short_lived_token_is_not_asked_for_each_time(command: Command) -> None:
    clock = Clock()
    command.says('{"access_token": "abc", "expires_in": 20}')
    tokens = TokenCommand(command.line, now_s=clock)
    tokens.token()
    clock.s += 9
    tokens.token()
    assert command.runs == 1


@pytest.mark.parametrize(
    "text", ["", "{}", '{"access_token": 5}', '{"secret-word": ', "secret-word two", "secrét-word"]
)
def test_what_is_no_token_is_not_repeated(command: Command, text: str) -> None:
    command.says(text)
    with pytest.raises(TokenError, match=r"^oauth_token_command: ") as caught:
        TokenCommand(command.line).token()
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/no/such/secret-word", "FileNotFoundError"),
        ('unclosed "secret-word', "ValueError"),
        (shlex.join([sys.executable, "-c", "print('secret-word'); raise SystemExit(3)"]), "code 3"),
        (shlex.join([sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'secret-word\xff')"]), "UTF-8"),
    ],
)
def test_a_command_that_fails(line: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason) as caught:
        TokenCommand(line).token()
    assert "secret-word" not in str(caught.value)


def test_a_claim_that_is_no_jwt_is_a_bare_token(command: Command) -> None:
    command.says("a.b.c")
    assert TokenCommand(command.line).token() == "a.b.c"
