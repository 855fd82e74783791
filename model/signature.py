"""Ed25519 signatures with keys in PEM: making a pair of keys, signing, and checking. Knows nothing of bundles.

The signature is the bare 64 bytes of RFC 8032 over the content itself, so that other tools and key stores can make and
check it too. Needs the package `cryptography`, which is imported when one of these functions is called.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64

_PUBLIC_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class SignatureError(ValueError):
    """A key cannot be used, or a signature is wrong; the message says what is wrong, not where."""


def new_keys() -> tuple[bytes, bytes]:
    """A new private key and its public key, both PEM. The private one is not encrypted."""
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return (
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def sign(content: bytes, private_key: bytes) -> bytes:
    """The signature of `content` by a private key (PEM, not encrypted). Raises `SignatureError` for another key."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key, password=None)
    except TypeError:
        raise SignatureError("the private key is encrypted; decrypt it, or sign with the tool that keeps it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("this is no private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("this is a private key, but none for Ed25519")
    return key.sign(content)


def check_public_keys(content: bytes) -> None:
    """Raise `SignatureError` unless `content` holds public keys for Ed25519 (PEM), which can be used here."""
    _public_keys(content)


def verify(content: bytes, signature: bytes, public_keys: bytes) -> str:
    """Raise `SignatureError` unless `signature` is that of `content` by one of `public_keys` (one or more, PEM).

    Returns the `key_id` of the key.
    """
    keys = _public_keys(public_keys)
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    from cryptography.exceptions import InvalidSignature

    for pem, key in keys:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return key_id(pem)
    ids = " or ".join(key_id(pem) for pem, _ in keys)
    raise SignatureError(f"it was not signed with key {ids}, or was changed since")


def key_id(public_key: bytes) -> str:
    """16 hex digits that name a public key (PEM): the start of the SHA-256 of its bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    ((_, key),) = _public_keys(public_key)
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _public_keys(content: bytes) -> list[tuple[bytes, Ed25519PublicKey]]:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found: list[tuple[bytes, Ed25519PublicKey]] = []
    for pem in _PUBLIC_PEM.findall(content):
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise SignatureError("this is no public key in PEM") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError("this is a public key, but none for Ed25519")
        found.append((pem, key))
    if not found:
        raise SignatureError("this is no public key in PEM")
    return found


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise SignatureError(
            "signatures need the package cryptography: pip install -c constraints.txt cryptography"
        ) from None
