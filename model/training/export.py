"""Writes a bundle folder from a trained model: five ONNX graphs, the weights, and the manifest that names them all.

The graphs are checked before the bundle is complete: extreme and missing inputs must give finite outputs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from events.columns import COLUMNS, FIRST_CATEGORY_CODE, NEVER_DAYS
from events.types import KINDS, Kind
from model.bundle import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    SCORE_FILE,
    SIGNATURE_FILE,
    WEIGHTS_FILE,
    Bundle,
    Calibration,
    Manifest,
    Thresholds,
    Training,
    Winsor,
    graph_file,
    manifest_bytes,
    sha256_of,
    write_manifest,
)
from model.bundle_documents import forget_list
from model.networks.boosted import BoostedFusion
from model.networks.features import CALENDAR_COLUMNS
from model.networks.risk_model import RiskModel
from model.networks.steps import ScoreStep, state_widths, step_of
from model.training.graphs import write_graph
from model.training.tree_graph import write_boosted_score

LARGEST_ATTENTION_LOGIT = 40.0
"""exp of twice this is still a normal float32, so no event's weight in the running softmax overflows or is lost."""


NEGLIGIBLE_WEIGHT = 1e-15
"""Weights below this do not change a float32 sum to which another weight of the row contributes."""


class ExportError(RuntimeError):
    """A trained model must not be served; the message says which graph and why."""


@dataclass(frozen=True)
class Description:
    """The parts of a manifest that are not taken from the model itself."""

    name: str
    headline_horizon_days: int
    vocabularies: Mapping[Kind, Mapping[str, Mapping[str, int]]]
    thresholds: Thresholds
    training: Training
    delinquency_days: int = 60
    lender_time_zone: str = "UTC"


def export_bundle(model: RiskModel, description: Description, out: Path) -> Bundle:
    """Write the bundle to the folder `out`, replacing a bundle that is there, and load it.

    Everything is written beside `out` first, so a failure leaves the old bundle as it was. Raises `ExportError` when
    the graphs yield anything that is not finite.
    """
    model.eval()
    _check_weights(model)
    _drop_negligible_weights(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=out.parent) as folder:
        staging = Path(folder)
        _write_graphs(model, staging)
        np.savez(staging / WEIGHTS_FILE, **{name: value.numpy() for name, value in model.state_dict().items()})
        files = {path.name: sha256_of(path) for path in sorted(staging.iterdir())}
        (staging / MANIFEST_FILE).write_bytes(manifest_bytes(_manifest(model, description, files)))
        _check_finite(Bundle.load(staging))
        out.mkdir(exist_ok=True)
        # The manifest is moved last: without it, or with an old one whose checksums differ, a reader sees that the
        # folder is incomplete.
        for name in (MANIFEST_FILE, SIGNATURE_FILE):
            (out / name).unlink(missing_ok=True)
        forget_list(out)
        for name in (*files, MANIFEST_FILE):
            shutil.move(staging / name, out / name)
    return Bundle.load(out)


def record_metrics(bundle: Bundle, metrics: Mapping[str, Any]) -> Bundle:
    """Write metrics, measured on the exported graphs, into the manifest, and load the bundle under its new
    fingerprint."""
    manifest = msgspec.structs.replace(bundle.manifest, metrics=dict(metrics))
    write_manifest(bundle.path, manifest)
    return Bundle.load(bundle.path)


def _manifest(model: RiskModel, description: Description, files: Mapping[str, str]) -> Manifest:
    architecture = model.architecture
    fusion = model.fusion
    return Manifest(
        format_version=FORMAT_VERSION,
        name=description.name,
        architecture=architecture.as_manifest(),
        state_widths=state_widths(model),
        readout_widths={kind: model.encoder(kind).readout_width for kind in KINDS},
        horizons_days=list(architecture.horizons_days),
        headline_horizon_days=description.headline_horizon_days,
        delinquency_days=description.delinquency_days,
        numeric_inputs={kind: list(model.numeric_inputs[kind]) for kind in KINDS},
        categorical_inputs={kind: list(COLUMNS[kind].categorical) for kind in KINDS},
        vocabularies={
            kind: {name: dict(codes) for name, codes in description.vocabularies[kind].items()} for kind in KINDS
        },
        winsor={kind: _winsor(model, kind) for kind in KINDS},
        calibration=Calibration(slope=fusion.slope.tolist(), intercept=fusion.intercept.tolist()),
        thresholds=description.thresholds,
        training=description.training,
        metrics={},
        files=dict(files),
        lender_time_zone=description.lender_time_zone,
    )


def _winsor(model: RiskModel, kind: Kind) -> dict[str, Winsor]:
    features = model.encoder(kind).features
    if features is None:
        return {}
    return {
        name: Winsor(low=float(features.low[position]), high=float(features.high[position]))
        for position, name in enumerate(features.names)
        if name not in CALENDAR_COLUMNS
    }


def _write_graphs(model: RiskModel, folder: Path) -> None:
    rows = 64
    for kind, width in state_widths(model).items():
        columns = COLUMNS[kind]
        example = (
            torch.zeros(rows, len(model.numeric_inputs[kind])),
            torch.zeros(rows, len(columns.categorical), dtype=torch.int64),
            torch.zeros(rows, width),
        )
        write_graph(
            step_of(model, kind), example, ["numeric", "categorical", "state"], ["state_after", "attention"],
            folder / graph_file(kind),
        )  # fmt: skip
    if isinstance(model.fusion, BoostedFusion):
        write_boosted_score(model.fusion, folder / SCORE_FILE)
        return
    scorer = ScoreStep(model.fusion).eval()
    width = sum(model.encoder(kind).readout_width for kind in KINDS)
    nothing = (torch.zeros(rows, width), torch.zeros(rows, len(KINDS)))
    write_graph(scorer, nothing, ["readout", "ages"], ["probabilities"], folder / SCORE_FILE)


def _drop_negligible_weights(model: RiskModel) -> None:
    """Set weights to zero that weight decay has made negligible.

    Their products with small inputs are subnormal numbers, with which a processor is a hundred times slower: they made
    the transactions graph of a bundle trained with weight decay 1.4 times slower.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter[parameter.abs() < NEGLIGIBLE_WEIGHT] = 0.0


def _check_weights(model: RiskModel) -> None:
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise ExportError(f"{name} holds values that are not finite; train again with another seed")
    for kind in KINDS:
        bound = model.encoder(kind).largest_attention_logit()
        if not bound <= LARGEST_ATTENTION_LOGIT:
            raise ExportError(
                f"attention logits of {kind} may reach {bound:.1f}, more than {LARGEST_ATTENTION_LOGIT}; "
                "train with a lower learning rate or fewer epochs"
            )


def _check_finite(bundle: Bundle) -> None:
    """Step every kind through ordinary, extreme and missing inputs and score the states."""
    rows = 96
    random = np.random.default_rng(0)
    state = np.zeros((rows, bundle.state_width), dtype=np.float32)
    for _ in range(8):
        for kind, part in bundle.state_slices.items():
            columns = COLUMNS[kind]
            numeric = random.normal(size=(rows, len(columns.numeric_inputs))).astype(np.float32)
            numeric[32:64] *= np.float32(1e12)
            numeric[64:] = np.nan
            numeric[:, -2:] = 15.0
            sizes = [len(bundle.vocabularies[kind].get(name, {})) + FIRST_CATEGORY_CODE for name in columns.categorical]
            categorical = random.integers(0, sizes, size=(rows, len(sizes)))
            state[:, part], attention = bundle.step(kind, numeric, categorical, np.ascontiguousarray(state[:, part]))
            if not (np.isfinite(state[:, part]).all() and np.isfinite(attention).all()):
                raise ExportError(
                    f"the graph of {kind} gives values that are not finite; train again with another seed"
                )
    ages = random.exponential(60.0, (rows, len(KINDS))).astype(np.float32)
    ages[::3] = NEVER_DAYS
    probabilities = bundle.score(bundle.readout_of(state), ages)
    if not np.isfinite(probabilities).all() or (np.diff(probabilities, axis=1) < 0).any():
        raise ExportError("the score graph gives values that are not finite or decrease; train again with another seed")
