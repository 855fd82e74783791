"""What the demonstration counts as a warning, and how far ahead it was."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
from typing import Any

import msgspec
import numpy as np
import pytest

from events.calendar import DAY_MS
from foreshock.demo import _interruptible
from foreshock.demo_run import _at_risk, _Trace, lead_days
from model.datasets.dataset import Outcome
from stream.outputs import Alert

DEFAULT_DATE_MS = 400 * DAY_MS


def alert(kind: str, day: int, opened_day: int, alert_id: str = "a") -> Alert:
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    fields: dict[str, Any] = {
        "transition_id": f"{alert_id}{kind}", "alert_id": alert_id, "user_id": "u", "kind": kind,
        "occurred_at": at + dt.timedelta(days=day), "opened_at": at + dt.timedelta(days=opened_day),
        "level_from": "LOW", "level_to": "HIGH", "score": 0.5, "baseline": 0.1, "delta": 0.4, "reference_pd": None,
        "days_past_due": None, "triggers": [], "reasons": [], "weighed_most": [], "sequence": 1, "source_topic": "t",
        "source_partition": 0, "source_offset": 0, "policy": "p", "model": "m",
    }  # fmt: skip
    return msgspec.convert(fields, Alert)


def lead(*alerts: Alert, default_date_ms: int | None = DEFAULT_DATE_MS) -> float | None:
    outcome = Outcome("u", default_date_ms, DEFAULT_DATE_MS + DAY_MS)
    return lead_days({"u": outcome}, {"u": None}, alerts).get("u", -1.0)


def test_lead_counts_from_the_opening_of_an_alert_that_was_still_open() -> None:
    assert lead(alert("opened", 370, 370)) == 30
    assert lead(alert("opened", 100, 100)) == 180, "no more than the longest lead"
    assert lead(alert("opened", 100, 100), alert("cleared", 150, 100)) is None, "cleared long before"
    assert lead(alert("opened", 300, 300), alert("cleared", 390, 300)) == 100


def test_an_alert_on_or_after_the_default_date_is_no_warning() -> None:
    assert lead(alert("opened", 400, 400)) is None
    assert lead() is None
    assert lead(alert("opened", 370, 370), default_date_ms=None) == -1.0, "nothing to warn of"


def test_at_risk_scores_have_a_known_future() -> None:
    outcomes = {"bad": Outcome("bad", 100 * DAY_MS, 200 * DAY_MS), "good": Outcome("good", None, 200 * DAY_MS)}
    days = [5, 20, 99, 100, 150, 180]
    traces = {name: _Trace([day * DAY_MS for day in days], [day / 1000 for day in days]) for name in ("bad", "good")}
    labels, scores = _at_risk(outcomes, traces, 90 * DAY_MS)
    # bad: day 5 is 95 days before (a negative), 20 and 99 are positives, the rest no longer at risk;
    # good: the 90 days after 150 and 180 were not observed to their end
    assert labels.tolist() == [False, True, True, False, False, False, False]
    assert np.allclose(scores, [0.005, 0.020, 0.099, 0.005, 0.020, 0.099, 0.100])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_is_not_lost(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)  # what runs in the background may have inherited another
    try:
        with _interruptible() as interrupt:
            interrupt.check()
            with contextlib.suppress(BaseException):  # as kafka-python's and aiokafka's `except BaseException` do
                signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                interrupt.check()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_an_ignored_sigint_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _interruptible() as interrupt:
            signal.raise_signal(signal.SIGINT)
            interrupt.check()
    finally:
        signal.signal(signal.SIGINT, before)
