"""OAuth access tokens from a command that the operator names, kept until shortly before they expire.

The command's output is in no message: a token is a password. Knows nothing of Kafka.
"""

from __future__ import annotations

import base64
import binascii
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

COMMAND_TIMEOUT_S = 20.0
UNKNOWN_LIFETIME_S = 60.0
"""How long a token is kept that does not say when it expires."""

EARLY_S = 30.0
"""A token is replaced so long before it expires, or after half its lifetime if that is shorter."""


class TokenError(ConnectionError):
    """The command gives no token; the message names the setting and says why, without the command's output."""


class TokenCommand:
    """Runs `command`, split as a shell would and run without one. Its standard output is the token, bare or as JSON.

    JSON is the answer of an OAuth token endpoint: `access_token`, and `expires_in` in seconds. Of a bare token, the
    lifetime is read from its `exp` if it is a JWT. Standard error goes where this process's goes. Thread-safe.
    """

    def __init__(self, command: str, *, now_s: Callable[[], float] = time.time) -> None:
        self._command = command
        self._now_s = now_s
        self._lock = threading.Lock()
        self._token = ""
        self._until_s = 0.0

    def token(self) -> str:
        """A token that is not about to expire. Raises `TokenError`."""
        with self._lock:
            if self._now_s() >= self._until_s:
                token, lifetime_s = _read(self._output(), self._now_s())
                self._token, self._until_s = token, self._now_s() + lifetime_s - min(EARLY_S, lifetime_s / 2)
            return self._token

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


def _read(output: str, now_s: float) -> tuple[str, float]:
    """Token and lifetime in seconds."""
    answer = _object(output) if output.startswith("{") else {"access_token": output}
    token, lifetime_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenError(
            "oauth_token_command: the command wrote no token to standard output; expected the bare token, or JSON with "
            "access_token and expires_in"
        )
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
        return _object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}
