"""A bundle: a trained model as a folder, and how to run it. The only module of `model` that `stream` imports.

A bundle may come from elsewhere: its manifest's signature and the files' hashes are checked before anything is parsed,
and what is parsed is refused with `BundleError` unless it is what this module runs. Needs numpy, onnxruntime and
msgspec; must not import torch or depend on the architecture of the graphs.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.calendar import Calendar, CalendarError
from events.columns import COLUMNS, CONTRACT_COLUMNS, FIRST_CATEGORY_CODE, positions
from events.types import KINDS, Kind
from model.bundle_documents import forget_list, read_document, vouched_documents
from model.bundle_folder import FILE_MAX_BYTES, read_file, read_files, read_manifest_file
from model.bundle_folder import MANIFEST_FILE as MANIFEST_FILE  # these three are for those who import this module
from model.bundle_folder import SIGNATURE_FILE as SIGNATURE_FILE
from model.bundle_folder import BundleError as BundleError
from model.graph_bytes import GraphRefused, check_graph

if TYPE_CHECKING:  # loaded with the first graph: who only reads manifests does without it
    import onnxruntime

FORMAT_VERSION = 2
SCORE_FILE = "score.onnx"
WEIGHTS_FILE = "weights.npz"
ROW_MULTIPLE = 16
"""Every batch is padded to a multiple of this many rows. Vectorised kernels compute the rows after the last full vector
differently; with padding the bits of a row's result do not depend on the batch."""
ROWS_PER_RUN = 512
"""Longer batches run in pieces of this many rows, so that the intermediate arrays stay in the processor's cache."""

LARGEST_STATE = 1_000_000
"""Most floats of a user's state, of which a worker keeps one per user."""

MOST_HORIZONS = 64
LONGEST_HORIZON_DAYS = 36_500

REFERENCE_FILE = "reference.json"
"""What the inputs and scores of a bundle look like where it was trained: beside its files, and none of them."""


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
    lender_time_zone: str = "UTC"
    """The time zone of the days that the training data were counted in."""


def graph_file(kind: Kind) -> str:
    """File name of a kind's encoder graph."""
    return f"{kind}.onnx"


FILES = (*(graph_file(kind) for kind in KINDS), SCORE_FILE, WEIGHTS_FILE)
"""The files of every bundle beside its manifest, which lists them with their SHA-256."""

Tensor = tuple[str, str, Sequence[int | str | None]]
"""Name, type and shape of an input or output, in the words of ONNX Runtime."""

_ROWS, _FLOAT, _INTEGER = "rows", "tensor(float)", "tensor(int64)"
LONGEST_VALUE = 300


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

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        fingerprint: int,
        graphs: Mapping[str, bytes],
        vouched: Mapping[str, str] | None = None,
    ) -> None:
        """`graphs` are the graphs' bytes by the names of their files, `vouched` the SHA-256 of the documents that are
        signed, None where no signature was asked for. Raises `BundleError` as `load`."""
        self.path = path
        self.manifest = manifest
        self.fingerprint = fingerprint
        self.vouched_documents = vouched
        self.horizons_days = tuple(manifest.horizons_days)
        self.headline = self.horizons_days.index(manifest.headline_horizon_days)
        self.readout_widths: dict[Kind, int] = {kind: manifest.readout_widths[kind] for kind in KINDS}
        self.state_slices = _consecutive_slices(manifest.state_widths)
        self.readout_slices = _consecutive_slices(manifest.readout_widths)
        self.state_width = sum(manifest.state_widths.values())
        self.readout_width = sum(manifest.readout_widths.values())
        self.thresholds = manifest.thresholds
        self.vocabularies = manifest.vocabularies
        self._taken = {kind: positions(kind, manifest.numeric_inputs[kind]) for kind in KINDS}
        self._encoders = {kind: self._open(graph_file(kind), graphs) for kind in KINDS}
        self._scorer = self._open(SCORE_FILE, graphs)
        self._check_outputs()

    @property
    def calendar(self) -> Calendar:
        """The calendar of the lender by whose days the bundle was trained."""
        return Calendar(self.manifest.lender_time_zone)

    @property
    def fingerprint_hex(self) -> str:
        """`fingerprint` as 16 hexadecimal digits."""
        return f"{self.fingerprint:016x}"

    @classmethod
    def load(cls, path: Path | str, public_key: Path | None = None) -> Bundle:
        """Read and check a bundle folder. With `public_key`, a PEM file, its manifest must be signed with that key.

        Raises `BundleError` when a signature is missing or wrong, a signed document was changed, a file is missing,
        altered, too large or elsewhere, the format is another version's, an input is none of `events.columns`, or a
        graph does not take and give what the manifest says.
        """
        folder = Path(path)
        manifest, fingerprint, files, vouched = _read_bundle(folder, public_key)
        return cls(folder, manifest, fingerprint, files, vouched)

    def document(self, name: str) -> bytes | None:
        """A document beside the bundle's files, None where there is none. Raises `BundleError` where it cannot be read,
        or is not covered by the signature of a bundle that had to be signed."""
        return read_document(self.path, name, self.vouched_documents)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The weights for PyTorch by name, from the file whose SHA-256 the manifest has. Raises `BundleError`."""
        content = read_file(self.path, WEIGHTS_FILE, self.manifest.files[WEIGHTS_FILE])
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > FILE_MAX_BYTES:
                raise ValueError(f"{size:,} bytes when unpacked, more than the {FILE_MAX_BYTES:,} that are read")
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (ValueError, EOFError, OSError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(
                f"{self.path / WEIGHTS_FILE} holds no weights ({error}); train the bundle again"
            ) from None

    def step(
        self, kind: Kind, numeric: NDArray[np.float32], categorical: NDArray[np.int64], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Apply one event of `kind` per row to the kind's part of its user's state.

        `numeric` float32 `[n, numeric inputs]` (NaN is missing): all those of `events.columns`, of which the bundle
        takes those that its manifest names. `categorical` int64 `[n, categories]`, `state` float32 `[n, width of
        state_slices[kind]]`. Returns the new state, same shape, and the attention logits float32 `[n]`.
        Rows are independent: each must belong to another user.
        """
        if (taken := self._taken[kind]) is not None:
            numeric = numeric.take(taken, axis=1)
        inputs: dict[str, NDArray[Any]] = {"numeric": numeric, "categorical": categorical, "state": state}
        new_state, attention = _run_padded(self._encoders[kind], inputs, len(state))
        return new_state, attention

    def other_days(self, calendar: Calendar) -> str | None:
        """What to say where `calendar`, by which events are scored, is not the one that the bundle was trained with;
        None where it is, or where the bundle has no input that depends on it."""
        trained = self.manifest.lender_time_zone
        if trained == calendar.time_zone or not self.takes("repayments", CONTRACT_COLUMNS):
            return None
        return (
            f"the bundle {self.path} was trained with the days of {trained}, lender_time_zone is {calendar.time_zone}: "
            "days past due that it sees may differ by one from those it was trained with; train with "
            f"--lender-time-zone {calendar.time_zone}, or set lender_time_zone to {trained} if that is the lender's"
        )

    def takes(self, kind: Kind, names: Iterable[str]) -> bool:
        """Whether any of the numeric inputs `names` of a kind is an input of this bundle."""
        return not set(self.manifest.numeric_inputs[kind]).isdisjoint(names)

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

    def _open(self, name: str, graphs: Mapping[str, bytes]) -> onnxruntime.InferenceSession:
        kind = next((kind for kind in KINDS if name == graph_file(kind)), None)
        return open_graph(self.path / name, graphs[name], *self.interface(kind))

    def interface(self, kind: Kind | None) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs of a kind's graph, or of the score graph for None."""
        if kind is None:
            inputs: list[Tensor] = [
                ("readout", _FLOAT, [_ROWS, self.readout_width]),
                ("ages", _FLOAT, [_ROWS, len(KINDS)]),
            ]
            return inputs, [("probabilities", _FLOAT, [_ROWS, len(self.horizons_days)])]
        columns, width = COLUMNS[kind], self.manifest.state_widths[kind]
        inputs = [
            ("numeric", _FLOAT, [_ROWS, len(self.manifest.numeric_inputs[kind])]),
            ("categorical", _INTEGER, [_ROWS, len(columns.categorical)]),
            ("state", _FLOAT, [_ROWS, width]),
        ]
        return inputs, [("state_after", _FLOAT, [_ROWS, width]), ("attention", _FLOAT, [_ROWS])]

    def _check_outputs(self) -> None:
        """Run every graph once, each category at its highest code: a graph need not say how wide its outputs are."""
        name = ""
        try:
            for kind in KINDS:
                name, columns = graph_file(kind), COLUMNS[kind]
                numeric = np.ones((1, len(columns.numeric_inputs)), dtype=np.float32)
                codes = [
                    len(self.vocabularies[kind].get(each, {})) + FIRST_CATEGORY_CODE - 1 for each in columns.categorical
                ]
                state = np.zeros((1, self.manifest.state_widths[kind]), dtype=np.float32)
                found = self.step(kind, numeric, np.array([codes], dtype=np.int64), state)
                self._require(name, [each.shape for each in found], [state.shape, (1,)])
            name = SCORE_FILE
            readout = np.zeros((1, self.readout_width), dtype=np.float32)
            scores = self.score(readout, np.zeros((1, len(KINDS)), dtype=np.float32))
            self._require(name, [scores.shape], [(1, len(self.horizons_days))])
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's exception classes have no public common base
            raise BundleError(f"{self.path / name} cannot be run ({error}); train the bundle again") from error

    def _require(self, name: str, found: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
        if found != expected:
            raise BundleError(
                f"{self.path / name} gives arrays of shape {found} for one event, expected {expected}; "
                "train the bundle again"
            )


def read_manifest(folder: Path, public_key: Path | None = None) -> tuple[Manifest, int]:
    """The manifest and the fingerprint of a bundle whose files are all there and unaltered, without opening its graphs.

    Raises `BundleError` as `Bundle.load`.
    """
    manifest, fingerprint, *_ = _read_bundle(folder, public_key)
    return manifest, fingerprint


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a bundle, which gets another fingerprint. Signatures, now wrong, are
    removed."""
    draft = folder / f".{MANIFEST_FILE}.new"
    draft.write_bytes(manifest_bytes(manifest))
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    forget_list(folder)
    draft.replace(folder / MANIFEST_FILE)


def _read_bundle(
    folder: Path, public_key: Path | None
) -> tuple[Manifest, int, dict[str, bytes], Mapping[str, str] | None]:
    """Manifest, fingerprint, the bytes of the graphs by the names of their files, and with a key the documents that are
    signed; all of them checked."""
    content = read_manifest_file(folder, public_key)
    manifest = decode_manifest(folder / MANIFEST_FILE, content)
    files = read_files(folder, FILES, manifest.files)
    del files[WEIGHTS_FILE]
    vouched = None if public_key is None else vouched_documents(folder, content, public_key)
    return manifest, int.from_bytes(hashlib.sha256(content).digest()[:8], "big"), files, vouched


def _consecutive_slices(widths: Mapping[Kind, int]) -> dict[Kind, slice]:
    slices: dict[Kind, slice] = {}
    start = 0
    for kind in KINDS:
        slices[kind] = slice(start, start + widths[kind])
        start += widths[kind]
    return slices


def decode_manifest(where: Path, content: bytes) -> Manifest:
    """The manifest in the bytes of the file `where`. Raises `BundleError` where it is none that can be served."""
    retrain = "train the bundle again with this version of foreshock"
    try:
        version = msgspec.json.decode(content).get("format_version")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError) as error:
        raise BundleError(f"{where} is not a bundle manifest ({error}); restore the file or {retrain}") from None
    if version != FORMAT_VERSION:
        raise BundleError(f"{where} has format version {_brief(version)}, expected {FORMAT_VERSION}; {retrain}")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is not a valid manifest ({_brief(error)}); {retrain}") from None
    wrong = (
        _wrong_zone(manifest)
        or _wrong_inputs(manifest)
        or _wrong_widths(manifest)
        or _wrong_horizons(manifest)
        or _wrong_codes(manifest)
    )
    if wrong:
        raise BundleError(f"{where}: {wrong}; {retrain}")
    return manifest


def _wrong_zone(manifest: Manifest) -> str | None:
    try:
        Calendar(manifest.lender_time_zone)
    except CalendarError as error:
        return f"lender_time_zone: {_brief(error)}"
    return None


def _wrong_inputs(manifest: Manifest) -> str | None:
    for kind in KINDS:
        categorical, named = manifest.categorical_inputs.get(kind), manifest.numeric_inputs.get(kind)
        if categorical != list(COLUMNS[kind].categorical):
            expected = list(COLUMNS[kind].categorical)
            return f"categorical inputs of {kind} are {_brief(categorical)}, but events.columns has {expected}"
        if not named:
            return f"numeric inputs of {kind} are {_brief(named)}, at least one is needed"
        known = COLUMNS[kind].numeric_inputs
        if unknown := [name for name in named if name not in known]:
            return f"this version knows no numeric inputs of {kind} named {_brief(unknown)}, only {', '.join(known)}"
        if len(set(named)) < len(named):
            return f"numeric inputs of {kind} name one twice: {_brief(named)}"
    return None


def _wrong_widths(manifest: Manifest) -> str | None:
    for kind in KINDS:
        state, readout = manifest.state_widths.get(kind), manifest.readout_widths.get(kind)
        if state is None or readout is None or not 0 <= readout <= state <= LARGEST_STATE:
            return (
                f"state and readout of {kind} are {_brief(state)} and {_brief(readout)} wide; "
                f"a readout is a part of its state, of at most {LARGEST_STATE:,}"
            )
    total = sum(manifest.state_widths.values())
    return None if total <= LARGEST_STATE else f"the whole state is {total:,} wide, at most {LARGEST_STATE:,}"


def _wrong_horizons(manifest: Manifest) -> str | None:
    days = manifest.horizons_days
    if manifest.headline_horizon_days not in days:
        return f"headline horizon {_brief(manifest.headline_horizon_days)} is none of {_brief(days)}"
    rising = all(earlier < later for earlier, later in itertools.pairwise(days))
    if not rising or days[0] < 1 or days[-1] > LONGEST_HORIZON_DAYS or len(days) > MOST_HORIZONS:
        return f"horizons are {_brief(days)}; they must rise from 1 day on, up to {LONGEST_HORIZON_DAYS:,}"
    return None


def _wrong_codes(manifest: Manifest) -> str | None:
    for kind in KINDS:
        for name, codes in manifest.vocabularies.get(kind, {}).items():
            if sorted(codes.values()) != list(range(FIRST_CATEGORY_CODE, FIRST_CATEGORY_CODE + len(codes))):
                return (
                    f"codes of {kind}.{_brief(name)} are {_brief(sorted(codes.values()))}, "
                    f"expected each once from {FIRST_CATEGORY_CODE} on"
                )
        if kind not in manifest.vocabularies:
            return f"there is no vocabulary of {kind}"
    return None


def _brief(value: object) -> str:
    """A value from the manifest in a message, whatever its length."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} […]"


def _fits(found: Tensor, expected: Tensor) -> bool:
    """Whether a graph's input or output is the one expected. A width that the graph leaves open fits: it is run."""
    return (
        found[:2] == expected[:2]
        and len(found[2]) == len(expected[2])
        and not isinstance(found[2][0], int)
        and all(
            not isinstance(has, int) or has == asked for has, asked in zip(found[2][1:], expected[2][1:], strict=True)
        )
    )


def _described(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{_brief(name)[1:-1]} {kind} {_brief(shape)}" for name, kind, shape in tensors) or "none"


def open_graph(
    where: Path, content: bytes, inputs: list[Tensor], outputs: list[Tensor]
) -> onnxruntime.InferenceSession:
    """A session of the graph in the bytes of the file `where`, which takes `inputs` and gives `outputs`.

    The bytes are those that were checked, and no file can be named relative to them. Raises `BundleError`.
    """
    try:
        check_graph(content)
    except GraphRefused as error:
        raise BundleError(f"{where} cannot be used: {error}; train the bundle again") from None
    session = _open_session(where, content)
    for what, expected, found in (
        ("inputs", inputs, session.get_inputs),
        ("outputs", outputs, session.get_outputs),
    ):
        has = _read_interface(where, what, found)
        if len(has) != len(expected) or not all(map(_fits, has, expected)):
            raise BundleError(
                f"{where} has the {what} {_described(has)}, but {MANIFEST_FILE} asks for {_described(expected)}; "
                "train the bundle again"
            )
    return session


def _read_interface(where: Path, what: str, found: Callable[[], Any]) -> list[tuple[str, str, list[Any]]]:
    try:
        return [(each.name, each.type, list(each.shape)) for each in found()]
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{where} has {what} with names that are not UTF-8 ({error}); train the bundle again"
        ) from None


def _open_session(where: Path, content: bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        # Without falling back to other providers, which prints on standard output and tries the same again.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's exception classes have no public common base
        raise BundleError(f"{where} cannot be opened by onnxruntime ({error}); train the bundle again") from error


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
