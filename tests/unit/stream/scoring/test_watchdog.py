"""Instalments whose deadline the watermark has passed are named once each, and the watermark only goes forward."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from events.calendar import Calendar
from events.columns import occurred_ms
from events.instalments import Instalment, missed_event
from events.repayments import apply_repayments, repayment_columns
from events.types import Repayment
from stream.scoring.watchdog import WATERMARK_EVENTS, Watermark, missed_now
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

BLANK = blank_row(row_dtype(3), 7)
START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


def test_missed_now_names_what_is_overdue() -> None:
    slab = Slab(BLANK)
    located = slab.locate(2, [b"late", b"early"])
    rows = slab.gather(located)

    def bill(
        user_id: str, instalment_no: int, day: int, amount_due: float | None, contract_id: str | None = None
    ) -> Repayment:
        return Repayment(
            event_id=user_id,
            user_id=user_id,
            occurred_at=START,
            kind="due",
            amount_due=amount_due,
            instalment_no=instalment_no,
            due_date=dt.date(2024, 1, day),
            contract_id=contract_id,
        )

    for due in ([bill("late", 4, 9, None), bill("early", 1, 5, 50.0)], [bill("late", 4, 9, 1.0, "B")]):
        columns = repayment_columns(due, occurred_ms(due))
        day = occurred_ms(due) // 86_400_000
        standing, ledger = rows["standing"][: len(due)].copy(), rows["ledger"][: len(due)].copy()
        apply_repayments(standing, ledger, columns, day, day)
        rows["standing"][: len(due)], rows["ledger"][: len(due)] = standing, ledger
    slab.scatter(located, rows)
    deadline = dt.datetime(2024, 1, 9, tzinfo=dt.UTC)  # 5 January ends, then three days of grace
    clock_ms = int(deadline.timestamp() * 1000)
    assert missed_now(slab, 2, clock_ms - 1, 3.0) == []
    assert missed_now(slab, 2, clock_ms, 3.0) == [
        missed_event("early", Instalment(None, 1, dt.date(2024, 1, 5), 50.0, 0.0, False), 3.0)
    ]
    assert missed_now(slab, 1, clock_ms, 3.0) == []
    both = missed_now(slab, 2, clock_ms + 4 * 86_400_000, 3.0)
    assert [(event.user_id, event.contract_id) for event in both] == [("early", None), ("late", None), ("late", "B")]
    assert len({event.event_id for event in both}) == 3, "two contracts may have instalments of the same number"
    east = Calendar("Asia/Tokyo")  # 5 January ends nine hours earlier there
    assert len(missed_now(slab, 2, clock_ms - 9 * 3_600_000, 3.0, east)) == 1
    assert missed_now(slab, 2, clock_ms - 9 * 3_600_000 - 1, 3.0, east) == []


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
