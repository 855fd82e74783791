"""The rows that the topics ask for, and every way in which a table can have others."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from msgspec.structs import replace

from bench.chaos.tables import Outputs, differing, tables_of
from events.types import Profile
from stream.kafka.record import RawRecord
from stream.outputs import Alert, BorrowerContracts, ContractStanding, Reason, Score
from tests.examples import dead_letter

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def score(user_id: str, sequence: int) -> Score:
    return Score(
        score_id=f"transactions:0:{sequence}", event_id=f"e{sequence}", user_id=user_id, occurred_at=START,
        sequence=sequence, score=0.25, horizons={"90": 0.25}, level="LOW", baseline=0.2, delta=0.05,
        days_past_due=None, source_topic="transactions", source_partition=0, source_offset=sequence, model="m",
    )  # fmt: skip


def transition(number: int, kind: Any, before: Any, after: Any) -> Alert:
    return Alert(
        transition_id=f"t{number}", alert_id="a", user_id="u\x00", kind=kind,
        occurred_at=START + dt.timedelta(days=number), opened_at=START + dt.timedelta(days=1), level_from=before,
        level_to=after, score=0.5, baseline=0.1, delta=0.4, reference_pd=None, days_past_due=3.0, triggers=["level"],
        reasons=[Reason(code=f"c{number}", text="a\x00b", contribution=0.5)], weighed_most=[], sequence=number,
        source_topic="transactions", source_partition=0, source_offset=number, policy="p", model="m",
    )  # fmt: skip


LETTER = dead_letter(message="no", partition=1, offset=7, timestamp_ms=1_000, key=None, value=b"\x00\xff")


def test_the_latest_score_of_each_user_stands_beside_all() -> None:
    tables = tables_of(Outputs([score("u", 1), score("v", 1), score("u", 2)], [], []))
    assert len(tables["score_history"]) == 3
    assert {(row["user_id"], row["sequence"]) for row in tables["user_scores"]} == {("u", 2), ("v", 1)}
    assert "source_offset" not in tables["score_history"][0]


def test_an_alert_is_what_its_transitions_came_to() -> None:
    history = [
        transition(1, "opened", "LOW", "MEDIUM"),
        transition(2, "escalated", "MEDIUM", "HIGH"),
        transition(3, "cleared", "HIGH", "LOW"),
    ]
    tables = tables_of(Outputs([], history, []))
    (alert,) = tables["alerts"]
    assert (alert["transition_id"], alert["level"], alert["highest_level"]) == ("t3", "LOW", "HIGH")
    assert (alert["opened_at"], alert["escalated_at"], alert["cleared_at"]) == tuple(
        START + dt.timedelta(days=days) for days in (1, 2, 3)
    )
    assert alert["reasons"] == [{"code": "c2", "text": "a\u2400b", "contribution": 0.5}], "of what raised it last"
    assert alert["user_id"] == "u\u2400"
    assert len(tables["alert_events"]) == 3


def test_each_contract_of_a_borrower_has_a_row() -> None:
    standing: dict[str, Any] = {"days_past_due": 3.0, "amount_overdue": 10.0, "exposure": None,
                                "credit_limit": 900.0, "currency": "EUR"}  # fmt: skip
    borrower = BorrowerContracts(
        user_id="u\x00", sequence=4, occurred_at=START, source_partition=2,
        contracts=[ContractStanding(contract_id=name, status="past_due", **standing) for name in ("loan", None)],
    )  # fmt: skip
    expected = {**standing, "user_id": "u\u2400", "status": "past_due", "occurred_at": START, "sequence": 4}
    assert tables_of(Outputs([], [], [], [borrower]))["contracts"] == [
        {**expected, "contract_id": name, "source_partition": 2} for name in ("loan", "")
    ]


def test_the_latest_profile_of_each_contract_names_its_product() -> None:
    def said(offset: int, contract_id: str | None, day: int, product: str | None) -> tuple[RawRecord, Profile]:
        profile = Profile(
            event_id=f"p{offset}", user_id="u", occurred_at=START + dt.timedelta(days=day), contract_id=contract_id,
            product=product,
        )  # fmt: skip
        return RawRecord("profiles", 2, offset, 0, b"u", b"{}"), profile

    profiles = [said(0, "a", 1, "loan"), said(1, "a", 5, "card"), said(2, "a", 3, "x"), said(3, None, 1, None)]
    profiles.append(said(4, "a", 5, "overdraft"))
    rows = tables_of(Outputs([], [], [], [], profiles))["contract_products"]
    assert sorted((row["contract_id"], row["product"], row["source_offset"]) for row in rows) == [
        ("", None, 3), ("a", "overdraft", 4)
    ]  # fmt: skip


def test_an_event_is_kept_as_it_was_stated_at_its_place() -> None:
    profile = Profile(event_id="p", user_id="u\x00", occurred_at=START, product="a\x00", income=5.0)
    (row,) = tables_of(Outputs([], [], [], events=[(RawRecord("profiles", 2, 7, 0, b"u", b"{}"), profile)]))[
        "user_events"
    ]
    assert row == {
        "source_topic": "profiles", "source_partition": 2, "source_offset": 7, "occurred_at": START,
        "user_id": "u\u2400", "event_id": "p", "kind": "profiles", "payload": {"product": "a\u2400", "income": 5.0},
    }  # fmt: skip


def test_a_dead_letter_has_its_bytes_and_its_time() -> None:
    (row,) = tables_of(Outputs([], [], [LETTER]))["dead_letters"]
    assert (row["key"], row["value"]) == (None, b"\x00\xff")
    assert row["recorded_at"] == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    (row,) = tables_of(Outputs([], [], [replace(LETTER, timestamp_ms=-1)]))["dead_letters"]
    assert row["recorded_at"] is None


@pytest.mark.parametrize("name", ["missing", "excess", "twice", "other", "two others"])
def test_rows_that_are_wrong_are_counted(name: str) -> None:
    expected = tables_of(Outputs([score("u", 1), score("u", 2)], [], []))["score_history"]
    found = [{**row, "updated_at": START} for row in expected]
    assert differing(found, expected) == 0
    if name == "missing":
        found.pop()
    elif name in ("excess", "twice"):
        found.append({**found[0], **({"score_id": "x"} if name == "excess" else {})})
    else:
        for row in found[: 2 if name == "two others" else 1]:
            row["horizons"] = {"90": 0.3}
    assert differing(found, expected) == (2 if name == "two others" else 1)
