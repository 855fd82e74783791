"""A user's state as one row of a numpy structured array: its layout, and the content of a new user's row.

A row's bytes are the value of its changelog record, so a row is all that a worker knows of a user. Pure; must not
interpret the network's state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.contracts import LEDGER, STANDING, initial_ledger, initial_standing
from events.instalments import NEVER as NEVER  # first due day of a user of whom no instalment is waited for
from events.instalments import first_unnamed
from events.types import KINDS
from stream.alerts.facts import FACTS, initial_facts
from stream.alerts.state_machine import ALERT_STATE, initial_state

RECENT_IDS = 32
"""How many event ids a row keeps: an event is a repeat if its id is among those of so many last scored events."""

WEIGHED_EVENTS = 8
"""How many recent events a row keeps with the attention that they drew."""

NO_OFFSET = -1
NO_TIME = -1

WEIGHED_EVENT = np.dtype([("occurred_ms", "i8"), ("offset", "i8"), ("attention", "f4"), ("kind", "i4")], align=True)

Row = np.void
Rows = NDArray[np.void]


OTHER_MODEL = (
    "Start it with the bundle and release of before. Another model takes the place of live workers as a shadow that is "
    "promoted, or under another application_id after a replay (docs/guides/change-a-model.md); a shadow or a replay "
    "gets another model under another name, or when it was removed (`foreshock shadow remove`, `replay run "
    "--overwrite`)"
)
"""The way out for whoever finds states of another model or layout, be it a live worker, a shadow or a replay."""


class StateMismatch(RuntimeError):
    """State that this worker cannot use: written by another model, or by another layout of the row."""


def row_dtype(network_width: int) -> np.dtype[np.void]:
    """Layout of a user's row for a network state of `network_width` float32 numbers.

    - `model`: fingerprint of the bundle that wrote the row.
    - `sequence`: scored events so far.
    - `consumed_offset`, `latest_ms`: per kind in the order of `KINDS`, -1 for none. `latest_ms` never goes back.
    - `recent_ids`: hashes of the last `RECENT_IDS` event ids, a ring buffer written at `sequence % RECENT_IDS`; 0 is
      an empty place.
    - `weighed`: the last `WEIGHED_EVENTS` events with their attention logits, a ring buffer likewise.
    - `standing`, `ledger`: the user's contracts and what is unpaid on them, see `events.contracts`.
    - `reference_pd`: the probability of default estimated at origination, NaN for unknown.
    - `alert`, `facts`: see `stream.alerts.state_machine` and `stream.alerts.facts`.
    - `network`: the opaque state that the bundle's graphs read and write.
    - `reserved`: always 0, where the size would not be a multiple of 8 otherwise.
    """
    kinds = len(KINDS)
    dtype = np.dtype(
        [
            ("model", "u8"),
            ("sequence", "i8"),
            ("consumed_offset", "i8", (kinds,)),
            ("latest_ms", "i8", (kinds,)),
            ("recent_ids", "u8", (RECENT_IDS,)),
            ("weighed", WEIGHED_EVENT, (WEIGHED_EVENTS,)),
            ("standing", STANDING),
            ("ledger", LEDGER),
            ("alert", ALERT_STATE),
            ("facts", FACTS),
            ("reference_pd", "f4"),
            ("network", "f4", (network_width,)),
            *([] if network_width % 2 else [("reserved", "f4")]),
        ],
        align=True,
    )
    # numpy does not set padding bytes, and a row's bytes are compared and published.
    if sum(field[0].itemsize for field in (dtype.fields or {}).values()) != dtype.itemsize:
        raise ValueError(f"the row has hidden padding; order its fields by size: {dtype}")
    return dtype


def blank_row(dtype: np.dtype[np.void], model: int) -> Rows:
    """A new user's row, `[1]`, under the bundle with fingerprint `model`."""
    row = np.zeros(1, dtype=dtype)
    row["model"] = model
    row["consumed_offset"] = NO_OFFSET
    row["latest_ms"] = NO_TIME
    row["weighed"]["occurred_ms"] = NO_TIME
    row["standing"] = initial_standing(1)
    row["ledger"] = initial_ledger(1)
    row["reference_pd"] = np.nan
    row["alert"] = initial_state(1)
    row["facts"] = initial_facts(1)
    return row


def first_due_day(rows: Rows, at: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
    """Due day of the earliest unpaid instalment that no `missed` event has named, of the rows `at`: int64 `[n]`,
    `NEVER` where there is none."""
    ledger = rows["ledger"]
    return first_unnamed(ledger["due_day"][at], ledger["missed"][at])
