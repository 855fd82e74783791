"""What a worker has counted of its inputs, on disk: gone on with, or said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.worker.drift_file import DriftFile
from tests.unit.stream.worker.test_input_drift import inputs, new_drift, noted

MODEL = "feedc0de"


def test_the_next_process_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "not there yet" / "drift.json"
    drift = noted(inputs("activity", 500))
    DriftFile(path, MODEL, new_drift()).read(0)
    DriftFile(path, MODEL, drift).write()
    DriftFile(path, MODEL, drift).write()
    again = new_drift()
    DriftFile(path, MODEL, again).read(0)
    assert again.indices() == drift.indices() != {}
    assert caplog.records == []
    assert [found.name for found in path.parent.iterdir()] == ["drift.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (b'{"model":"feedc0de"}', "missing required field `inputs`"),
        (b'{"model":"other","inputs":{"bins":{},"parts":{}}}', "it is of model other"),
        (b'{"model":"feedc0de","inputs":{"bins":{},"parts":{}}}', "counted in other bins"),
        (b'{"other":' + b"[" * 100_000, "recursion"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_replaced(
    content: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, drift = tmp_path / "drift.json", new_drift()
    path.write_bytes(content)
    DriftFile(path, MODEL, drift).read(0)
    (line,) = caplog.messages
    assert line.startswith(f"{path} is not used, the drift of inputs is counted anew: ")
    assert said in line
    DriftFile(path, MODEL, drift).write()
    DriftFile(path, MODEL, new_drift()).read(0)
    assert len(caplog.messages) == 1


def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "drift.json"
    path.mkdir()
    DriftFile(path, MODEL, new_drift()).read(0)
    DriftFile(path, MODEL, new_drift()).write()
    assert [message.split(": ")[0] for message in caplog.messages] == [
        f"{path} is not used, the drift of inputs is counted anew",
        f"{path} cannot be written",
    ]
