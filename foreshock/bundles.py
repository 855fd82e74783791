"""Commands `bundle keygen`, `bundle sign` and `bundle verify`: is a bundle the one that somebody vouches for?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from foreshock.options import takes_settings
from foreshock.terminal import console, fail
from model.bundle import Bundle, BundleError
from model.bundle_folder import MANIFEST_FILE, SIGNATURE_FILE, check_signature, read_manifest_file
from model.signature import SignatureError, key_id, new_keys
from model.signature import sign as signature_of
from stream.settings import Settings

bundle_app = typer.Typer(help="Sign bundles, and check their signatures.", no_args_is_help=True)

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")]


def keygen(
    private_key: Annotated[Path, typer.Argument(metavar="PRIVATE", help="New file for the private key.")],
    public_key: Annotated[Path, typer.Argument(metavar="PUBLIC", help="New file for the public key.")],
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
    console.print(f"key {key_id(public)}: private in {private_key}, public in {public_key}")


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="PEM file of the private key.")],
) -> None:
    """Sign a bundle.

    Checks the bundle and writes the signature of its manifest, which has the SHA-256 of all other files, into
    `manifest.json.sig`. Whatever changes the manifest afterwards, as `reasons calibrate` does, makes it void.

        foreshock bundle sign my-bundle --key signing.pem
    """
    try:
        loaded = Bundle.load(bundle)
        content = read_manifest_file(bundle)
        signature = signature_of(content, key.read_bytes())
        (bundle / SIGNATURE_FILE).write_bytes(signature)
    except BundleError as error:
        fail(str(error))
    except SignatureError as error:
        fail(f"{key}: {error}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    console.print(f"signed bundle {loaded.fingerprint_hex}: {bundle / SIGNATURE_FILE}")


@takes_settings()
def verify(
    bundle: BundleArgument,
    public_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of the public key.", show_default="the setting bundle_public_key"),
    ] = None,
    *,
    settings: Settings,
) -> None:
    """Check a bundle's signature, files and graphs.

    What a worker checks when it starts. Without a key, the signature is left out. Exit code 1 when anything is wrong.

        foreshock bundle verify my-bundle --public-key signing.pub
    """
    key = public_key or settings.bundle_public_key
    try:
        loaded = Bundle.load(bundle, key)
        signed = "not checked: no key was given" if key is None else f"by key {_signer(bundle, key)}"
    except BundleError as error:
        fail(str(error))
    console.print(f"bundle {loaded.fingerprint_hex}: {len(loaded.manifest.files)} files as {MANIFEST_FILE} says")
    console.print(f"signature: {signed}")


def _signer(bundle: Path, key: Path) -> str:
    return check_signature(bundle, read_manifest_file(bundle), key)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)


bundle_app.command("keygen")(keygen)
bundle_app.command("sign")(sign)
bundle_app.command("verify")(verify)
