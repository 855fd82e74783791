"""The bundle's step model for frameworks that process one event at a time.

Runs the same graphs on one unpadded row and does nothing else that such a framework would not need. Imports only
onnxruntime, numpy, msgspec, `events` and `model.bundle`.
"""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS, MISSING_CODE, UNSEEN_CODE, ages_days, due_ms
from events.types import KINDS, Event, Kind
from model.bundle import MANIFEST_FILE, SCORE_FILE, Manifest, graph_file

TIMES_BYTES = 8 * len(KINDS)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX session on one thread, as the worker's are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SingleStep:
    """Scores events one by one. A user's state is bytes: the latest time per kind (int64), then the state (float32)."""

    def __init__(self, bundle: Path) -> None:
        manifest = msgspec.json.decode((bundle / MANIFEST_FILE).read_bytes(), type=Manifest)
        self._vocabularies = manifest.vocabularies
        self._steps = {kind: open_session(bundle / graph_file(kind)) for kind in KINDS}
        self._score = open_session(bundle / SCORE_FILE)
        self._slices: dict[Kind, slice] = {}
        self._readouts: dict[Kind, slice] = {}
        start = 0
        for kind in KINDS:
            self._slices[kind] = slice(start, start + manifest.state_widths[kind])
            self._readouts[kind] = slice(start, start + manifest.readout_widths[kind])
            start += manifest.state_widths[kind]
        self._empty = np.full(len(KINDS), -1, dtype=np.int64).tobytes() + bytes(4 * start)

    def take(self, event: Event, stored: bytes | None) -> tuple[list[float], bytes]:
        """Probabilities per horizon after `event`, and the state to keep; `stored` is None for a new user."""
        content = bytearray(self._empty if stored is None else stored)
        latest_ms = np.frombuffer(content, dtype=np.int64, count=len(KINDS))
        state = np.frombuffer(content, dtype=np.float32, offset=TIMES_BYTES)
        kind = event.KIND
        number = KINDS.index(kind)
        occurred_ms = round(event.occurred_at.timestamp() * 1000)
        part = self._slices[kind]
        new_state, _ = self._steps[kind].run(
            None,
            {
                "numeric": np.array([_numeric(event, occurred_ms, int(latest_ms[number]))], dtype=np.float32),
                "categorical": np.array([self._codes(event)], dtype=np.int64),
                "state": state[np.newaxis, part],
            },
        )
        state[part] = new_state[0]
        latest_ms[number] = max(int(latest_ms[number]), occurred_ms)
        return self._probabilities(state, latest_ms), bytes(content)

    def _probabilities(self, state: NDArray[np.float32], latest_ms: NDArray[np.int64]) -> list[float]:
        readout = np.concatenate([state[self._readouts[kind]] for kind in KINDS])
        ages = ages_days(latest_ms[np.newaxis])
        (probabilities,) = self._score.run(None, {"readout": readout[np.newaxis], "ages": ages})
        found: list[float] = probabilities[0].tolist()
        return found

    def _codes(self, event: Any) -> list[int]:
        codes = []
        vocabularies = self._vocabularies.get(event.KIND, {})
        for name in COLUMNS[event.KIND].categorical:
            vocabulary, value = vocabularies.get(name), getattr(event, name)
            if vocabulary is None or value is None:
                codes.append(MISSING_CODE)
            else:
                codes.append(vocabulary.get(value, UNSEEN_CODE))
        return codes


def _numeric(event: Any, occurred_ms: int, previous_ms: int) -> list[float]:
    """The graph's float inputs, as `events.columns` defines them for columns."""
    values = [math.nan if (value := getattr(event, name)) is None else value for name in COLUMNS[event.KIND].numeric]
    if COLUMNS[event.KIND].derived:
        values.append(math.nan if event.due_date is None else (occurred_ms - due_ms(event.due_date)) / DAY_MS)
    values.append(math.nan if previous_ms < 0 else max(occurred_ms - previous_ms, 0) / DAY_MS)
    date = event.occurred_at.astimezone(dt.UTC).timetuple()
    return [*values, date.tm_mday, date.tm_yday]
