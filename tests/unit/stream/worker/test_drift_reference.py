"""A reference that cannot be used is told of, and scoring goes on without it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model.bundle import REFERENCE_FILE, Bundle
from model.evaluation.drift_reference import read_drift_reference
from stream.settings import PRETRAINED_BUNDLE
from stream.worker.drift_reference import reference_of


def test_the_shipped_bundle_has_one_which_reads_as_the_report_reads_it() -> None:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    found, known = reference_of(bundle), read_drift_reference(bundle)
    assert found is not None
    assert known is not None
    assert {name: (one.edges, one.counts) for name, one in found.items()} == {
        name: (one.edges, one.counts) for name, one in known.distributions.items()
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("score", {"counts": [0] * 11}),
        ("score", {"counts": [1] * 9}),
        ("repayments.amount_due", {"counts": [-1] * 11}),
        ("repayments.amount_due", {"edges": [3.0] * 9}),
        ("repayments.kind", {"counts": [4]}),
    ],
)
def test_what_is_no_distribution_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, change: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    found = msgspec.json.decode((folder / REFERENCE_FILE).read_bytes())
    found["distributions"][name] |= change
    assert nothing_usable(folder, msgspec.json.encode(found), caplog)
    assert name in caplog.text


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"bundle":"0","distributions":{}}'])
def test_what_is_no_reference_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    folder = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    assert nothing_usable(folder, content, caplog)
    (folder / REFERENCE_FILE).unlink()
    caplog.clear()
    assert reference_of(Bundle.load(folder)) is None
    assert not caplog.text, "a bundle need not have one"


def nothing_usable(folder: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> bool:
    (folder / REFERENCE_FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = reference_of(Bundle.load(folder))
    return found is None and "drift is not measured" in caplog.text
