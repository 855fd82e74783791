"""Reading a bundle's folder: each file at most once, of bounded size, from inside the folder, and as the manifest says.

What is returned are the bytes that were checked, so that nobody can change a file between the check and its use. Parses
nothing; knows the names of files, not what is in them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from model.signature import SIGNATURE_BYTES, SignatureError, check_public_keys, verify

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.sig"
DOCUMENTS_SIGNATURE_FILE = "documents.json.sig"
"""Of the list of documents (`model.bundle_documents`)."""

MANIFEST_MAX_BYTES = 4 << 20
FILE_MAX_BYTES = 256 << 20
TOTAL_MAX_BYTES = 512 << 20
"""Largest manifest, largest other file, and all of these together. The shipped bundle has 13 kB, 0.5 and 1 MB."""

PUBLIC_KEY_MAX_BYTES = 1 << 16

DOCUMENTS = frozenset({".json", ".md", ".svg", ".png", ".html", ".txt", ".csv"})
"""Suffixes of what may lie beside a bundle's own files: cards, pictures and reports, of which serving reads nothing."""

_AGAIN = "copy the bundle folder again as a whole"


class BundleError(Exception):
    """A bundle cannot be used; the message says which file, what is wrong and what to do."""


def read_manifest_file(folder: Path, public_key: Path | None = None) -> bytes:
    """The bytes of the manifest, checked against its signature where a public key (PEM file) is given.

    Raises `BundleError` when it cannot be read, is too large, or, with a key, is not signed with it.
    """
    content = read_part(folder, MANIFEST_FILE, MANIFEST_MAX_BYTES, "name a folder that `foreshock train` has written")
    if public_key is not None:
        check_signature(folder, content, public_key)
    return content


def check_signature(folder: Path, content: bytes, public_key: Path, name: str = MANIFEST_FILE) -> str:
    """The id of the key that signed a file, the manifest or another one of which these bytes are the content.

    Raises `BundleError` when it is none of those in `public_key`.
    """
    path = folder / f"{name}.sig"
    if not os.path.lexists(path):
        raise BundleError(
            f"{path} is missing, and bundle_public_key asks for signed bundles; take a bundle that was signed with its "
            f"key (`foreshock bundle sign {folder}`)"
        )
    signature = read_part(folder, path.name, SIGNATURE_BYTES, "take the bundle from where it was signed")
    keys = read_public_key(public_key)
    try:
        return verify(content, signature, keys)
    except SignatureError as error:
        raise BundleError(
            f"{path} is no signature of {name} by bundle_public_key {public_key}: {error}. Do not use this "
            "bundle; take it from where it was signed"
        ) from None


def read_public_key(path: Path) -> bytes:
    """The bytes of a file of public keys. Raises `BundleError` when it cannot be read or holds none for Ed25519."""
    try:
        with path.open("rb") as file:
            content = file.read(PUBLIC_KEY_MAX_BYTES)
        check_public_keys(content)
    except OSError as error:
        raise BundleError(
            f"bundle_public_key: {path} cannot be read ({error.strerror}); name the PEM file of the public key"
        ) from None
    except SignatureError as error:
        raise BundleError(f"bundle_public_key: {path}: {error}; name the PEM file of an Ed25519 public key") from None
    return content


def read_files(folder: Path, expected: Collection[str], digests: Mapping[str, str]) -> dict[str, bytes]:
    """The bytes of the files `expected`, which are those that the manifest lists with their SHA-256.

    Raises `BundleError` when a file is missing, too large, altered, leads out of the folder, or is there and belongs to
    nothing.
    """
    _check_names(folder, expected, digests)
    _check_nothing_else(folder, {*expected, MANIFEST_FILE, SIGNATURE_FILE, DOCUMENTS_SIGNATURE_FILE})
    found: dict[str, bytes] = {}
    left = TOTAL_MAX_BYTES
    for name in expected:
        content = read_part(folder, name, min(FILE_MAX_BYTES, left), _AGAIN)
        left -= len(content)
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise BundleError(
                f"{folder / name} is not the file that {MANIFEST_FILE} was written for (SHA-256 differs); {_AGAIN}"
            )
        found[name] = content
    return found


def read_file(folder: Path, name: str, digest: str) -> bytes:
    """The bytes of one file. Raises `BundleError` as `read_files`."""
    content = read_part(folder, name, FILE_MAX_BYTES, _AGAIN)
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(f"{folder / name} was changed since the bundle was loaded (SHA-256 differs); {_AGAIN}")
    return content


def _check_names(folder: Path, expected: Collection[str], digests: Mapping[str, str]) -> None:
    where = folder / MANIFEST_FILE
    for name in digests:
        if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
            raise BundleError(
                f"{where} lists {name!r}, which is not the name of a file in the bundle's folder; "
                "do not use this bundle, train it again"
            )
        if name not in expected:
            raise BundleError(
                f"{where} lists {name!r}, which is no part of a bundle ({', '.join(expected)}); train the bundle again"
            )
    for name in expected:
        if name not in digests:
            raise BundleError(f"{where} does not list {name}; train the bundle again")


def _check_nothing_else(folder: Path, own: Collection[str]) -> None:
    """Refuse files that could be taken for a part of the bundle. Hidden ones, folders and documents may be there."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise BundleError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from None
    for entry in entries:
        if entry.name in own or entry.name.startswith(".") or Path(entry.name).suffix.lower() in DOCUMENTS:
            continue
        if not entry.is_dir():
            raise BundleError(
                f"{folder / entry.name} is in the bundle's folder, but {MANIFEST_FILE} does not list it; move it away, "
                f"or {_AGAIN}"
            )


def read_part(folder: Path, name: str, limit: int, remedy: str) -> bytes:
    """The bytes of one regular file of at most `limit` bytes, which lies in `folder`, if through symbolic links.

    Raises `BundleError`, which ends with the `remedy`.
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve()):
            raise BundleError(f"{path} leads out of the bundle's folder, to {real}; put the file itself there")
        # Neither waits for a writer, as opening a pipe would, nor follows what was a file a moment ago.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise BundleError(f"{path} is not a regular file; put the file itself there")
            if about.st_size > limit:
                raise BundleError(
                    f"{path} has {about.st_size:,} bytes, more than the {limit:,} that are read; {remedy}"
                )
            content = file.read(limit + 1)
    except (OSError, RuntimeError) as error:  # links in a circle are a RuntimeError before Python 3.13
        if isinstance(error, FileNotFoundError) and name != MANIFEST_FILE:
            raise BundleError(f"{path} is missing, though {MANIFEST_FILE} lists it; {remedy}") from None
        raise BundleError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}") from None
    if len(content) > limit:
        raise BundleError(f"{path} has more than the {limit:,} bytes that are read; {remedy}")
    return content
