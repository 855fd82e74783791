"""The window of 60: which events are in it, and that the network reads them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.window import FEATURES, ROW_BYTES, TIME_BYTES, WINDOW, Windowed, pushed, write_network
from events.types import Event, Transaction

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def transactions(count: int) -> list[Transaction]:
    return [
        Transaction(event_id=f"e{n}", user_id="u", occurred_at=START + dt.timedelta(days=n), amount=1_000.0 * n)
        for n in range(count)
    ]


def rows(window: bytes) -> np.ndarray:
    return np.frombuffer(window, dtype=np.float32, offset=TIME_BYTES).reshape(-1, FEATURES)


@pytest.mark.parametrize("count", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW])
def test_the_newest_sixty_are_kept_in_order(count: int) -> None:
    window = None
    for event in transactions(count):
        window = pushed(event, window)
    assert window is not None
    assert len(window) == TIME_BYTES + ROW_BYTES * min(count, WINDOW)
    kept = list(range(count))[-WINDOW:]
    assert rows(window)[:, 4].tolist() == kept
    gaps = [0.0 if number == 0 else 1.0 for number in kept]
    assert rows(window)[:, -1].tolist() == gaps


def test_the_network_reads_the_newest_event_and_the_order(tmp_path: Path, simulated: Sequence[Event]) -> None:
    write_network(tmp_path / "window.onnx")
    model = Windowed(tmp_path / "window.onnx")
    user_id = simulated[0].user_id
    own = [event for event in simulated if event.user_id == user_id][:20]
    scores, window = [], None
    for event in own:
        horizons, window = model.take(event, window)
        scores.append(horizons)
    assert np.shape(scores) == (len(own), 4)
    assert all(0 < value < 1 for horizons in scores for value in horizons)
    assert len({tuple(horizons) for horizons in scores}) == len(own)
    backwards = None
    for event in reversed(own):
        last, backwards = model.take(event, backwards)
    assert last != scores[-1]
