from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from model.training.curves import curves
from model.training.tensorboard import TensorBoard

HISTORY = [
    {"loss": 0.5, "validation_loss": 0.4, "validation_auc": 0.6},
    {"loss": 0.3, "validation_loss": None, "validation_auc": 0.8},
    {"loss": 0.2, "validation_loss": 0.3, "validation_auc": 0.7},
]


def points(svg: str) -> list[list[tuple[float, float]]]:
    root = ET.fromstring(svg)
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]


def test_a_line_per_figure_over_common_epochs() -> None:
    loss, validation_loss, auc = points(curves(HISTORY))
    assert (len(loss), len(validation_loss), len(auc)) == (3, 2, 3)
    assert [x for x, _ in loss] == [x for x, _ in auc]
    assert [x for x, _ in validation_loss] == [loss[0][0], loss[2][0]]
    heights = [y for _, y in loss]
    assert heights == sorted(heights), "a falling loss falls in the picture, where y grows downwards"
    assert auc[1][1] < auc[2][1] < auc[0][1]
    low, high = loss[2][1], loss[0][1]
    assert validation_loss[0][1] == pytest.approx(high + (low - high) * (0.5 - 0.4) / 0.3, abs=0.1), (
        "one scale for both"
    )


@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"loss": 0.2, "validation_loss": None, "validation_auc": None}]])
def test_little_or_nothing_known_is_drawn_too(history: list[dict[str, float | None]]) -> None:
    svg = curves(history)
    ET.fromstring(svg)
    assert ("not known" in svg) == (not history or history[0]["validation_auc"] is None)


def test_tensorboard_gets_every_figure_that_is_known(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for epochs in range(1, 4):
        board.add(HISTORY[:epochs])
    found = event_accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [round(point.value, 6) for point in found.Scalars("loss")] == [0.5, 0.3, 0.2]
    assert [point.step for point in found.Scalars("validation_loss")] == [1, 3]
