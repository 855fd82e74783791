"""Passwords of local accounts: Argon2id, checked by few at once. Knows no account and no database."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher, profiles
from argon2.exceptions import Argon2Error, InvalidHashError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 1024

HASHER = PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)

_AT_ONCE = threading.BoundedSemaphore(2)
"""A check takes 64 MiB and four threads: many sign-ins at once must not take the machine's memory."""

_NOBODY: list[str] = []


class WeakPassword(ValueError):
    """A password that is not taken; the message says why."""


def hash_password(password: str, name: str, hasher: PasswordHasher = HASHER) -> str:
    """The hash of a new password of the account `name`. Raises `WeakPassword`."""
    if len(password) < LEAST_CHARACTERS:
        raise WeakPassword(f"the password has {len(password)} characters; it needs at least {LEAST_CHARACTERS}")
    if len(password) > MOST_CHARACTERS:
        raise WeakPassword(f"the password has more than {MOST_CHARACTERS} characters")
    if len(set(password)) < LEAST_CHARACTERS // 2:
        raise WeakPassword("the password repeats the same few characters; choose another")
    if name.casefold() in password.casefold() and len(password) < LEAST_CHARACTERS + len(name):
        raise WeakPassword("the password is little more than the account's name; choose another")
    return hasher.hash(password)


def is_password(hashed: str | None, password: str) -> bool:
    """Whether a password has this hash. Where there is none, it takes as long to say no."""
    with _AT_ONCE:
        if len(password) > MOST_CHARACTERS:
            return False
        try:
            return HASHER.verify(_hash_of_nobody() if hashed is None else hashed, password) and hashed is not None
        except (Argon2Error, InvalidHashError):
            return False


def _hash_of_nobody() -> str:
    if not _NOBODY:
        _NOBODY.append(HASHER.hash("nobody has this password"))
    return _NOBODY[0]
