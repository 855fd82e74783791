"""What commands print with `--json`: one JSON value on the standard output, and nothing beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle
from stream.settings import PRETRAINED_BUNDLE

SIMULATED = ("--source", "simulator", "--users", "30", "--months", "6")


def told(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))


def test_of_bundles(bundle: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "signing.pem", tmp_path / "signing.pub"
    model = Bundle.load(bundle).fingerprint_hex
    made = told("bundle", "keygen", private, public)
    assert (made["private_key"], made["public_key"]) == (str(private), str(public))
    before = told("bundle", "verify", bundle)
    assert (before["model"], before["signed_by"], before["signed_documents"]) == (model, None, None)
    signed = told("bundle", "sign", bundle, "--key", private)
    assert signed == {
        "model": model,
        "signature": str(bundle / "manifest.json.sig"),
        "documents": ["MODEL_CARD.md", "curves.svg", "reference.json"],
    }
    after = told("bundle", "verify", bundle, "--public-key", public)
    assert (after["signed_by"], after["signed_documents"]) == (made["key"], signed["documents"])
    card = told("card", bundle, "--out", tmp_path / "card.md")
    assert card == {"model": model, "file": str(tmp_path / "card.md"), "evaluated": False}


def test_of_made_up_borrowers(tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    found = told("simulate", "--users", "5", "--months", "2", "--limit", "20", "--out", out)
    assert found == {"events": 20, "file": str(out)}
    metrics = told("evaluate", *SIMULATED)
    assert metrics["users"] == 30
    explained = told("explain", "--user", "u0000003", *SIMULATED)
    assert explained["user"] == "u0000003"
    assert explained["model"] == Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex


def test_of_a_stack_that_does_not_run(tmp_path: Path) -> None:
    assert told("down", "--stack-dir", tmp_path) == {"stopped": False}


def test_of_a_small_fuzzing(tmp_path: Path) -> None:
    found = told("fuzz", "offsets", "--inputs", "50", "--findings", tmp_path / "findings")
    assert [(name, one["inputs"]) for name, one in found.items()] == [("offsets", 50)]
