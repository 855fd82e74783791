"""Signatures are those that other tools make and check; every key that cannot be used is named."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from model.signature import SignatureError, check_public_keys, key_id, new_keys, sign, verify

PRIVATE, PUBLIC = new_keys()
OTHER_PRIVATE, OTHER_PUBLIC = new_keys()


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_is_of_one_content_and_one_key(content: bytes, other: bytes) -> None:
    signature = sign(content, PRIVATE)
    assert verify(content, signature, PUBLIC) == key_id(PUBLIC)
    assert verify(content, signature, OTHER_PUBLIC + PUBLIC) == key_id(PUBLIC)
    with pytest.raises(SignatureError, match=f"not signed with key {key_id(OTHER_PUBLIC)}"):
        verify(content, signature, OTHER_PUBLIC)
    if other != content:
        with pytest.raises(SignatureError, match="was changed since"):
            verify(other, signature, PUBLIC)


def test_a_signature_is_the_bare_one_of_the_standard() -> None:
    key = form.load_pem_private_key(PRIVATE, None)
    assert isinstance(key, Ed25519PrivateKey)
    assert sign(b"manifest", PRIVATE) == key.sign(b"manifest")


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    cipher = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, cipher)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "no private key in PEM"),
        (PUBLIC, "no private key in PEM"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "none for Ed25519"),
        (_pem(Ed25519PrivateKey.generate(), b"secret"), "is encrypted"),
    ],
)
def test_a_private_key_that_cannot_be_used_is_named(key: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        sign(b"", key)


def test_a_public_key_of_another_kind_is_named() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(SignatureError, match="none for Ed25519"):
        check_public_keys(public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))


def test_without_the_package_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from model.bundle import Bundle, BundleError\n"
        "from pathlib import Path\n"
        "from stream.settings import PRETRAINED_BUNDLE\n"
        "Bundle.load(PRETRAINED_BUNDLE)\n"
        "from model.signature import SignatureError, verify\n"
        "try:\n    verify(b'', bytes(64), b'')\n"
        "except SignatureError as error:\n    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "need the package cryptography: pip install" in found.stdout


def test_serving_without_a_key_does_not_load_the_package() -> None:
    code = (
        "import sys; from model.bundle import Bundle; from stream.settings import PRETRAINED_BUNDLE\n"
        "Bundle.load(PRETRAINED_BUNDLE); print('cryptography' in sys.modules, 'onnx' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == ["False", "False"]
