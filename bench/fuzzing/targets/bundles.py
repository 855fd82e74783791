"""Targets of what a bundle holds, which may come from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.fuzzing.mutation import JSON
from bench.fuzzing.target import Check, Target, require
from events.types import KINDS
from model.bundle import Bundle, BundleError, decode_manifest, graph_file, open_graph
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


TARGETS = (
    Target("manifests", "manifests of bundles", _manifest_seeds, _manifests, JSON, largest=32_768),
    Target("graphs", "ONNX graphs of bundles, opened", _graph_seeds, _graphs, largest=65_536),
    Target("signatures", "signatures and public keys of bundles", _signature_seeds, _signatures),
)
