"""Documents beside a bundle, which a signature may vouch for: its card, its drift reference, pictures and reports.

They name the bundle's fingerprint, which is over the manifest, so the manifest cannot name them. A list of their own
has their SHA-256 and that of the manifest; it is signed as the manifest is. No document changes a score.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from model.bundle_folder import (
    DOCUMENTS,
    DOCUMENTS_SIGNATURE_FILE,
    FILE_MAX_BYTES,
    MANIFEST_FILE,
    MANIFEST_MAX_BYTES,
    BundleError,
    check_signature,
    read_part,
)

LIST_FILE = "documents.json"

_SIGN_AGAIN = "take the bundle from where it was signed, or sign it again: `foreshock bundle sign`"


class DocumentList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of `documents.json`: the SHA-256 of the manifest, and those of documents by name."""

    manifest: str
    files: dict[str, str]


def list_documents(folder: Path, manifest: bytes) -> bytes:
    """The list of the documents that lie in a bundle's folder. Raises `BundleError` where one cannot be read."""
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
        and entry.is_file()
        and Path(entry.name).suffix.lower() in DOCUMENTS
        and entry.name not in (MANIFEST_FILE, LIST_FILE)
    )
    files = {name: _sha256(read_part(folder, name, FILE_MAX_BYTES, "move it away")) for name in names}
    listed = DocumentList(manifest=_sha256(manifest), files=files)
    return msgspec.json.format(msgspec.json.encode(listed), indent=2) + b"\n"


def vouched_documents(folder: Path, manifest: bytes, public_key: Path) -> Mapping[str, str]:
    """SHA-256 by name of the documents that whoever signed the manifest vouches for; none where no list was signed.

    Raises `BundleError` where the list is not signed with the key, is of another manifest, or a document that lies in
    the folder is another one. One that is listed may be absent.
    """
    if not any(os.path.lexists(folder / name) for name in (LIST_FILE, DOCUMENTS_SIGNATURE_FILE)):
        return {}
    where = folder / LIST_FILE
    content = read_part(folder, LIST_FILE, MANIFEST_MAX_BYTES, _SIGN_AGAIN)
    check_signature(folder, content, public_key, LIST_FILE)
    listed = decode_list(where, content)
    if listed.manifest != _sha256(manifest):
        raise BundleError(f"{where} is the list of another bundle's documents; {_SIGN_AGAIN}")
    for name, digest in listed.files.items():
        if os.path.lexists(folder / name) and _sha256(read_part(folder, name, FILE_MAX_BYTES, _SIGN_AGAIN)) != digest:
            raise BundleError(
                f"{folder / name} was changed since the bundle was signed (SHA-256 differs); {_SIGN_AGAIN}"
            )
    return listed.files


def decode_list(where: Path, content: bytes) -> DocumentList:
    """The list in `where`, whose names are those of files in one folder. Raises `BundleError`."""
    try:
        listed = msgspec.json.decode(content, type=DocumentList)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is no list of a bundle's documents: {error}; {_SIGN_AGAIN}") from None
    for name in listed.files:
        if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
            raise BundleError(
                f"{where} lists {name!r:.100}, which is no document in the bundle's folder; {_SIGN_AGAIN}"
            )
    return listed


def read_document(folder: Path, name: str, vouched: Mapping[str, str] | None) -> bytes | None:
    """The bytes of a document, None where there is none. `vouched` is what the bundle's signature covers, None where
    none was asked for.

    Raises `BundleError` where it cannot be read, or is not covered by the signature that was asked for.
    """
    if not os.path.lexists(folder / name):
        return None
    content = read_part(folder, name, FILE_MAX_BYTES, "check its permissions, or delete it")
    if vouched is not None and vouched.get(name) != _sha256(content):
        changed = "was changed since the bundle was signed" if name in vouched else "is not covered by its signature"
        raise BundleError(f"{folder / name} {changed}, and bundle_public_key asks for signed bundles; {_SIGN_AGAIN}")
    return content


def forget_list(folder: Path) -> bool:
    """Remove the list, since a document or the manifest is about to change; whether there was one."""
    found = [name for name in (DOCUMENTS_SIGNATURE_FILE, LIST_FILE) if os.path.lexists(folder / name)]
    for name in found:
        (folder / name).unlink()
    return bool(found)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
