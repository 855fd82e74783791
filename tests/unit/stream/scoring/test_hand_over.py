"""Alerts that go over into rows: in memory and on disk, those told of and those that were the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.alerts.state_machine import HIGH, LOW, MEDIUM, initial_state
from stream.scoring.hand_over import take_alerts
from stream.scoring.order_journal import HandOver
from stream.state.archive import Archives, Origin
from stream.state.resident import ResidentSlab
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

BLANK = blank_row(row_dtype(5), 7)


def row(level: int, opened_ms: int) -> bytes:
    made = BLANK.copy()
    made["alert"]["level"], made["alert"]["opened_ms"] = level, opened_ms
    made["network"] = 0.5
    return made.tobytes()


def slab_on(folder: Path | None) -> Any:
    if folder is None:
        return Slab(BLANK)
    archives = Archives(folder, Origin("id", 7, BLANK.dtype.itemsize), 1 << 24)
    slab = ResidentSlab(BLANK, archives, 2)
    slab.open_partition(3)
    return slab


@pytest.mark.parametrize("on_disk", [False, True])
def test_told_alerts_replace_those_of_the_model(tmp_path: Path, *, on_disk: bool) -> None:
    slab = slab_on(tmp_path if on_disk else None)
    slab.put(
        3, [(b"both", row(MEDIUM, 5)), (b"own", row(HIGH, 6)), (b"none", row(LOW, -1)), (b"theirs", row(LOW, -1))], 9
    )
    told = initial_state(2)
    told["level"], told["opened_ms"] = [HIGH, MEDIUM], [77, 88]
    touched = take_alerts(slab, 3, HandOver("a", "b", (b"both", b"theirs"), told))
    found = {key: np.frombuffer(slab.get(3, key), dtype=slab.dtype)[0] for key in (b"both", b"own", b"none", b"theirs")}
    assert {key: (int(kept["alert"]["level"]), int(kept["alert"]["opened_ms"])) for key, kept in found.items()} == {
        b"both": (HIGH, 77),
        b"own": (LOW, -1),
        b"none": (LOW, -1),
        b"theirs": (MEDIUM, 88),
    }
    assert all((kept["network"] == 0.5).all() for kept in found.values()), "nothing else is touched"
    assert sorted(slab.by_partition(touched)[3]) == sorted(
        (key, found[key].tobytes()) for key in (b"both", b"own", b"theirs")
    )
