"""The usual design in place of a step function: for each event, the user's last 60 events go through the network.

The network takes windows of fixed length that are padded at their beginning. Windows are kept as bytes without the
padding, which costs less than lists in JSON. Imports only onnxruntime, numpy and `events`; `write_network`
needs onnx.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.single_step import open_session
from events.calendar import DAY_MS
from events.types import KINDS, Event

WINDOW = 60
FEATURES = 8
"""Per event: one of four kinds, an amount, a balance, days past due, days since the user's previous event."""

HIDDEN = 64
HORIZONS = 4
TIME_BYTES = 8
ROW_BYTES = 4 * FEATURES


class Windowed:
    """Scores windows with the network of `write_network`."""

    def __init__(self, network: Path) -> None:
        self._session = open_session(network)

    def take(self, event: Event, stored: bytes | None) -> tuple[list[float], bytes]:
        """Probabilities per horizon after `event`, and the window to keep; `stored` is None for a new user.

        A window is the latest event's time (int64, ms), then up to `WINDOW` rows of `FEATURES` float32.
        """
        window = pushed(event, stored)
        rows = np.frombuffer(window, dtype=np.float32, offset=TIME_BYTES).reshape(-1, FEATURES)
        padded = np.zeros((WINDOW, 1, FEATURES), dtype=np.float32)
        padded[WINDOW - len(rows) :, 0] = rows
        (probabilities,) = self._session.run(None, {"window": padded})
        found: list[float] = probabilities[0].tolist()
        return found, window


def pushed(event: Event, stored: bytes | None) -> bytes:
    """The window after `event`: one more row, without the oldest where there are more than `WINDOW`."""
    occurred_ms = round(event.occurred_at.timestamp() * 1000)
    previous_ms = occurred_ms if stored is None else int.from_bytes(stored[:TIME_BYTES], "little")
    rows = b"" if stored is None else stored[TIME_BYTES:]
    rows = rows[-(WINDOW - 1) * ROW_BYTES :] + _features(event, occurred_ms - previous_ms).tobytes()
    return occurred_ms.to_bytes(TIME_BYTES, "little") + rows


def _features(event: Any, gap_ms: int) -> NDArray[np.float32]:
    amount = getattr(event, "amount", None) or getattr(event, "amount_paid", None) or 0.0
    balance = getattr(event, "balance", None) or getattr(event, "balance_after", None) or 0.0
    days_past_due = getattr(event, "days_past_due", None) or 0.0
    kinds = [1.0 if kind == event.KIND else 0.0 for kind in KINDS]
    return np.array([*kinds, amount / 1e3, balance / 1e4, days_past_due / 30, gap_ms / DAY_MS], dtype=np.float32)


def write_network(path: Path, seed: int = 1) -> None:
    """Write an LSTM of two layers of 64 over a window, float32 `[WINDOW, 1, FEATURES]`, to probabilities `[1, 4]`.

    It is as large as the worker's largest branches. Its weights are random, because only its cost matters. Raises
    `ImportError` where onnx is not installed.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random.normal(0, 0.1, shape).astype(np.float32), name)

    layers, nodes, values = [], [], "window"
    for number, width in enumerate((FEATURES, HIDDEN), start=1):
        layers += [
            weights(f"W{number}", 1, 4 * HIDDEN, width),
            weights(f"R{number}", 1, 4 * HIDDEN, HIDDEN),
            weights(f"B{number}", 1, 8 * HIDDEN),
        ]
        nodes.append(
            helper.make_node(
                "LSTM",
                [values, f"W{number}", f"R{number}", f"B{number}"],
                [f"all{number}", f"last{number}"],
                hidden_size=HIDDEN,
            )
        )
        # The LSTM's output has a dimension for directions, of which there is one.
        nodes.append(helper.make_node("Squeeze", [f"all{number}", "direction"], [f"hidden{number}"]))
        values = f"hidden{number}"
    nodes += [
        helper.make_node("Squeeze", ["last2", "first"], ["summary"]),
        helper.make_node("Gemm", ["summary", "V", "c"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "direction"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "first"),
        weights("V", HIDDEN, HORIZONS),
        weights("c", HORIZONS),
    ]
    graph = helper.make_graph(
        nodes,
        "window",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, [WINDOW, 1, FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, HORIZONS])],
        initializer=[*layers, *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
