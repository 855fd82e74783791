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
from events.columns import COLUMNS, CONTRACT_COLUMNS, MISSING_CODE, UNSEEN_CODE, ages_days, due_ms
from events.contract_columns import contract_columns
from events.contracts import LEDGER, STANDING, initial_ledger, initial_standing
from events.repayments import apply_repayments, repayment_columns
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
    """Scores events one by one. A user's state is bytes: the latest time per kind (int64), then, for a bundle with
    inputs of contracts, STANDING and LEDGER, then the state (float32)."""

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
        self._names = manifest.numeric_inputs
        self._takes_contracts = not set(self._names["repayments"]).isdisjoint(CONTRACT_COLUMNS)
        times = np.full(len(KINDS), -1, dtype=np.int64).tobytes()
        books = initial_standing(1).tobytes() + initial_ledger(1).tobytes() if self._takes_contracts else b""
        self._state_at = len(times) + len(books)
        self._empty = times + books + bytes(4 * start)

    def take(self, event: Event, stored: bytes | None) -> tuple[list[float], bytes]:
        """Probabilities per horizon after `event`, and the state to keep; `stored` is None for a new user."""
        content = bytearray(self._empty if stored is None else stored)
        latest_ms = np.frombuffer(content, dtype=np.int64, count=len(KINDS))
        state = np.frombuffer(content, dtype=np.float32, offset=self._state_at)
        kind = event.KIND
        number = KINDS.index(kind)
        occurred_ms = round(event.occurred_at.timestamp() * 1000)
        part = self._slices[kind]
        values = _numeric(event, occurred_ms, int(latest_ms[number]))
        if kind == "repayments" and self._takes_contracts:
            values |= _contracts(event, occurred_ms, int(latest_ms.max()), content)
        new_state, _ = self._steps[kind].run(
            None,
            {
                "numeric": np.array([[values[name] for name in self._names[kind]]], dtype=np.float32),
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


def _numeric(event: Any, occurred_ms: int, previous_ms: int) -> dict[str, float]:
    """The float inputs that follow from the event and its time, by name, as `events.columns` defines them."""
    columns = COLUMNS[event.KIND]
    values = {name: math.nan if (value := getattr(event, name)) is None else value for name in columns.numeric}
    if columns.derived:
        values["days_after_due_date"] = (
            math.nan if event.due_date is None else (occurred_ms - due_ms(event.due_date)) / DAY_MS
        )
    values["gap_days"] = math.nan if previous_ms < 0 else max(occurred_ms - previous_ms, 0) / DAY_MS
    date = event.occurred_at.astimezone(dt.UTC).timetuple()
    return {**values, "day_of_month": date.tm_mday, "day_of_year": date.tm_yday}


def _contracts(event: Event, occurred_ms: int, latest_ms: int, content: bytearray) -> dict[str, float]:
    """Applies a repayment to the contracts in a user's state; returns the inputs of `events.contract_columns`."""
    standing = np.frombuffer(content, dtype=STANDING, count=1, offset=TIMES_BYTES)
    ledger = np.frombuffer(content, dtype=LEDGER, count=1, offset=TIMES_BYTES + STANDING.itemsize)
    times_ms = np.array([occurred_ms])
    today = np.maximum(times_ms, latest_ms) // DAY_MS
    columns = repayment_columns([event], times_ms)
    applied = apply_repayments(standing, ledger, columns, times_ms // DAY_MS, today)
    (found,) = contract_columns(standing, ledger, columns, applied, today).tolist()
    return dict(zip(CONTRACT_COLUMNS, found, strict=True))
