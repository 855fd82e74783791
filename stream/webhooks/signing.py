"""Signatures of messages as the Standard Webhooks conventions have them. Does no I/O and reads no clock.

A message has the headers `webhook-id`, `webhook-timestamp` (of the try, in seconds since 1970) and `webhook-signature`:
for each secret that counts, `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`, with a blank between
them. A secret is `whsec_` and the base64 of its bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
SIGNATURE_VERSION = "v1"

ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"

TOLERANCE_S = 300
"""How far a message's timestamp may be from the receiver's clock: what is older may be played back by a listener."""


class SecretError(ValueError):
    """A text that is no secret of a webhook; the message does not repeat it."""


class NotSigned(ValueError):
    """A message that did not come from who knows the secret, or came too late; the message says why."""


def written_secret(secret: bytes) -> str:
    """A secret as people and receivers have it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def secret_from(text: str) -> bytes:
    """The bytes of a written secret. Raises `SecretError`."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX).encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        secret = b""
    if not text.startswith(SECRET_PREFIX) or not LEAST_SECRET_BYTES <= len(secret) <= MOST_SECRET_BYTES:
        raise SecretError(
            f"not a secret of a webhook; expected {SECRET_PREFIX} and {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} "
            "bytes in base64"
        )
    return secret


def signature(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,` and the signature in base64."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return f"{SIGNATURE_VERSION},{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


def signed_headers(secrets: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message; two signatures while a secret is being replaced."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp_s),
        SIGNATURE_HEADER: " ".join(signature(secret, message_id, timestamp_s, body) for secret in secrets),
    }


def require_signed(
    secret: bytes, headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = TOLERANCE_S
) -> str:
    """What a receiver does: returns the message's id. `headers` by their names in lower case. Raises `NotSigned`."""
    missing = [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not headers.get(name)]
    if missing:
        raise NotSigned(f"no header {missing[0]}")
    message_id, written = headers[ID_HEADER], headers[TIMESTAMP_HEADER]
    if not (written.isascii() and written.isdigit() and len(written) < 16):
        raise NotSigned(f"{TIMESTAMP_HEADER} is no number of seconds")
    if abs(now_s - int(written)) > tolerance_s:
        raise NotSigned(f"{TIMESTAMP_HEADER} is more than {tolerance_s:.0f} s from now")
    expected = signature(secret, message_id, int(written), body).encode()
    given = headers[SIGNATURE_HEADER].encode(errors="replace").split()
    # Each is compared, whatever the others came to: no answer comes sooner for a better guess.
    if not any([hmac.compare_digest(one, expected) for one in given]):  # noqa: C419
        raise NotSigned(f"no signature in {SIGNATURE_HEADER} is of this message and this secret")
    return message_id
