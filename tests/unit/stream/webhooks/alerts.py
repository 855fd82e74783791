"""Alerts for the tests of webhooks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from stream.outputs import Alert, AlertKind, ContractStanding

JANUARY = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def an_alert(user: str, number: int, kind: AlertKind = "opened", **fields: Any) -> Alert:
    """The `number`th transition of a user's alert; every other user's is HIGH."""
    high = "HIGH" if user[-1] in "02468" else "MEDIUM"
    levels = {"opened": ("LOW", high), "escalated": ("MEDIUM", "HIGH"), "cleared": (high, "LOW")}[kind]
    return Alert(
        **{
            "transition_id": f"transition-{user}-{number}", "alert_id": f"alert-{user}-{number // 3}", "user_id": user,
            "kind": kind, "occurred_at": JANUARY + dt.timedelta(hours=number), "opened_at": JANUARY,
            "level_from": levels[0], "level_to": levels[1], "score": 0.5, "baseline": 0.1, "delta": 0.4,
            "reference_pd": None, "days_past_due": None, "triggers": [], "reasons": [], "weighed_most": [],
            "sequence": number + 1, "source_topic": "repayments", "source_partition": 0, "source_offset": number,
            "policy": "p", "model": "m", **fields,
        }
    )  # fmt: skip


def a_contract(contract_id: str | None) -> ContractStanding:
    """One of a borrower."""
    return ContractStanding(
        contract_id=contract_id,
        status="past_due",
        days_past_due=1.0,
        amount_overdue=1.0,
        exposure=100.0,
        currency="EUR",
    )
