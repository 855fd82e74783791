"""A row's bytes are its fields and nothing else, and its first due date is that of its earliest open instalment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from stream.settings import PRETRAINED_BUNDLE
from stream.state.row import NEVER, blank_row, first_due_day, row_dtype

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("width", [1, 2, 333, 778])
def test_rows_have_no_hidden_padding(width: int) -> None:
    """Every byte belongs to a field: rows made the same way are the same bytes."""
    dtype = row_dtype(width)
    assert dtype.itemsize % 8 == 0
    dirty = np.frombuffer(b"\xff" * 4 * dtype.itemsize, dtype=dtype).copy()
    dirty[:] = blank_row(dtype, 5)
    assert dirty[np.array([2, 0])].tobytes() == 2 * blank_row(dtype, 5).tobytes()


def test_a_row_of_the_shipped_bundle_keeps_to_its_budget() -> None:
    size = row_dtype(Bundle.load(PRETRAINED_BUNDLE).state_width).itemsize
    assert size <= 5_120
    for page in ("performance", "scaling"):
        assert f"a row has {size:,} bytes now" in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def test_the_first_due_date_is_the_earliest_of_those_not_yet_missed() -> None:
    rows = np.repeat(blank_row(row_dtype(3), 5), 2)
    rows["ledger"]["due_day"][1, -3:] = (20, 40, 90)
    rows["ledger"]["missed"][1, -3] = 1
    assert first_due_day(rows).tolist() == [NEVER, 40]
