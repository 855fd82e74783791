"""Each way to tamper with a bundle is refused, with what is wrong, before anything of it is used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from events.types import KINDS
from model import bundle_folder
from model.bundle import FILES, Bundle, BundleError, decode_manifest, read_manifest, write_manifest
from model.signature import new_keys, sign
from stream.settings import PRETRAINED_BUNDLE

PRIVATE, PUBLIC = new_keys()
OTHER_PRIVATE, OTHER_PUBLIC = new_keys()
MANIFEST = (PRETRAINED_BUNDLE / "manifest.json").read_bytes()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "copy"))


@pytest.fixture
def signed(copied: Path) -> Path:
    _sign(copied)
    return copied


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.pub"
    path.write_bytes(PUBLIC)
    return path


def _sign(folder: Path, private: bytes = PRIVATE) -> None:
    (folder / "manifest.json.sig").write_bytes(sign((folder / "manifest.json").read_bytes(), private))


def _change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _replace(folder: Path, name: str, content: bytes) -> None:
    """A file and its digest in the manifest, as whoever makes a bundle can write them."""
    (folder / name).write_bytes(content)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def _edit(folder: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(folder / name)
    change(graph)
    _replace(folder, name, graph.SerializeToString())


def refused(folder: Path, message: str, public_key: Path | None = None) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder, public_key)


# What is in the folder


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, r"manifest\.json cannot be read .*`foreshock train`")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    refused(copied, f"{name} is missing, though manifest.json lists it; copy the bundle folder again")


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found(copied: Path, name: str, place: float) -> None:
    content = bytearray((copied / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copied / name).write_bytes(content)
    refused(copied, f"{name} is not the file that manifest.json was written for")


@pytest.mark.parametrize("name", ["extra.onnx", "weights.pkl", "tensor.data", "score.onnx.bak", "sitecustomize.py"])
def test_a_file_that_belongs_to_nothing_is_named(copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"")
    refused(copied, f"{name} is in the bundle's folder, but manifest.json does not list it; move it away")


def test_documents_hidden_files_and_folders_may_lie_beside(copied: Path) -> None:
    for name in ("report.json", "NOTES.md", ".DS_Store", "manifest.json.sig"):
        (copied / name).write_bytes(b"x")
    (copied / "figures").mkdir()
    assert Bundle.load(copied).fingerprint_hex == Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex


def test_a_link_out_of_the_folder_is_refused(copied: Path, tmp_path: Path) -> None:
    elsewhere = (copied / "score.onnx").rename(tmp_path / "score.onnx")
    (copied / "score.onnx").symlink_to(elsewhere)
    refused(copied, r"score\.onnx leads out of the bundle's folder, to .*; put the file itself there")


def test_a_manifest_that_is_a_link_out_of_the_folder_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "manifest.json").rename(tmp_path / "manifest.json")
    (copied / "manifest.json").symlink_to("../manifest.json")
    refused(copied, r"manifest\.json leads out of the bundle's folder")


def test_links_within_the_folder_are_followed(copied: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts files; the folder's own path may be a link, too."""
    (copied / "..data").mkdir()
    for name in (*FILES, "manifest.json"):
        (copied / name).rename(copied / "..data" / name)
        (copied / name).symlink_to(f"..data/{name}")
    (tmp_path / "current").symlink_to(copied)
    assert Bundle.load(tmp_path / "current").fingerprint_hex == Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex


def test_a_link_to_itself_and_a_pipe_are_refused(copied: Path) -> None:
    (copied / "score.onnx").unlink()
    (copied / "score.onnx").symlink_to("score.onnx")
    refused(copied, r"score\.onnx cannot be read")
    (copied / "score.onnx").unlink()
    os.mkfifo(copied / "score.onnx")
    refused(copied, r"score\.onnx is not a regular file")


@pytest.mark.parametrize(
    ("limit", "name"), [("MANIFEST_MAX_BYTES", "manifest.json"), ("FILE_MAX_BYTES", "weights.npz")]
)
def test_too_large_a_file_is_not_read(copied: Path, limit: str, name: str) -> None:
    """Sparse, so that it takes no room on disk; reading it would take longer than the test may."""
    size = getattr(bundle_folder, limit)
    with (copied / name).open("r+b") as file:
        file.truncate(100 * size)
    refused(copied, rf"{name} has {100 * size:,} bytes, more than the {size:,} that are read")


def test_all_files_together_are_bounded(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum((copied / name).stat().st_size for name in FILES)
    monkeypatch.setattr(bundle_folder, "TOTAL_MAX_BYTES", total)
    Bundle.load(copied)
    monkeypatch.setattr(bundle_folder, "TOTAL_MAX_BYTES", total - 1)
    refused(copied, r"weights\.npz has .* bytes, more than the")


def test_what_runs_is_what_was_checked(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is changed after its check is not read again."""
    read_files = bundle_folder.read_files

    def then_change(*arguments: object) -> dict[str, bytes]:
        found = read_files(*arguments)  # type: ignore[arg-type]
        for name in FILES:
            (copied / name).write_bytes(b"changed")
        return found

    monkeypatch.setattr("model.bundle.read_files", then_change)
    loaded = Bundle.load(copied)
    assert loaded.score(np.zeros((1, loaded.readout_width), np.float32), np.zeros((1, 4), np.float32)).shape == (1, 4)
    with pytest.raises(BundleError, match=r"weights\.npz was changed since the bundle was loaded"):
        loaded.weights()


# The manifest


@pytest.mark.parametrize("name", ["../score.onnx", "/etc/passwd", "..", "", "a\\b", "sub/score.onnx", "a\0b"])
def test_a_path_in_the_manifest_is_refused(copied: Path, name: str) -> None:
    _change_manifest(copied, files={**json.loads(MANIFEST)["files"], name: "0" * 64})
    refused(copied, "which is not the name of a file in the bundle's folder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "format version 1, expected 2"),
        ({"format_version": "2" * 10_000}, "format version '2+ "),
        ({"headline_horizon_days": 45}, "headline horizon 45"),
        (
            {"numeric_inputs": {kind: ["amount"] for kind in KINDS}},
            r"no .* inputs of repayments named \['amount'\]",
        ),
        ({"numeric_inputs": {kind: ["gap_days"] * 2 for kind in KINDS}}, "inputs of repayments name one twice"),
        ({"numeric_inputs": {kind: [] for kind in KINDS}}, "at least one is needed"),
        ({"numeric_inputs": {}}, "inputs of repayments"),
        ({"categorical_inputs": {kind: ["mood"] for kind in KINDS}}, "categorical inputs of repayments are"),
        ({"lender_time_zone": "Mars/Olympus"}, "lender_time_zone: 'Mars/Olympus' is not a time zone"),
        ({"files": {}}, "does not list repayments.onnx"),
        ({"files": {**json.loads(MANIFEST)["files"], "more.onnx": "0" * 64}}, "lists 'more.onnx', which is no part"),
        ({"horizons_days": "soon"}, "not a valid manifest"),
        ({"horizons_days": [90, 30]}, "horizons are"),
        ({"horizons_days": [0, 90]}, "horizons are"),
        ({"horizons_days": []}, "headline horizon 90 is none of"),
        ({"horizons_days": [90, 40_000]}, "horizons are"),
        ({"horizons_days": list(range(30, 130))}, "horizons are"),
        ({"state_widths": dict.fromkeys(KINDS, 10**9)}, "state and readout of repayments are 1000000000"),
        ({"state_widths": dict.fromkeys(KINDS, 400_000)}, "the whole state is 1,600,000 wide"),
        ({"state_widths": dict.fromkeys(KINDS, -1)}, "state and readout of repayments are -1"),
        ({"readout_widths": {}}, "and None wide"),
        ({"vocabularies": {}}, "there is no vocabulary of repayments"),
        ({"vocabularies": {kind: {"kind": {"due": 2, "paid": 9}} for kind in KINDS}}, r"codes of .* \[2, 9\]"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copied: Path, changes: dict[str, object], message: str) -> None:
    _change_manifest(copied, **changes)
    refused(copied, message)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"{", b'{"format_version": "\xff"}', b'{"format_version":' + b"[" * 100_000]
)
def test_a_manifest_that_is_no_manifest_is_refused(copied: Path, content: bytes) -> None:
    (copied / "manifest.json").write_bytes(content)
    refused(copied, r"manifest\.json")


@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.integers(0, len(MANIFEST) - 1), st.integers(0, 40), st.binary(max_size=30)).map(
            lambda cut: MANIFEST[: cut[0]] + cut[2] + MANIFEST[cut[0] + cut[1] :]
        ),
    )
)
def test_any_manifest_gets_an_answer(content: bytes) -> None:
    with contextlib.suppress(BundleError):
        manifest = decode_manifest(Path("manifest.json"), content)
        assert sum(manifest.state_widths.values()) <= 1_000_000


# The graphs


def test_a_tensor_in_another_file_is_refused(copied: Path) -> None:
    (copied / "tensors.json").write_bytes(bytes(10_000_000))

    def move_out(graph: onnx.ModelProto) -> None:
        tensor = next(each for each in graph.graph.initializer if each.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for name, value in (("location", "tensors.json"), ("offset", "0")):
            entry = tensor.external_data.add()
            entry.key, entry.value = name, value

    _edit(copied, "score.onnx", move_out)
    refused(copied, r"score\.onnx cannot be used: it keeps a tensor in another file \(external data\)")


def test_operators_of_others_are_refused(copied: Path) -> None:
    def call(graph: onnx.ModelProto) -> None:
        graph.graph.node[0].domain = "com.evil"

    _edit(copied, "score.onnx", call)
    refused(copied, r"score\.onnx cannot be used: it uses operators of 'com\.evil'")


Declared = tuple[str, int, list[object]]
"""Name, type and shape of an input or output as a graph declares it."""

FLOAT, INTEGER, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE
READOUT, AGES = ("readout", FLOAT, ["rows", 352]), ("ages", FLOAT, ["rows", 4])
SCORES = ("probabilities", FLOAT, ["rows", 4])


def _graph(inputs: list[Declared], outputs: list[Declared], nodes: list[onnx.NodeProto] | None = None) -> bytes:
    """A graph whose outputs are copies of its last input, unless `nodes` say otherwise."""
    copies = [helper.make_node("Identity", [inputs[-1][0]], [name]) for name, _, _ in outputs]
    declared = [[helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    model = helper.make_model(
        helper.make_graph(nodes or copies, "copies", *declared), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    return bytes(model.SerializeToString())


def test_a_graph_with_the_right_inputs_and_outputs_is_taken(copied: Path) -> None:
    """So that the cases below fail for what they change."""
    _replace(copied, "score.onnx", _graph([READOUT, AGES], [SCORES]))
    Bundle.load(copied)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([AGES], [SCORES], r"inputs ages tensor\(float\) \['rows', 4\], but .* asks for readout .*, ages"),
        ([("read", *READOUT[1:]), AGES], [SCORES], r"inputs read tensor"),
        ([("readout", DOUBLE, ["rows", 352]), AGES], [SCORES], r"inputs readout tensor\(double\)"),
        ([("readout", FLOAT, ["rows", 351]), AGES], [SCORES], r"inputs readout tensor\(float\) \['rows', 351\]"),
        ([("readout", FLOAT, ["rows", 352, 1]), AGES], [SCORES], r"inputs readout .* \['rows', 352, 1\]"),
        ([("readout", FLOAT, [16, 352]), AGES], [SCORES], r"inputs readout .* \[16, 352\]"),
        ([READOUT, AGES, ("more", FLOAT, ["rows", 4])], [SCORES], r"inputs readout .*, more"),
        ([READOUT, AGES], [("risk", *SCORES[1:])], r"outputs risk"),
        ([READOUT, AGES], [SCORES, ("more", *SCORES[1:])], r"outputs probabilities .*, more"),
        ([AGES, READOUT], [("probabilities", FLOAT, ["rows", 352])], r"inputs ages"),
    ],
)
def test_other_inputs_and_outputs_are_refused(
    copied: Path, inputs: list[Declared], outputs: list[Declared], message: str
) -> None:
    _replace(copied, "score.onnx", _graph(inputs, outputs))
    refused(copied, rf"score\.onnx has the {message}")


@pytest.mark.parametrize("name", [b"rows", b"readout"])
def test_names_that_are_not_utf_8_are_refused(copied: Path, name: bytes) -> None:
    """protobuf takes them, and ONNX Runtime's Python interface fails where they are asked for."""
    content = _graph([READOUT, AGES], [SCORES]).replace(name, b"\xff" + name[1:])
    _replace(copied, "score.onnx", content)
    refused(copied, r"score\.onnx (has inputs with names that are not UTF-8|cannot be opened)")


def test_an_output_whose_width_the_graph_leaves_open_is_measured(copied: Path) -> None:
    """It keeps the columns that are equal to themselves: all of them, but no graph can say so before it runs."""
    nodes = [
        helper.make_node("ReduceMax", ["readout"], ["most"], keepdims=1),
        helper.make_node("Equal", ["most", "most"], ["one"]),
        helper.make_node("Shape", ["readout"], ["shape"], start=1),
        helper.make_node("Expand", ["one", "shape"], ["each"]),
        helper.make_node("Squeeze", ["each"], ["columns"]),
        helper.make_node("Compress", ["readout", "columns"], ["probabilities"], axis=1),
    ]
    _replace(copied, "score.onnx", _graph([READOUT, AGES], [("probabilities", FLOAT, ["rows", "columns"])], nodes))
    refused(copied, r"score\.onnx gives arrays of shape \[\(1, 352\)\] for one event, expected \[\(1, 4\)\]")


def test_a_graph_that_fails_when_it_runs_is_refused(copied: Path) -> None:
    """A category's highest code is none of the rows of its table."""
    manifest = msgspec.json.decode((copied / "manifest.json").read_bytes())
    manifest["vocabularies"]["activity"]["kind"]["one more"] = 5
    (copied / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    refused(copied, r"activity\.onnx cannot be run")


@pytest.mark.parametrize("content", [b"", b"\0", b"no graph", b"ORTM" * 100, b"\x08\x01"])
def test_what_is_no_graph_is_refused(copied: Path, content: bytes) -> None:
    _replace(copied, "activity.onnx", content)
    refused(copied, r"activity\.onnx cannot be used: ")


def test_weights_that_are_none_are_refused(copied: Path) -> None:
    for content in (b"", b"PK\x05\x06" + bytes(18), b"\x80\x04K\x01."):
        _replace(copied, "weights.npz", content)
        if content.startswith(b"PK"):
            assert Bundle.load(copied).weights() == {}
            continue
        with pytest.raises(BundleError, match=r"weights\.npz holds no weights"):
            Bundle.load(copied).weights()


def test_pickled_weights_are_refused(copied: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", weights=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    _replace(copied, "weights.npz", (tmp_path / "weights.npz").read_bytes())
    with pytest.raises(BundleError, match=r"weights\.npz holds no weights .*allow_pickle"):
        Bundle.load(copied).weights()


# The signature


def test_a_signed_bundle_is_loaded(signed: Path, key: Path) -> None:
    assert Bundle.load(signed, key).fingerprint == Bundle.load(signed).fingerprint
    assert read_manifest(signed, key)[1] == Bundle.load(signed).fingerprint


def test_one_of_several_keys_is_enough(signed: Path, key: Path) -> None:
    """While keys change, old and new bundles are taken."""
    key.write_bytes(OTHER_PUBLIC + PUBLIC)
    Bundle.load(signed, key)


def test_an_unsigned_bundle_is_refused_where_a_key_is_set(copied: Path, key: Path) -> None:
    refused(copied, r"manifest\.json\.sig is missing, and bundle_public_key asks for signed bundles", key)


def _other_key(folder: Path) -> None:
    _sign(folder, OTHER_PRIVATE)


def _truncated(folder: Path) -> None:
    path = folder / "manifest.json.sig"
    path.write_bytes(path.read_bytes()[:-1])


def _longer(folder: Path) -> None:
    path = folder / "manifest.json.sig"
    path.write_bytes(path.read_bytes() + b"\n")


def _other_manifest(folder: Path) -> None:
    _change_manifest(folder, name="other")


def _changed_signature(folder: Path) -> None:
    path = folder / "manifest.json.sig"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_other_key, "it was not signed with key [0-9a-f]{16}, or was changed since. Do not use this bundle"),
        (_changed_signature, "it was not signed with key"),
        (_other_manifest, "it was not signed with key"),
        (_truncated, "the signature has 63 bytes, not 64"),
        (_longer, "has 65 bytes, more than the 64 that are read"),
    ],
)
def test_a_wrong_signature_is_refused(signed: Path, key: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(signed)
    refused(signed, rf"manifest\.json\.sig .*{message}", key)


def test_a_wrong_signature_is_refused_before_anything_is_parsed(
    signed: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (signed / "manifest.json").write_bytes(b"not even JSON")
    monkeypatch.setattr("model.bundle.decode_manifest", None)
    monkeypatch.setattr("model.bundle.read_files", None)
    refused(signed, "it was not signed with key", key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no public key in PEM"),
        (PRIVATE, "no public key in PEM"),
    ],
)
def test_a_key_that_is_none_is_named(signed: Path, key: Path, content: bytes | None, message: str) -> None:
    if content is None:
        key.unlink()
    else:
        key.write_bytes(content)
    refused(signed, rf"bundle_public_key: .*bundle\.pub.*{message}.*name the PEM file", key)


def test_a_changed_manifest_loses_its_signature(signed: Path, key: Path) -> None:
    write_manifest(signed, Bundle.load(signed, key).manifest)
    refused(signed, r"manifest\.json\.sig is missing", key)
