"""Pseudonyms of user ids: what producers publish in place of an id that says who somebody is.

A pseudonym is `<key id>-<32 hexadecimal digits>`: the first 128 bits of HMAC-SHA-256, under a secret key, of the user
id in UTF-8. Equal ids have equal pseudonyms, so that a user's events still meet. Without the key nobody can tell or try
out whose they are, and with it only by trying. Pure; docs/people.md has test vectors for other languages.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from events.types import EVENT_TYPES, Event, KeyedEvent, encode_event

KEY_ID_PATTERN = "^[a-z][a-z0-9]{0,15}$"
LEAST_KEY_BYTES = 32
DIGITS = 32
"""128 bits: among a billion users, two with one pseudonym are as likely as one in 10²⁰."""


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms of one key. `key_id` tells them from those of other keys, before and after a rotation."""

    key_id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not re.match(KEY_ID_PATTERN, self.key_id):
            raise ValueError(
                f"the key id {self.key_id!r} is not a letter and up to 15 letters and digits, in small type"
            )
        if len(self.key) < LEAST_KEY_BYTES:
            raise ValueError(f"has {len(self.key)} bytes, and must have at least {LEAST_KEY_BYTES}")

    @classmethod
    def from_hex(cls, key_id: str, digits: str) -> Pseudonyms:
        """From a key in hexadecimal digits, as `openssl rand -hex 32` prints one. Raises `ValueError` without them."""
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            raise ValueError("is not in hexadecimal digits; make one with `openssl rand -hex 32`") from None
        return cls(key_id, key)

    def of(self, user_id: str) -> str:
        """The pseudonym of a user."""
        return f"{self.key_id}-{hmac.new(self.key, user_id.encode(), hashlib.sha256).hexdigest()[:DIGITS]}"

    def covers(self, user_id: str) -> bool:
        """Whether an id is of the form that this key's pseudonyms have."""
        return re.fullmatch(rf"{self.key_id}-[0-9a-f]{{{DIGITS}}}", user_id) is not None

    def put_on(self, event: Event) -> Event:
        """The event under its user's pseudonym, also where `event_id` repeats the id.

        Raises `ValueError` for a pseudonym of this key, which would get another one.
        """
        user_id = event.user_id
        if self.covers(user_id):
            raise ValueError(f"the user_id {user_id!r} is a pseudonym of this key already")
        pseudonym = self.of(user_id)
        return msgspec.structs.replace(event, user_id=pseudonym, event_id=event.event_id.replace(user_id, pseudonym))

    def put_on_all(self, events: Iterable[KeyedEvent]) -> Iterator[KeyedEvent]:
        """Published events under their users' pseudonyms, in order; fields that no schema has are left out."""
        decode = {kind: msgspec.json.Decoder(of_kind).decode for kind, of_kind in EVENT_TYPES.items()}
        for kind, _, value, at_ms in events:
            event = self.put_on(decode[kind](value))
            yield kind, event.user_id.encode(), encode_event(event), at_ms
