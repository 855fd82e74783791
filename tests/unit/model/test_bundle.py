from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.calendar import UTC, Calendar
from events.columns import COLUMNS, CONTRACT_COLUMNS, CONTRACT_PLACES, FIRST_CATEGORY_CODE
from events.types import KINDS, Kind
from model.architectures import Architecture
from model.bundle import ROWS_PER_RUN, Bundle, BundleError, read_manifest
from model.networks.features import CALENDAR_COLUMNS as CALENDAR
from model.networks.risk_model import RiskModel
from model.training.export import Description, export_bundle
from model.training.forward_pass import load_model, vocabulary_sizes
from stream.settings import PRETRAINED_BUNDLE

ROWS = 1_100


def _inputs(bundle: Bundle, kind: Kind, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    columns = COLUMNS[kind]
    numeric = random.lognormal(4, 2, size=(rows, len(columns.numeric_inputs))).astype(np.float32)
    numeric[random.random(numeric.shape) < 0.2] = np.nan
    numeric[:, -2:] = random.integers(1, 32, size=(rows, 2))
    sizes = [len(bundle.vocabularies[kind].get(name, {})) + FIRST_CATEGORY_CODE for name in columns.categorical]
    categorical = random.integers(0, sizes, size=(rows, len(sizes)))
    state = random.uniform(0, 1, size=(rows, bundle.manifest.state_widths[kind])).astype(np.float32)
    return numeric, categorical, state


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, ROWS - 1), max_size=12, unique=True), seed=st.integers(0, 3))
def test_any_split_into_batches_gives_the_same_bits(
    random_bundle: Bundle, kind: Kind, cuts: list[int], seed: int
) -> None:
    inputs = _inputs(random_bundle, kind, ROWS, seed)
    whole = random_bundle.step(kind, *inputs)
    bounds = [0, *sorted(cuts), ROWS]
    pieces = [random_bundle.step(kind, *(part[a:b] for part in inputs)) for a, b in pairwise(bounds)]
    for position in range(2):
        assert np.concatenate([piece[position] for piece in pieces]).tobytes() == whole[position].tobytes()


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, ROWS - 1), max_size=12, unique=True))
def test_any_split_of_scoring_gives_the_same_bits(random_bundle: Bundle, cuts: list[int]) -> None:
    readout, ages = _readouts(random_bundle, ROWS, seed=0)
    bounds = [0, *sorted(cuts), ROWS]
    pieces = [random_bundle.score(readout[a:b], ages[a:b]) for a, b in pairwise(bounds)]
    assert np.concatenate(pieces).tobytes() == random_bundle.score(readout, ages).tobytes()


def test_probabilities_never_decrease_with_the_horizon(random_bundle: Bundle) -> None:
    readout, ages = _readouts(random_bundle, 3_000, seed=1)
    scores = random_bundle.score(readout * np.float32(20), ages)
    assert (np.diff(scores, axis=1) >= 0).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores[:, 2].std() > 0.05


@pytest.mark.parametrize("rows", [0, 1, 31, ROWS_PER_RUN, ROWS_PER_RUN + 1])
def test_shapes_for_every_number_of_rows(random_bundle: Bundle, rows: int) -> None:
    inputs = _inputs(random_bundle, "activity", rows, 0)
    state, attention = random_bundle.step("activity", *inputs)
    assert state.shape == inputs[2].shape
    assert attention.shape == (rows,)
    assert random_bundle.score(*_readouts(random_bundle, rows, seed=2)).shape == (rows, 4)


def test_a_readout_weighs_otherwise_as_it_ages(random_bundle: Bundle) -> None:
    readout, ages = _readouts(random_bundle, 100, seed=3)
    for number in range(len(KINDS)):
        older = ages.copy()
        older[:, number] = np.where(ages[:, number] < 0, 10, ages[:, number] + 10)
        assert (random_bundle.score(readout, older) != random_bundle.score(readout, ages)).any()
    # Beyond the longest age, nothing changes.
    assert np.array_equal(random_bundle.score(readout, ages + 1_000), random_bundle.score(readout, ages + 2_000))


def _readouts(bundle: Bundle, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Readouts and ages, some of kinds that never were."""
    random = np.random.default_rng(seed)
    ages = np.where(random.random((rows, len(KINDS))) < 0.2, -1, random.exponential(20.0, (rows, len(KINDS))))
    return random.normal(size=(rows, bundle.readout_width)).astype(np.float32), ages.astype(np.float32)


def test_slices_tile_state_and_readout(random_bundle: Bundle) -> None:
    for slices, width in (
        (random_bundle.state_slices, random_bundle.state_width),
        (random_bundle.readout_slices, random_bundle.readout_width),
    ):
        covered = [position for kind in KINDS for position in range(width)[slices[kind]]]
        assert covered == list(range(width))
    state = np.arange(random_bundle.state_width, dtype=np.float32)[None]
    readout = random_bundle.readout_of(state)[0]
    for kind in KINDS:
        start = random_bundle.state_slices[kind].start
        width = random_bundle.readout_widths[kind]
        assert readout[random_bundle.readout_slices[kind]].tolist() == list(range(start, start + width))


def test_fingerprint_is_of_the_manifest(random_bundle: Bundle) -> None:
    digest = hashlib.sha256((random_bundle.path / "manifest.json").read_bytes()).hexdigest()
    assert random_bundle.fingerprint_hex == digest[:16]
    assert random_bundle.fingerprint == int(digest[:16], 16)
    assert random_bundle.horizons_days[random_bundle.headline] == 90


def test_runs_without_torch(random_bundle: Bundle) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import model.evaluation.evaluate\n"
        "from model.bundle import Bundle\n"
        f"print(Bundle.load({str(random_bundle.path)!r}).fingerprint_hex)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == random_bundle.fingerprint_hex


def test_the_manifest_is_read_without_opening_a_graph(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(PRETRAINED_BUNDLE, folder)
    loaded = Bundle.load(folder)
    assert read_manifest(folder) == (loaded.manifest, loaded.fingerprint)
    (folder / "score.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"score\.onnx is not the file"):
        read_manifest(folder)


def test_the_shipped_bundle_names_the_states_of_its_users() -> None:
    """Another fingerprint would make every state row that it wrote unusable."""
    assert Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex == "1d75658e5a2ecc25"


EIGHT = ("amount_due", "amount_paid", "days_past_due", "balance", "days_after_due_date", "gap_days", *CALENDAR)
"""Inputs of repayments before there were contracts."""


def test_a_bundle_takes_the_inputs_that_it_names(tmp_path: Path, random_description: Description) -> None:
    names = {kind: COLUMNS[kind].numeric_inputs for kind in KINDS} | {"repayments": EIGHT}
    network = RiskModel(Architecture(), vocabulary_sizes(random_description.vocabularies), names)
    bundle = export_bundle(network, random_description, tmp_path / "bundle")
    assert bundle.manifest.numeric_inputs["repayments"] == list(EIGHT)
    assert not bundle.takes("repayments", CONTRACT_COLUMNS)
    assert load_model(bundle).numeric_inputs == names
    numeric, categorical, state = _inputs(bundle, "repayments", 100, 0)
    found = bundle.step("repayments", numeric, categorical, state)
    graph = onnxruntime.InferenceSession(bundle.path / "repayments.onnx")
    own = numeric[:96, [COLUMNS["repayments"].numeric_inputs.index(name) for name in EIGHT]]
    expected = graph.run(None, {"numeric": own, "categorical": categorical[:96], "state": state[:96]})
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[:96], other, rtol=1e-6)
    others = numeric.copy()
    others[:, CONTRACT_PLACES] = 7
    for mine, other in zip(found, bundle.step("repayments", others, categorical, state), strict=True):
        assert mine.tobytes() == other.tobytes()


def test_a_calendar_of_other_days_is_told(random_bundle: Bundle) -> None:
    assert random_bundle.other_days(UTC) is None
    warning = random_bundle.other_days(Calendar("Europe/Madrid"))
    assert warning is not None
    assert "trained with the days of UTC, lender_time_zone is Europe/Madrid" in warning
    older = Bundle.load(PRETRAINED_BUNDLE)
    if not older.takes("repayments", CONTRACT_COLUMNS):
        assert older.other_days(Calendar("Europe/Madrid")) is None
