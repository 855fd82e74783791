"""Learning curves as SVG text: losses above, AUC on the validation part below, over the same epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from model.presentation.charts import panels

CURVES_FILE = "curves.svg"
PANELS = (("loss", "validation_loss"), ("validation_auc",))

Record: TypeAlias = Mapping[str, float | None]


def curves(history: Sequence[Record]) -> str:
    """An SVG document of the records, one per epoch. Where an epoch lacks a value, the line joins those around it."""
    series = [
        {
            name.replace("_", " "): [
                (float(epoch), value)
                for epoch, record in enumerate(history, 1)
                if (value := record.get(name)) is not None
            ]
            for name in names
        }
        for names in PANELS
    ]
    return panels("learning curves", series, last=len(history), missing="not known")
