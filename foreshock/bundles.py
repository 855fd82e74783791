"""Commands `bundle keygen`, `bundle sign` and `bundle verify`: is a bundle the one that somebody vouches for?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from foreshock.options import AsJson, takes_settings
from foreshock.terminal import fail, tell
from model.bundle import Bundle, BundleError
from model.bundle_documents import LIST_FILE, decode_list, forget_list, list_documents
from model.bundle_folder import (
    DOCUMENTS_SIGNATURE_FILE,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    check_signature,
    read_manifest_file,
)
from model.signature import SignatureError, key_id, new_keys
from model.signature import sign as signature_of
from stream.settings import Settings

bundle_app = typer.Typer(help="Sign bundles, and check their signatures.", no_args_is_help=True)

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")]


def keygen(
    private_key: Annotated[Path, typer.Argument(metavar="PRIVATE", help="New file for the private key.")],
    public_key: Annotated[Path, typer.Argument(metavar="PUBLIC", help="New file for the public key.")],
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys for signing bundles.

    Ed25519, in PEM. The private key is not encrypted and only its owner can read the file: keep it where bundles are
    signed, and nowhere else. The public one goes to every worker, as `bundle_public_key`. No file is overwritten.

        foreshock bundle keygen signing.pem signing.pub
    """
    try:
        private, public = new_keys()
        _write_new(private_key, private, 0o600)
        _write_new(public_key, public, 0o644)
    except SignatureError as error:
        fail(str(error))
    except FileExistsError as error:
        fail(f"{error.filename} is there already; name a new file, keys are never overwritten")
    except OSError as error:
        fail(f"{error.filename} cannot be written ({error.strerror})")
    facts = {"key": key_id(public), "private_key": str(private_key), "public_key": str(public_key)}
    tell(as_json, facts, f"key {key_id(public)}: private in {private_key}, public in {public_key}")


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="PEM file of the private key.")],
    as_json: AsJson = False,
) -> None:
    """Sign a bundle.

    Checks the bundle and writes the signature of its manifest, which has the SHA-256 of all that is run, into
    `manifest.json.sig`. The documents in its folder, card and drift reference among them, are listed with theirs in
    `documents.json`, which is signed, too. Whatever changes the manifest afterwards, as `reasons calibrate` does, makes
    both void; `card` and `reference` the second one.

        foreshock bundle sign my-bundle --key signing.pem
    """
    try:
        loaded = Bundle.load(bundle)
        content = read_manifest_file(bundle)
        private, documents = key.read_bytes(), list_documents(bundle, content)
        signature, of_documents = signature_of(content, private), signature_of(documents, private)
        forget_list(bundle)
        (bundle / LIST_FILE).write_bytes(documents)
        (bundle / DOCUMENTS_SIGNATURE_FILE).write_bytes(of_documents)
        (bundle / SIGNATURE_FILE).write_bytes(signature)
    except BundleError as error:
        fail(str(error))
    except SignatureError as error:
        fail(f"{key}: {error}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    signed = list(decode_list(bundle / LIST_FILE, documents).files)
    tell(
        as_json,
        {"model": loaded.fingerprint_hex, "signature": str(bundle / SIGNATURE_FILE), "documents": signed},
        f"signed bundle {loaded.fingerprint_hex}: {bundle / SIGNATURE_FILE}",
        f"signed documents: {_named(signed)}",
    )


@takes_settings()
def verify(
    bundle: BundleArgument,
    public_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of the public key.", show_default="the setting bundle_public_key"),
    ] = None,
    as_json: AsJson = False,
    *,
    settings: Settings,
) -> None:
    """Check a bundle's signatures, files and graphs.

    What a worker checks when it starts, signed documents included. Without a key, signatures are left out. Exit code 1
    when anything is wrong.

        foreshock bundle verify my-bundle --public-key signing.pub
    """
    key = public_key or settings.bundle_public_key
    try:
        loaded = Bundle.load(bundle, key)
        signer = None if key is None else _signer(bundle, key)
    except BundleError as error:
        fail(str(error))
    documents = None if loaded.vouched_documents is None else sorted(loaded.vouched_documents)
    tell(
        as_json,
        {
            "model": loaded.fingerprint_hex,
            "files": len(loaded.manifest.files),
            "signed_by": signer,
            "signed_documents": documents,
        },
        f"bundle {loaded.fingerprint_hex}: {len(loaded.manifest.files)} files as {MANIFEST_FILE} says",
        f"signature: {'not checked: no key was given' if signer is None else f'by key {signer}'}",
        *([] if documents is None else [f"signed documents: {_named(documents)}"]),
    )


def _named(documents: Iterable[str]) -> str:
    return ", ".join(documents) or "none"


def _signer(bundle: Path, key: Path) -> str:
    return check_signature(bundle, read_manifest_file(bundle), key)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)


bundle_app.command("keygen")(keygen)
bundle_app.command("sign")(sign)
bundle_app.command("verify")(verify)
