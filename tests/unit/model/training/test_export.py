from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from model.bundle import Bundle
from model.networks.risk_model import RiskModel
from model.training.export import Description, ExportError, export_bundle, record_metrics
from model.training.forward_pass import load_model


def test_graphs_take_any_number_of_rows_and_name_no_machine(random_bundle: Bundle) -> None:
    for path in random_bundle.path.glob("*.onnx"):
        content = path.read_bytes()
        for trace in (b"site-packages", b".py", b"/home/", b"/usr/"):
            assert trace not in content, f"{path.name} holds {trace!r}"
        graph = onnx.load(path).graph
        for part in (*graph.input, *graph.output):
            assert part.type.tensor_type.shape.dim[0].dim_param == "rows"


def test_the_bundle_is_small(random_bundle: Bundle) -> None:
    assert sum(path.stat().st_size for path in random_bundle.path.iterdir()) < 3_000_000


def test_weights_survive_the_round_trip(random_bundle: Bundle, model: RiskModel) -> None:
    original = model.state_dict()
    loaded = load_model(random_bundle, torch.float32).state_dict()
    assert original.keys() == loaded.keys()
    assert all(torch.equal(original[name], loaded[name]) for name in original)


def test_metrics_change_the_fingerprint_and_nothing_else(random_bundle: Bundle, tmp_path: Path) -> None:
    copied = tmp_path / "bundle"
    copied.mkdir()
    for path in random_bundle.path.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    found = record_metrics(Bundle.load(copied), {"auc": 0.8})
    assert found.manifest.metrics == {"auc": 0.8}
    assert found.fingerprint != random_bundle.fingerprint
    assert found.manifest.files == random_bundle.manifest.files


def test_attention_that_could_overflow_is_refused(
    tmp_path: Path, model: RiskModel, random_description: Description
) -> None:
    model.state_dict()["activity.query.weight"].fill_(10.0)
    with pytest.raises(ExportError, match="attention logits of activity may reach"):
        export_bundle(model, random_description, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, model: RiskModel, random_description: Description
) -> None:
    model.state_dict()["fusion.hidden.bias"].fill_(float("nan"))
    with pytest.raises(ExportError, match=r"fusion\.hidden\.bias holds values that are not finite"):
        export_bundle(model, random_description, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
