"""The rows' instalments follow the rule of `events.instalments`, whatever the events."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.instalments import OpenInstalments
from events.types import Repayment
from stream.scoring.instalments import apply_repayments, instalment_columns
from stream.state.row import blank_row, row_dtype

BLANK = blank_row(row_dtype(3), 7)
START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


@st.composite
def repayments(draw: st.DrawFn) -> Repayment:
    return Repayment(
        event_id="e",
        user_id="u",
        occurred_at=START,
        kind=draw(st.sampled_from(["due", "due", "paid", "paid", "missed", "reversed"])),
        amount_due=draw(st.sampled_from([None, 100.0, 250.0])),
        amount_paid=draw(st.sampled_from([None, 0.0, 60.0, 99.5, 250.0])),
        instalment_no=draw(st.none() | st.integers(0, 7)),
        due_date=draw(st.none() | st.builds(lambda d: dt.date(2024, 1, 1) + dt.timedelta(days=d), st.integers(0, 9))),
    )


def open_in(row: np.ndarray) -> list[tuple[int, int, float, float]]:
    slots = row["instalments"]
    occupied = slots[slots["due_ms"] >= 0]
    return [
        (
            int(s["instalment_no"]),
            int(s["due_ms"]),
            float(np.nan_to_num(s["amount_due"], nan=-1)),
            float(s["amount_paid"]),
        )
        for s in occupied
    ]


def expected(instalments: OpenInstalments) -> list[tuple[int, int, float, float]]:
    return [
        (
            entry.instalment_no,
            (entry.due_date - dt.date(1970, 1, 1)).days * 86_400_000,
            -1.0 if entry.amount_due is None else entry.amount_due,
            entry.amount_paid,
        )
        for entry in instalments.open
    ]


@given(st.lists(st.lists(repayments(), min_size=3, max_size=3), max_size=30))
def test_rows_follow_the_rule(rounds: list[list[Repayment]]) -> None:
    """Three users side by side against the one-user reference, after every event."""
    rows = np.repeat(BLANK, 3)
    references = [OpenInstalments() for _ in range(3)]
    for events in rounds:
        apply_repayments(rows, np.arange(3), instalment_columns(events))
        for reference, event, row in zip(references, events, rows, strict=True):
            reference.apply(event)
            assert open_in(row) == expected(reference)
