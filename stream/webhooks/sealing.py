"""Secrets of webhooks as the database holds them: encrypted by a key that it does not have.

AES-256-GCM. A sealed secret begins with the name of its key, and belongs to one webhook and one column: copied into
another row it does not open. Does no I/O.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NAME_BYTES, _NONCE_BYTES = 4, 12


class SealError(ValueError):
    """A key that is none, or a secret that no key opens; the message holds neither."""


@dataclass(frozen=True)
class SealingKeys:
    """The keys of `webhook_key`: the first seals, all open."""

    keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """From 64 hexadecimal digits, or several such with commas between them. Raises `SealError`."""
        keys = []
        for number, part in enumerate(text.split(","), 1):
            try:
                keys.append(bytes.fromhex(part.strip()))
            except ValueError:
                keys.append(b"")
            if len(keys[-1]) != KEY_BYTES:
                raise SealError(
                    f"key {number} is not {2 * KEY_BYTES} hexadecimal digits; `openssl rand -hex {KEY_BYTES}` makes one"
                )
        return cls(tuple(keys))

    def seal(self, secret: bytes, place: str) -> bytes:
        """Encrypt for one place, e.g. `name/secret`."""
        key, nonce = self.keys[0], os.urandom(_NONCE_BYTES)
        return _name(key) + nonce + AESGCM(key).encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `SealError` where it was sealed by another key or for another place, or was changed."""
        name, nonce = sealed[:_NAME_BYTES], sealed[_NAME_BYTES : _NAME_BYTES + _NONCE_BYTES]
        for key in self.keys:
            if _name(key) != name:
                continue
            try:
                return AESGCM(key).decrypt(nonce, sealed[_NAME_BYTES + _NONCE_BYTES :], place.encode())
            except (InvalidTag, ValueError):
                raise SealError(f"the secret at {place} was changed, or is of another place") from None
        raise SealError(
            f"the secret at {place} was encrypted by a key that webhook_key does not name; add it there, after a comma"
        )

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the first key has sealed it."""
        return sealed[:_NAME_BYTES] == _name(self.keys[0])


def _name(key: bytes) -> bytes:
    """Which key it is, without saying anything about it."""
    return hashlib.sha256(b"foreshock webhook key\0" + key).digest()[:_NAME_BYTES]
