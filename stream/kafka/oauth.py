"""OAuth access tokens, kept until shortly before they expire, and the source that is a command of the operator's.

The other source is `stream.kafka.token_endpoint`. What a source answers is in no message: a token is a password. Knows
nothing of Kafka.
"""

from __future__ import annotations

import base64
import binascii
import logging
import shlex
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

COMMAND_TIMEOUT_S = 20.0
UNKNOWN_LIFETIME_S = 60.0
"""How long a token is kept that does not say when it expires."""

EARLY_S = 30.0
"""A token is replaced so long before it expires, or after half its lifetime if that is shorter."""


logger = logging.getLogger("foreshock.kafka")


class TokenError(ConnectionError):
    """There is no token; the message names the setting and says why, without what the source answered."""


class Tokens(ABC):
    """A source of tokens that are asked for again before they expire. Thread-safe."""

    def __init__(self, *, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._token = ""
        self._until_s = 0.0
        self._expires_s = 0.0

    def token(self) -> str:
        """A token that has not expired, and is not about to if the source gives another. Raises `TokenError`."""
        with self._lock:
            asked_s = self._now_s()
            if asked_s >= self._until_s:
                try:
                    token, lifetime_s = self._ask(asked_s)
                except TokenError as error:
                    if self._now_s() >= self._expires_s:
                        raise
                    logger.warning("%s; the token before it is good for %.0f s", error, self._expires_s - asked_s)
                    return self._token
                # From when it was asked for: how long the answer took is not known to be after the token was made.
                self._token, self._expires_s = token, asked_s + lifetime_s
                self._until_s = self._expires_s - min(EARLY_S, lifetime_s / 2)
            return self._token

    @abstractmethod
    def _ask(self, now_s: float) -> tuple[str, float]:
        """A new token, and its lifetime in seconds from `now_s`. Raises `TokenError`."""


class TokenCommand(Tokens):
    """Runs `command`, split as a shell would and run without one. Its standard output is the token, bare or as JSON.

    JSON is the answer of an OAuth token endpoint: `access_token`, and `expires_in` in seconds. Of a bare token, the
    lifetime is read from its `exp` if it is a JWT. Standard error goes where this process's goes.
    """

    def __init__(self, command: str, *, now_s: Callable[[], float] = time.time) -> None:
        super().__init__(now_s=now_s)
        self._command = command

    def _ask(self, now_s: float) -> tuple[str, float]:
        output = self._output()
        answer = json_object(output) if output.startswith("{") else {"access_token": output}
        found = token_of(answer, now_s)
        if found is None:
            raise TokenError(
                "oauth_token_command: the command wrote no token to standard output; expected the bare token, or JSON "
                "with access_token and expires_in"
            )
        return found

    def _output(self) -> str:
        try:
            ended = subprocess.run(
                shlex.split(self._command), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=COMMAND_TIMEOUT_S
            )
            output = ended.stdout.decode()
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            # Neither the command nor its output is repeated: both may hold a secret.
            reason = "is no UTF-8" if isinstance(error, UnicodeError) else f"cannot be run ({type(error).__name__})"
            raise TokenError(f"oauth_token_command: the command or its output {reason}; try it by hand") from None
        if ended.returncode != 0:
            raise TokenError(f"oauth_token_command: the command ended with code {ended.returncode}; try it by hand")
        return output.strip()


def token_of(answer: Mapping[str, Any], now_s: float) -> tuple[str, float] | None:
    """Token and lifetime in seconds, from the answer of a token endpoint; None where it holds no token."""
    token, lifetime_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        return None
    if not isinstance(lifetime_s, int | float):
        expires_s = _claims(token).get("exp")
        lifetime_s = expires_s - now_s if isinstance(expires_s, int | float) else UNKNOWN_LIFETIME_S
    return token, max(float(lifetime_s), 0.0)


def _claims(token: str) -> Mapping[str, Any]:
    """What a JWT says of itself; nothing for another kind of token. The broker checks it, not we."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return json_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}


def json_object(text: str | bytes) -> Mapping[str, Any]:
    """What a JSON object holds; nothing for what is none."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}
