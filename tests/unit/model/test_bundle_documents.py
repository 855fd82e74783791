"""Documents beside a bundle: a signature vouches for them, and whoever asks for one uses no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bundle import Bundle, BundleError, write_manifest
from model.bundle_documents import LIST_FILE, decode_list, forget_list, list_documents, read_document
from model.evaluation.card import CARD_FILE, write_card
from model.evaluation.drift_reference import REFERENCE_FILE, read_drift_reference, write_drift_reference
from model.signature import new_keys, sign
from stream.settings import PRETRAINED_BUNDLE

PRIVATE, PUBLIC = new_keys()
OTHER_PRIVATE, _ = new_keys()
LIST_SIGNATURE = LIST_FILE + ".sig"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.pub"
    path.write_bytes(PUBLIC)
    return path


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """As `foreshock bundle sign` leaves it."""
    folder = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json.sig").write_bytes(sign(manifest, PRIVATE))
    relist(folder, list_documents(folder, manifest))
    return folder


def relist(folder: Path, content: bytes, private: bytes = PRIVATE) -> None:
    (folder / LIST_FILE).write_bytes(content)
    (folder / LIST_SIGNATURE).write_bytes(sign(content, private))


def refused(folder: Path, key: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder, key)
    Bundle.load(folder)  # no document changes a score


def test_all_documents_are_vouched_for_and_the_fingerprint_stays(signed: Path, key: Path) -> None:
    bundle = Bundle.load(signed, key)
    assert bundle.fingerprint == Bundle.load(PRETRAINED_BUNDLE).fingerprint
    assert set(bundle.vouched_documents or {}) == {CARD_FILE, REFERENCE_FILE, "curves.svg"}
    assert read_drift_reference(bundle) == read_drift_reference(Bundle.load(PRETRAINED_BUNDLE))
    assert read_document(signed, CARD_FILE, bundle.vouched_documents) == (PRETRAINED_BUNDLE / CARD_FILE).read_bytes()


@pytest.mark.parametrize("name", [CARD_FILE, REFERENCE_FILE, "curves.svg"])
def test_a_changed_document_is_refused(signed: Path, key: Path, name: str) -> None:
    (signed / name).write_bytes((signed / name).read_bytes() + b" ")
    refused(signed, key, f"{name} was changed since the bundle was signed .* sign it again")


def test_one_that_is_changed_after_the_bundle_was_loaded_is_refused(signed: Path, key: Path) -> None:
    bundle = Bundle.load(signed, key)
    content = (signed / REFERENCE_FILE).read_bytes()
    (signed / REFERENCE_FILE).write_bytes(content.replace(b"0", b"1"))
    with pytest.raises(BundleError, match=r"reference\.json was changed since"):
        read_drift_reference(bundle)


def test_one_that_is_not_listed_may_lie_there_but_is_not_used(signed: Path, key: Path) -> None:
    reference = (signed / REFERENCE_FILE).read_bytes()
    (signed / REFERENCE_FILE).unlink()
    bundle = Bundle.load(signed, key)
    assert read_drift_reference(bundle) is None, "a listed document may be absent"
    relist(signed, list_documents(signed, (signed / "manifest.json").read_bytes()))
    (signed / REFERENCE_FILE).write_bytes(reference)
    with pytest.raises(BundleError, match=r"reference\.json is not covered by its signature, and bundle_public_key"):
        read_drift_reference(Bundle.load(signed, key))
    assert read_drift_reference(Bundle.load(signed)) is not None


def test_a_bundle_that_was_signed_without_a_list_loads_and_its_documents_are_not_used(signed: Path, key: Path) -> None:
    assert forget_list(signed)
    assert not forget_list(signed)
    bundle = Bundle.load(signed, key)
    assert bundle.vouched_documents == {}
    for name in (CARD_FILE, REFERENCE_FILE):
        with pytest.raises(BundleError, match=f"{name} is not covered .*foreshock bundle sign"):
            read_document(signed, name, bundle.vouched_documents)


def test_a_list_of_another_key_or_bundle_or_none_at_all_is_refused(signed: Path, key: Path) -> None:
    content = (signed / LIST_FILE).read_bytes()
    relist(signed, content, OTHER_PRIVATE)
    refused(signed, key, r"documents\.json\.sig is no signature of documents\.json by bundle_public_key")
    relist(signed, json.dumps({**json.loads(content), "manifest": "0" * 64}).encode())
    refused(signed, key, "list of another bundle's documents")
    relist(signed, content)
    (signed / LIST_SIGNATURE).unlink()
    refused(signed, key, r"documents\.json\.sig is missing")
    relist(signed, content)
    (signed / LIST_FILE).unlink()
    refused(signed, key, r"documents\.json is missing")


def test_what_is_written_anew_is_no_longer_vouched_for(signed: Path, key: Path) -> None:
    bundle = Bundle.load(signed, key)
    content = (signed / LIST_FILE).read_bytes()
    write_card(bundle, None, signed.parent / CARD_FILE)
    assert (signed / LIST_FILE).exists(), "a card elsewhere changes nothing"
    reference = read_drift_reference(bundle)
    assert reference is not None
    for write in (
        lambda: write_card(bundle, None),
        lambda: write_drift_reference(reference, signed),
        lambda: write_manifest(signed, bundle.manifest),
    ):
        relist(signed, content)
        write()
        assert not (signed / LIST_FILE).exists()
        assert not (signed / LIST_SIGNATURE).exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/passwd", "a\\b", "a\0b"])
def test_a_list_names_no_file_elsewhere(name: str) -> None:
    content = json.dumps({"manifest": "0", "files": {name: "0"}}).encode()
    with pytest.raises(BundleError, match="no document in the bundle's folder"):
        decode_list(Path(LIST_FILE), content)


@given(st.binary(max_size=60))
def test_what_is_no_list_is_told(content: bytes) -> None:
    with pytest.raises(BundleError, match="no list of a bundle's documents"):
        decode_list(Path(LIST_FILE), content)
