"""Single events of all kinds as rows of standardised numbers: a kind's fields have columns of their own, which are 0 at
events of other kinds. Scales come from training rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import KINDS, Kind
from model.baselines.timeline import Ints, Timeline
from model.baselines.windows import MOST_CATEGORIES
from model.histories.sequences import Sequences

LARGEST = 5.0
_SKIPPED = frozenset({"day_of_year"})
"""Left out, because with one year of training data a model would take the date for a cause."""


@dataclass(frozen=True)
class RawEvents:
    """Signed logarithms, standardised and cut at `LARGEST`; a flag where missing; categories as one column each (those
    beyond `MOST_CATEGORIES` of a field share the last); the kind; and the days since the event before.

    `scales[kind][name]` is (mean, deviation) of the logarithm; `sizes[kind][name]` the columns of a category field.
    """

    scales: dict[Kind, dict[str, tuple[float, float]]]
    sizes: dict[Kind, dict[str, int]]

    @classmethod
    def of(cls, sequences: Sequences, rows: Ints) -> RawEvents:
        """Learn scales from the events `rows` alone, positions in the merged order."""
        scales: dict[Kind, dict[str, tuple[float, float]]] = {}
        owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
        for position, kind in enumerate(KINDS):
            mine = sequences.kinds[rows] == position
            own = sequences.starts[kind][owner[mine]] + sequences.latest[rows[mine], position] - 1
            scales[kind] = {}
            for column, name in enumerate(COLUMNS[kind].numeric_inputs):
                values = _logarithm(sequences.numeric[kind][own, column])
                known = values[~np.isnan(values)]
                if name not in _SKIPPED:
                    scales[kind][name] = (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)
        sizes = {
            kind: {
                name: min(len(listed), MOST_CATEGORIES) + FIRST_CATEGORY_CODE
                for name, listed in sequences.vocabularies[kind].items()
            }
            for kind in KINDS
        }
        return cls(scales, sizes)

    @property
    def width(self) -> int:
        """Number of inputs of an event."""
        numbers = sum(2 * len(scales) for scales in self.scales.values())
        return len(KINDS) + 1 + numbers + sum(sum(sizes.values()) for sizes in self.sizes.values())

    def inputs(self, timeline: Timeline, at: Ints) -> NDArray[np.float32]:
        """Inputs of the events `at` of a timeline, float32 `[at, width]`."""
        inputs = np.zeros((len(at), self.width), dtype=np.float32)
        inputs[np.arange(len(at)), timeline.kinds[at]] = 1.0
        gap_ms = np.where(at > timeline.start[at], timeline.clock_ms[at] - timeline.clock_ms[at - 1], 0)
        inputs[:, len(KINDS)] = np.log1p(gap_ms / DAY_MS)
        begin = len(KINDS) + 1
        for position, kind in enumerate(KINDS):
            rows = np.flatnonzero(timeline.kinds[at] == position)
            own = timeline.latest(kind, at[rows])
            for name, (mean, deviation) in self.scales[kind].items():
                column = COLUMNS[kind].numeric_inputs.index(name)
                values = (_logarithm(timeline.sequences.numeric[kind][own, column]) - mean) / deviation
                inputs[rows, begin] = np.clip(np.nan_to_num(values), -LARGEST, LARGEST)
                inputs[rows, begin + 1] = np.isnan(values)
                begin += 2
            for name, size in self.sizes[kind].items():
                codes = timeline.sequences.categorical[kind][own, COLUMNS[kind].categorical.index(name)]
                inputs[rows, begin + np.minimum(codes, size - 1)] = 1.0
                begin += size
        return inputs


def _logarithm(values: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    logarithm: NDArray[np.float64] = np.sign(wide) * np.log1p(np.abs(wide))
    return logarithm
