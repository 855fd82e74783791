"""A bundle: a trained model as a folder, and how to run it. The only module of `model` that `stream` imports.

Needs numpy, onnxruntime and msgspec; must not import torch or depend on the architecture of the graphs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS
from events.types import KINDS, Kind

if TYPE_CHECKING:  # loaded with the first graph: who only reads manifests does without it
    import onnxruntime

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
SCORE_FILE = "score.onnx"
WEIGHTS_FILE = "weights.npz"
ROW_MULTIPLE = 16
"""Every batch is padded to a multiple of this many rows. Vectorised kernels compute the rows after the last full vector
differently; with padding the bits of a row's result do not depend on the batch."""
ROWS_PER_RUN = 512
"""Longer batches run in pieces of this many rows, so that the intermediate arrays stay in the processor's cache."""


class BundleError(Exception):
    """A bundle cannot be used; the message says which file, what is wrong and what to do."""


class Winsor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds, in raw units, that a numeric input is clipped to inside the graph."""

    low: float
    high: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Per interval: calibrated hazard logit = `slope` · logit + `intercept`. Already part of the score graph."""

    slope: list[float]
    intercept: list[float]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities at the headline horizon from which a score is MEDIUM or HIGH, and the budget they were set for.

    A budget counts upward crossings of the threshold per 1,000 users and 30 days.
    """

    medium: float
    high: float
    medium_per_1000_users_month: float
    high_per_1000_users_month: float


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data and settings that the weights were trained with. `data_fingerprint` is a SHA-256 over every event."""

    source: str
    command: str
    seed: int
    data_fingerprint: str
    users: int
    events: int
    epochs: int
    seconds: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of `manifest.json`. A bundle's fingerprint is taken over the bytes of this file, which names all others
    with their hashes."""

    format_version: int
    name: str
    architecture: dict[str, Any]
    state_widths: dict[Kind, int]
    readout_widths: dict[Kind, int]
    horizons_days: list[int]
    headline_horizon_days: int
    delinquency_days: int
    numeric_inputs: dict[Kind, list[str]]
    categorical_inputs: dict[Kind, list[str]]
    vocabularies: dict[Kind, dict[str, dict[str, int]]]
    winsor: dict[Kind, dict[str, Winsor]]
    calibration: Calibration
    thresholds: Thresholds
    training: Training
    metrics: dict[str, Any]
    files: dict[str, str]


def graph_file(kind: Kind) -> str:
    """File name of a kind's encoder graph."""
    return f"{kind}.onnx"


def manifest_bytes(manifest: Manifest) -> bytes:
    """`manifest.json` as written: indented, in field order."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Bundle:
    """A loaded model: one step graph per kind of event and one score graph.

    A user's state is float32 `[state_width]`, all zeros before the first event. Its slice of a kind begins with the
    kind's readout, the part that the score graph reads.
    """

    def __init__(self, path: Path, manifest: Manifest, fingerprint: int) -> None:
        self.path = path
        self.manifest = manifest
        self.fingerprint = fingerprint
        self.horizons_days = tuple(manifest.horizons_days)
        self.headline = self.horizons_days.index(manifest.headline_horizon_days)
        self.readout_widths: dict[Kind, int] = {kind: manifest.readout_widths[kind] for kind in KINDS}
        self.state_slices = _consecutive_slices(manifest.state_widths)
        self.readout_slices = _consecutive_slices(manifest.readout_widths)
        self.state_width = sum(manifest.state_widths.values())
        self.readout_width = sum(manifest.readout_widths.values())
        self.thresholds = manifest.thresholds
        self.vocabularies = manifest.vocabularies
        self._encoders = {kind: _open_session(path / graph_file(kind)) for kind in KINDS}
        self._scorer = _open_session(path / SCORE_FILE)

    @property
    def fingerprint_hex(self) -> str:
        """`fingerprint` as 16 hexadecimal digits."""
        return f"{self.fingerprint:016x}"

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read and check a bundle folder.

        Raises `BundleError` when a file is missing or altered, the format is another version's, or the numeric inputs
        are not those of `events.columns`.
        """
        folder = Path(path)
        return cls(folder, *read_manifest(folder))

    def step(
        self, kind: Kind, numeric: NDArray[np.float32], categorical: NDArray[np.int64], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Apply one event of `kind` per row to the kind's part of its user's state.

        `numeric` float32 `[n, numeric inputs]` (NaN is missing), `categorical` int64 `[n, categories]`, `state` float32
        `[n, width of state_slices[kind]]`. Returns the new state, same shape, and the attention logits float32 `[n]`.
        Rows are independent: each must belong to another user.
        """
        inputs: dict[str, NDArray[Any]] = {"numeric": numeric, "categorical": categorical, "state": state}
        new_state, attention = _run_padded(self._encoders[kind], inputs, len(state))
        return new_state, attention

    def score(self, readout: NDArray[np.float32], ages: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of serious delinquency within each horizon, float32 `[n, horizons]`, nondecreasing per row.

        `readout` float32 `[n, readout_width]`, the kinds' readouts, and `ages` float32 `[n, kinds]`, the days since the
        latest event of each (`events.columns.ages_days`), both in the order of `KINDS`.
        """
        (probabilities,) = _run_padded(self._scorer, {"readout": readout, "ages": ages}, len(readout))
        return probabilities

    def readout_of(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """The readouts inside whole states: float32 `[n, state_width]` to `[n, readout_width]`."""
        parts = [
            state[:, part.start : part.start + self.readout_widths[kind]] for kind, part in self.state_slices.items()
        ]
        return np.concatenate(parts, axis=1)


def read_manifest(folder: Path) -> tuple[Manifest, int]:
    """The manifest and the fingerprint of a bundle whose files are all there and unaltered, without opening its graphs.

    Raises `BundleError` as `Bundle.load`.
    """
    content = _manifest_content(folder)
    manifest = _decode_manifest(folder, content)
    _check_inputs(folder, manifest)
    _check_files(folder, manifest.files)
    return manifest, int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def _consecutive_slices(widths: Mapping[Kind, int]) -> dict[Kind, slice]:
    slices: dict[Kind, slice] = {}
    start = 0
    for kind in KINDS:
        slices[kind] = slice(start, start + widths[kind])
        start += widths[kind]
    return slices


def _manifest_content(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder / MANIFEST_FILE} cannot be read ({error.strerror}); "
            "name a folder that `foreshock train` has written"
        ) from None


def _decode_manifest(folder: Path, content: bytes) -> Manifest:
    where = folder / MANIFEST_FILE
    retrain = "train the bundle again with this version of foreshock"
    try:
        version = msgspec.json.decode(content).get("format_version")
    except (msgspec.DecodeError, AttributeError) as error:
        raise BundleError(f"{where} is not a bundle manifest ({error}); restore the file or {retrain}") from None
    if version != FORMAT_VERSION:
        raise BundleError(f"{where} has format version {version!r}, expected {FORMAT_VERSION}; {retrain}")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{where} is not a valid manifest ({error}); {retrain}") from None
    if manifest.headline_horizon_days not in manifest.horizons_days:
        raise BundleError(
            f"{where}: headline horizon {manifest.headline_horizon_days} is none of {manifest.horizons_days}; {retrain}"
        )
    return manifest


def _check_inputs(folder: Path, manifest: Manifest) -> None:
    for kind in KINDS:
        expected = (list(COLUMNS[kind].numeric_inputs), list(COLUMNS[kind].categorical))
        found = (manifest.numeric_inputs.get(kind), manifest.categorical_inputs.get(kind))
        if found != expected or kind not in manifest.state_widths or kind not in manifest.readout_widths:
            raise BundleError(
                f"{folder / MANIFEST_FILE}: inputs of {kind} are {found}, but events.columns has {expected}; "
                "train the bundle again with this version of foreshock"
            )


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name in (*(graph_file(kind) for kind in KINDS), SCORE_FILE, WEIGHTS_FILE):
        path = folder / name
        if name not in files:
            raise BundleError(f"{folder / MANIFEST_FILE} does not list {name}; train the bundle again")
        if not path.is_file():
            raise BundleError(f"{path} is missing, though {MANIFEST_FILE} lists it; copy the bundle folder as a whole")
        if sha256_of(path) != files[name]:
            raise BundleError(
                f"{path} is not the file that {MANIFEST_FILE} was written for (SHA-256 differs); "
                "copy the bundle folder again as a whole"
            )


def _open_session(path: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes have no public common base
        raise BundleError(f"{path} cannot be opened by onnxruntime ({error}); train the bundle again") from error


def pieces(rows: int) -> list[slice]:
    """Slices of `rows` rows that are run at once, each of at most `ROWS_PER_RUN` rows; at least one slice."""
    return [slice(start, min(start + ROWS_PER_RUN, rows)) for start in range(0, max(rows, 1), ROWS_PER_RUN)]


def _run_padded(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]], rows: int
) -> list[NDArray[np.float32]]:
    """Outputs for `rows` rows, computed in padded pieces of at most `ROWS_PER_RUN`."""
    if 0 < rows <= ROWS_PER_RUN:
        return _run_piece(session, inputs, rows)
    outputs = [
        _run_piece(session, {name: values[piece] for name, values in inputs.items()}, piece.stop - piece.start)
        for piece in pieces(rows)
    ]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _run_piece(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]], rows: int
) -> list[NDArray[np.float32]]:
    padded_rows = max(ROW_MULTIPLE, -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE)
    if padded_rows == rows:
        outputs = session.run(None, inputs)
        return [np.asarray(output) for output in outputs]
    padded = {}
    for name, values in inputs.items():
        array = np.zeros((padded_rows, values.shape[1]), dtype=values.dtype)
        array[:rows] = values
        padded[name] = array
    return [np.asarray(output)[:rows] for output in session.run(None, padded)]
