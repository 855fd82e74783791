"""Targets of what a bundle holds, which may come from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bench.fuzzing.mutation import JSON
from bench.fuzzing.target import Check, Target, require
from events.types import KINDS
from model.bundle import Bundle, BundleError, decode_manifest, graph_file, open_graph
from model.bundle_documents import decode_list, list_documents
from model.evaluation.drift_reference import REFERENCE_FILE, decode_drift_reference, reference_counts
from model.signature import SignatureError, new_keys, sign, verify
from stream.settings import PRETRAINED_BUNDLE


def _manifest_seeds() -> list[bytes]:
    return [(PRETRAINED_BUNDLE / "manifest.json").read_bytes()]


def _manifests() -> Check:
    where = Path("manifest.json")

    def check(content: bytes) -> str:
        try:
            manifest = decode_manifest(where, content)
        except BundleError as error:
            require(
                str(error).startswith("manifest.json") and len(str(error)) < 5_000, "a message without place or end"
            )
            return f"refused: {str(error)[:40]}"
        width = sum(manifest.state_widths.values())
        require(0 <= width <= 1_000_000, f"a state of {width} floats")
        require(all(kind in manifest.vocabularies for kind in KINDS), "a kind without vocabularies")
        return "manifest"

    return check


def _graph_seeds() -> list[bytes]:
    return [(PRETRAINED_BUNDLE / graph_file(kind)).read_bytes() for kind in ("profiles", "activity")]


def _graphs() -> Check:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    inputs, outputs = bundle.interface("profiles")

    def check(content: bytes) -> str:
        try:
            open_graph(Path("profiles.onnx"), content, inputs, outputs)
        except BundleError as error:
            return f"refused: {str(error)[15:45]}"
        return "graph"

    return check


def _signature_seeds() -> list[bytes]:
    private, public = new_keys()
    return [sign(b"manifest", private) + public, bytes(64) + public + public, private + public]


def _signatures() -> Check:
    def check(content: bytes) -> str:
        try:
            verify(b"manifest" + hashlib.sha256(content).digest(), content[:64], content[64:])
        except SignatureError as error:
            return f"refused: {str(error)[:25]}"
        raise AssertionError("a signature of what was never signed")

    return check


def _document_seeds() -> list[bytes]:
    listed = list_documents(PRETRAINED_BUNDLE, (PRETRAINED_BUNDLE / "manifest.json").read_bytes())
    return [b"\0" + (PRETRAINED_BUNDLE / REFERENCE_FILE).read_bytes(), b"\1" + listed]


def _documents() -> Check:
    where = Path("document.json")

    def check(content: bytes) -> str:
        try:
            if content[:1] == b"\1":
                listed = decode_list(where, content[1:])
                require(all(Path(name).name == name for name in listed.files), "a document in another folder")
                return "list"
            reference = decode_drift_reference(where, content[1:])
        except BundleError as error:
            require(
                str(error).startswith("document.json") and len(str(error)) < 5_000, "a message without place or end"
            )
            return f"refused: {str(error)[:40]}"
        for name, counts in reference_counts(reference).items():
            one = reference.distributions[name]
            values = np.array([0, 1, 1_000]) if one.edges is None else np.array([-1e12, 0.5, 1e300, np.nan])
            require(one.count(values).shape == counts.shape, "values are counted in other bins")
        return "reference"

    return check


TARGETS = (
    Target("manifests", "manifests of bundles", _manifest_seeds, _manifests, JSON, largest=32_768),
    Target("graphs", "ONNX graphs of bundles, opened", _graph_seeds, _graphs, largest=65_536),
    Target("documents", "drift references and lists of documents", _document_seeds, _documents, JSON, largest=32_768),
    Target("signatures", "signatures and public keys of bundles", _signature_seeds, _signatures),
)
