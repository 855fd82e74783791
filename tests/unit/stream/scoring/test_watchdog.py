"""The rows' instalments follow the rule of `events.instalments`, whatever the events."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.instalments import OpenInstalments, missed_event
from events.types import Repayment
from stream.scoring.instalments import apply_repayments, instalment_columns
from stream.scoring.watchdog import WATERMARK_EVENTS, Watermark, missed_now
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

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


def test_missed_now_names_what_is_overdue() -> None:
    slab = Slab(BLANK)
    located = slab.locate(2, [b"late", b"early"])
    rows = slab.gather(located)

    def bill(user_id: str, instalment_no: int, day: int, amount_due: float | None) -> Repayment:
        return Repayment(
            event_id=user_id,
            user_id=user_id,
            occurred_at=START,
            kind="due",
            amount_due=amount_due,
            instalment_no=instalment_no,
            due_date=dt.date(2024, 1, day),
        )

    due = [bill("late", 4, 9, None), bill("early", 1, 5, 50.0)]
    apply_repayments(rows, np.arange(2), instalment_columns(due))
    slab.scatter(located, rows)
    deadline = dt.datetime(2024, 1, 9, tzinfo=dt.UTC)  # 5 January ends, then three days of grace
    clock_ms = int(deadline.timestamp() * 1000)
    assert missed_now(slab, 2, clock_ms - 1, 3.0) == []
    assert missed_now(slab, 2, clock_ms, 3.0) == [missed_event("early", 1, dt.date(2024, 1, 5), 50.0, 3.0)]
    assert missed_now(slab, 1, clock_ms, 3.0) == []
    both = missed_now(slab, 2, clock_ms + 4 * 86_400_000, 3.0)
    assert [event.user_id for event in both] == ["early", "late"]


def test_watermark_ignores_one_misdated_event() -> None:
    watermark = Watermark()
    times = list(range(1_000, 1_000 + WATERMARK_EVENTS - 1))
    watermark.observe(times)
    assert watermark.clock_ms == -1
    watermark.observe([10**13])
    assert watermark.clock_ms < 2_000


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.integers(1, 50))
def test_watermark_never_goes_back(times: list[int], size: int) -> None:
    watermark = Watermark()
    clock_ms = -1
    for start in range(0, len(times), size):
        watermark.observe(times[start : start + size])
        assert watermark.clock_ms >= clock_ms
        clock_ms = watermark.clock_ms
