"""The writer on a real server: each row once, nothing goes back, whatever is repeated, reordered or split."""

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.contracts import Status
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseEncodingError
from stream.database.migration import upgrade
from stream.database.products import ContractProduct
from stream.database.writer import DatabaseWriter, Written
from stream.outputs import (
    Alert,
    AlertKind,
    BorrowerContracts,
    ContractStanding,
    DeadLetter,
    Level,
    Output,
    Reason,
    Score,
    WeighedEvent,
)

START = dt.datetime(2023, 1, 20, 12, tzinfo=dt.UTC)
TABLES = (
    "user_scores", "score_history", "alerts", "alert_events", "contracts", "contract_products", "dead_letters",
    "model_versions",
)  # fmt: skip


def a_score(user_id: str = "ann", sequence: int = 1, **changes: Any) -> Score:
    score = Score(
        score_id=f"transactions:0:{user_id}-{sequence}",
        event_id=f"event-{user_id}-{sequence}",
        user_id=user_id,
        occurred_at=START + dt.timedelta(days=9 * sequence, milliseconds=sequence),
        sequence=sequence,
        score=sequence / 100,
        horizons={"30": sequence / 400, "90": sequence / 100},
        level="LOW",
        baseline=0.005,
        delta=sequence / 100 - 0.005,
        days_past_due=None if sequence % 2 else float(sequence),
        source_topic="transactions",
        source_partition=0,
        source_offset=sequence,
        model="0123456789abcdef",
    )
    return msgspec.structs.replace(score, **changes)


def an_alert(kind: AlertKind = "opened", sequence: int = 1, alert_id: str = "alert-1", **changes: Any) -> Alert:
    levels: dict[AlertKind, tuple[Level, Level]] = {
        "opened": ("LOW", "MEDIUM"),
        "escalated": ("MEDIUM", "HIGH"),
        "cleared": ("HIGH", "LOW"),
    }
    alert = Alert(
        transition_id=f"{alert_id}-{sequence}",
        alert_id=alert_id,
        user_id=f"user-of-{alert_id}",
        kind=kind,
        occurred_at=START + dt.timedelta(days=sequence),
        opened_at=START,
        level_from=levels[kind][0],
        level_to=levels[kind][1],
        score=0.1 + sequence / 100,
        baseline=0.05,
        delta=0.05 + sequence / 100,
        reference_pd=0.02,
        days_past_due=None,
        triggers=["level", "deterioration"] if kind != "cleared" else [],
        reasons=[Reason(code="paying_later", text=f"payments are getting later ({sequence})", contribution=1.5)]
        if kind != "cleared"
        else [],
        weighed_most=[WeighedEvent(topic="repayments", partition=1, offset=7, occurred_at=START, weight=0.75)],
        sequence=sequence,
        source_topic="repayments",
        source_partition=1,
        source_offset=sequence,
        policy="policy-1",
        model="0123456789abcdef",
    )
    return msgspec.structs.replace(alert, **changes)


def some_contracts(user_id: str, sequence: int, **statuses: Status) -> BorrowerContracts:
    """Contracts by id, `none` for the unnamed one."""
    standings = [
        ContractStanding(
            contract_id=None if name == "none" else name,
            status=status,
            days_past_due=float(sequence),
            amount_overdue=None,
            exposure=1_000.0,
            credit_limit=4_000.5,
            currency="EUR",
        )
        for name, status in statuses.items()
    ]
    moment = START + dt.timedelta(days=sequence)
    return BorrowerContracts(
        user_id=user_id, sequence=sequence, occurred_at=moment, source_partition=0, contracts=standings
    )


def a_product(user_id: str, contract_id: str | None, product: str | None, offset: int, day: int = 0) -> ContractProduct:
    return ContractProduct(
        user_id=user_id,
        contract_id=contract_id,
        product=product,
        occurred_at=START + dt.timedelta(days=day),
        source_partition=0,
        source_offset=offset,
    )


def a_dead_letter(number: int = 1, **changes: Any) -> DeadLetter:
    letter = DeadLetter(
        dead_letter_id=f"dead-{number}",
        reason="not_json",
        message="at byte 3: expected a value",
        topic="activity",
        partition=2,
        offset=number,
        timestamp_ms=1_683_331_200_123,
        key=b"ann",
        value=b"\x00\xff{",
    )
    return msgspec.structs.replace(letter, **changes)


LIFE = [an_alert("opened", 3), an_alert("escalated", 5), an_alert("cleared", 9)]


@pytest.fixture
def upgraded(database: DatabaseConnection) -> DatabaseConnection:
    upgrade(database)
    return database


@pytest.fixture
def writer(upgraded: DatabaseConnection) -> Iterator[DatabaseWriter]:
    with DatabaseWriter(upgraded) as writer:
        yield writer


def rows(upgraded: DatabaseConnection, table: str) -> list[dict[str, Any]]:
    """All rows, without the wall-clock columns and in a fixed order."""
    with upgraded.connect() as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        found = cursor.execute(f"SELECT * FROM {table}").fetchall()
    clock = {"updated_at", "received_at", "first_seen"}
    return sorted(({k: v for k, v in row.items() if k not in clock} for row in found), key=repr)


def everything(upgraded: DatabaseConnection) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(upgraded, table) for table in TABLES}


def test_a_score_is_kept_field_by_field(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    score = a_score(sequence=4, level="HIGH", days_past_due=12.5)

    assert writer.write_scores([score]) == Written(scores=1, users=1)
    stored = {
        field: value
        for field, value in msgspec.structs.asdict(score).items()
        if field not in {"source_topic", "source_partition", "source_offset"}
    }
    assert rows(upgraded, "score_history") == [stored]
    assert rows(upgraded, "user_scores") == [stored]


def test_an_alert_is_kept_field_by_field(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    alert = an_alert(sequence=3)

    assert writer.write_alerts([alert]) == Written(transitions=1)
    stored = msgspec.to_builtins(alert, builtin_types=(dt.datetime,))
    stored["weighed_most"][0]["occurred_at"] = "2023-01-20T12:00:00Z"
    assert rows(upgraded, "alert_events") == [stored]
    assert {**rows(upgraded, "alerts")[0]} == {
        **{k: v for k, v in stored.items() if not k.startswith(("source_", "level_"))},
        "level": "MEDIUM",
        "highest_level": "MEDIUM",
        "escalated_at": None,
        "cleared_at": None,
    }


def test_an_alert_keeps_contracts_and_amounts_of_its_latest_transition(
    writer: DatabaseWriter, upgraded: DatabaseConnection
) -> None:
    standings = [some_contracts("ann", n, loan="serious").contracts for n in (3, 5)]
    more: dict[str, Any] = {"status": "serious", "exposure": 7.0, "amount_overdue": 3.5, "expected_loss": 1.5}
    writer.write_alerts([an_alert("opened", 3, contracts=standings[0], **more)])
    writer.write_alerts([an_alert("escalated", 5, contracts=standings[1], **{**more, "expected_loss": 2.5})])
    (row,) = rows(upgraded, "alerts")
    assert row["contracts"] == msgspec.to_builtins(standings[1])
    assert [row[name] for name in more] == ["serious", 7.0, 3.5, 2.5]


def test_contracts_are_kept_field_by_field(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    assert writer.write_contracts([some_contracts("ann", 4, none="serious", loan="performing")]) == Written(contracts=2)
    common = {
        "user_id": "ann", "sequence": 4, "occurred_at": START + dt.timedelta(days=4), "currency": "EUR",
        "amount_overdue": None, "source_partition": 0, "days_past_due": 4.0, "exposure": 1_000.0,
        "credit_limit": 4_000.5,
    }  # fmt: skip
    found = {row["contract_id"]: row for row in rows(upgraded, "contracts")}
    assert found == {
        "": {**common, "contract_id": "", "status": "serious"},
        "loan": {**common, "contract_id": "loan", "status": "performing"},
    }


def test_a_contract_that_is_no_longer_kept_goes_and_does_not_come_back(
    writer: DatabaseWriter, upgraded: DatabaseConnection
) -> None:
    older, newer = some_contracts("ann", 1, loan="closed", card="performing"), some_contracts("ann", 2, card="serious")
    for batch in ([older], [newer], [older], [older, newer], [newer, older]):
        writer.write_contracts(batch)
    assert [(r["contract_id"], r["status"], r["sequence"]) for r in rows(upgraded, "contracts")] == [
        ("card", "serious", 2)
    ]
    assert writer.write_contracts([newer, older]) == Written()


def test_the_product_of_a_contract_is_that_of_its_latest_profile(
    upgraded: DatabaseConnection, writer: DatabaseWriter
) -> None:
    told = [
        a_product("ann", "loan", "car_loan", 1, day=1),
        a_product("ann", "loan", "loan", 2, day=2),
        a_product("ann", "loan", "late", 3, day=0),
        a_product("ann", None, "card", 4),
        a_product("bob", None, None, 5),
        a_product("bob", None, "over\x00draft", 6),
    ]
    for batch in (told, told[::-1], *([one] for one in told)):
        writer.write(products=batch)
    found = {(row["user_id"], row["contract_id"]): row["product"] for row in rows(upgraded, "contract_products")}
    assert found == {("ann", "loan"): "loan", ("ann", ""): "card", ("bob", ""): "over\u2400draft"}
    assert writer.write(products=[a_product("ann", "loan", None, 7, day=2)]) == Written(products=1)
    assert writer.write(products=[a_product("ann", "loan", "loan", 2, day=2)]) == Written()

    writer.forget([], [], [], [("ann", 1)])
    assert len(rows(upgraded, "contract_products")) == 3, "another partition's"
    writer.forget([], [], [], [("ann", 0), ("nobody", 0)])
    assert [row["user_id"] for row in rows(upgraded, "contract_products")] == ["bob"]


@given(st.permutations(range(1, 6)), st.lists(st.integers(0, 5), max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_contracts_only_ever_move_forward(
    writer: DatabaseWriter, upgraded: DatabaseConnection, order: list[int], cuts: list[int]
) -> None:
    """Whatever order and batches the records come in, the latest of each borrower is what stays."""
    with upgraded.connect() as connection:
        connection.execute("TRUNCATE contracts")
    life = [
        some_contracts(user, n, **{f"loan{(n + k) % 4}": "past_due" for k in range(n % 3 + 1)})
        for n in order
        for user in ("ann", "bob")
    ]
    edges = sorted({0, *(2 * cut for cut in cuts), len(life)})
    for begin, end in itertools.pairwise(edges):
        writer.write_contracts(life[begin:end])
    assert {(r["user_id"], r["contract_id"], r["sequence"]) for r in rows(upgraded, "contracts")} == {
        (user, name, 5) for user in ("ann", "bob") for name in ("loan1", "loan2", "loan3")
    }


def test_a_contract_that_a_record_names_twice_is_stored_once(
    writer: DatabaseWriter, upgraded: DatabaseConnection
) -> None:
    """Others may write to the topic; one such record must not stop the sink."""
    twice = some_contracts("ann", 1, loan="serious", none="performing")
    named = [msgspec.structs.replace(contract, contract_id="loan") for contract in twice.contracts]
    writer.write_contracts([msgspec.structs.replace(twice, contracts=named)])
    assert [row["status"] for row in rows(upgraded, "contracts")] == ["serious"]


def test_a_dead_letter_is_kept_with_its_bytes(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    letters = [a_dead_letter(1), a_dead_letter(2, key=None, value=None, timestamp_ms=2**62)]

    assert writer.write_dead_letters(letters) == Written(dead_letters=2)
    first, second = rows(upgraded, "dead_letters")
    assert (first["key"], first["value"]) == (b"ann", b"\x00\xff{")
    assert (first["topic"], first["partition"], first["offset"]) == ("activity", 2, 1)
    assert first["recorded_at"] == dt.datetime(2023, 5, 6, 0, 0, 0, 123_000, tzinfo=dt.UTC)
    assert (second["key"], second["value"], second["recorded_at"]) == (None, None, None)


def test_a_repeat_changes_nothing(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    batch = ([a_score(sequence=n) for n in (1, 2, 3)], LIFE, [a_dead_letter()])
    assert writer.write(*batch) == Written(scores=3, users=1, transitions=3, dead_letters=1)
    with upgraded.connect() as connection:
        versions = "SELECT (SELECT xmin::text FROM user_scores), (SELECT xmin::text FROM alerts)"
        before, contents = connection.execute(versions).fetchone(), everything(upgraded)

        assert writer.write(*batch) == Written()
        assert writer.write(batch[0][:1], LIFE[:1]) == Written()

        assert everything(upgraded) == contents
        assert connection.execute(versions).fetchone() == before, "a repeat rewrote a row"


def test_a_repeat_within_a_batch_counts_once(writer: DatabaseWriter) -> None:
    written = writer.write([a_score(), a_score()], [LIFE[0], LIFE[0]], [a_dead_letter(), a_dead_letter()])

    assert written == Written(scores=1, users=1, transitions=1, dead_letters=1)


def test_a_late_score_does_not_take_the_user_back(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    writer.write_scores([a_score(sequence=5)])

    assert writer.write_scores([a_score(sequence=4)]) == Written(scores=1, users=0)
    assert [row["sequence"] for row in rows(upgraded, "user_scores")] == [5]


def test_an_alert_through_its_life(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    seen = []
    for alert in LIFE:
        writer.write_alerts([alert])
        (row,) = rows(upgraded, "alerts")
        seen.append((row["kind"], row["level"], row["highest_level"], row["cleared_at"] is None, row["sequence"]))

    assert seen == [
        ("opened", "MEDIUM", "MEDIUM", True, 3),
        ("escalated", "HIGH", "HIGH", True, 5),
        ("cleared", "LOW", "HIGH", False, 9),
    ]
    assert row["reasons"][0]["text"] == "payments are getting later (5)", "a cleared alert says why it was open"
    assert row["triggers"] == ["level", "deterioration"]
    assert (row["opened_at"], row["escalated_at"], row["cleared_at"]) == (
        START,
        LIFE[1].occurred_at,
        LIFE[2].occurred_at,
    )


@pytest.mark.parametrize("late", LIFE[:2])
def test_a_cleared_alert_stays_cleared(writer: DatabaseWriter, upgraded: DatabaseConnection, late: Alert) -> None:
    writer.write_alerts([LIFE[2]])
    writer.write_alerts([late])

    (row,) = rows(upgraded, "alerts")
    assert (row["kind"], row["level"], row["cleared_at"]) == ("cleared", "LOW", LIFE[2].occurred_at)


def test_a_cleared_alert_stays_cleared_when_its_history_was_trimmed(
    writer: DatabaseWriter, upgraded: DatabaseConnection
) -> None:
    writer.write_alerts(LIFE)
    with upgraded.connect() as connection:
        connection.execute("DELETE FROM alert_events")
    before = rows(upgraded, "alerts")

    writer.write_alerts(LIFE[:1])

    assert rows(upgraded, "alerts") == before


def test_without_history_only_the_latest_is_kept(upgraded: DatabaseConnection) -> None:
    with DatabaseWriter(upgraded, score_history=False) as writer:
        assert writer.write_scores([a_score(sequence=n) for n in (1, 2)]) == Written(scores=0, users=1)

    assert rows(upgraded, "score_history") == []
    assert [row["sequence"] for row in rows(upgraded, "user_scores")] == [2]
    with upgraded.connect() as connection:
        partitions = connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = "
                                        "'score_history'::regclass").fetchall()  # fmt: skip
    assert partitions == [("score_history_default",)]


def test_an_empty_batch_needs_no_database() -> None:
    assert DatabaseWriter(DatabaseConnection("postgresql://ann@127.0.0.1:1/d")).write() == Written()


def test_models_are_registered_as_they_are_seen_and_their_manifest_once(
    writer: DatabaseWriter, upgraded: DatabaseConnection
) -> None:
    writer.write([a_score(model="aaaa")], [an_alert(model="bbbb")])
    writer.register_model("bbbb", {"name": "first"})
    writer.register_model("bbbb", {"name": "other"})
    writer.register_model("cccc", {"name": "third"})

    assert {row["fingerprint"]: row["manifest"] for row in rows(upgraded, "model_versions")} == {
        "aaaa": None,
        "bbbb": {"name": "first"},
        "cccc": {"name": "third"},
    }


def test_nul_and_control_characters_do_not_stop_the_sink(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    nasty = "a\x00\t\n\\N\\.\u2028'\";--é𝄞"
    shown = nasty.replace("\x00", "\u2400")
    reason = Reason(code="c", text=nasty, contribution=0.0)
    writer.write(
        [a_score(nasty, event_id=nasty, score_id="transactions:0:1")],
        [an_alert(user_id=nasty, reasons=[reason])],
        [a_dead_letter(message=nasty)],
    )

    assert [(row["user_id"], row["event_id"]) for row in rows(upgraded, "score_history")] == [(shown, shown)]
    assert [(row["user_id"], row["reasons"][0]["text"]) for row in rows(upgraded, "alerts")] == [(shown, shown)]
    assert [row["message"] for row in rows(upgraded, "dead_letters")] == [shown]


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
@pytest.mark.parametrize("client", ["LATIN1", "SQL_ASCII", "UTF8"])
def test_every_character_is_kept_whatever_the_environment_says(
    database_encoded: Callable[[str], DatabaseConnection],
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    client: str,
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", client)
    database = database_encoded(encoding)
    upgrade(database)
    upgrade(database)
    name = "用户 ключ é 😀"
    reason = Reason(code="x", text=name, contribution=0.5)
    with DatabaseWriter(database) as writer:
        batch = ([a_score(name)], [an_alert(user_id=name, reasons=[reason])], [a_dead_letter(message=name)])
        assert writer.write(*batch) == Written(1, 1, 1, 1)
        assert writer.write(*batch) == Written()
    assert [row["user_id"] for row in rows(database, "score_history")] == [name]
    assert [row["reasons"][0]["text"] for row in rows(database, "alerts")] == [name]
    assert [row["message"] for row in rows(database, "dead_letters")] == [name]


def test_a_database_without_every_character_is_refused(database_encoded: Callable[[str], DatabaseConnection]) -> None:
    database = database_encoded("LATIN1")
    with pytest.raises(DatabaseEncodingError, match=r"has the encoding LATIN1.*; make one that can: CREATE DATABASE"):
        upgrade(database)
    with DatabaseWriter(database) as writer, pytest.raises(DatabaseEncodingError):
        writer.write_scores([a_score()])


def test_numbers_at_their_limits(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    score = msgspec.structs.replace(
        a_score(),
        sequence=2**63 - 1,
        score=1.0,
        baseline=0.0,
        delta=1e-300,
        days_past_due=-36_500.0,
        horizons={"90": 5e-324},
    )
    writer.write_scores([score])

    (row,) = rows(upgraded, "user_scores")
    assert (row["sequence"], row["score"], row["delta"], row["days_past_due"]) == (2**63 - 1, 1.0, 1e-300, -36_500.0)
    assert row["horizons"] == {"90": 5e-324}


def test_an_offset_from_utc_is_the_same_moment(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    """One minute past midnight in India on 1 June is still May in UTC, and so is its partition."""
    moment = dt.datetime(2023, 6, 1, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
    writer.write_scores([a_score(occurred_at=moment)])

    assert rows(upgraded, "score_history_2023_05")[0]["occurred_at"] == moment


@pytest.mark.parametrize("wrong", [{"score": 1.5}, {"score": float("nan")}, {"sequence": 0}, {"level": "SEVERE"}])
def test_what_the_tables_refuse_surfaces_and_nothing_of_the_batch_stays(
    writer: DatabaseWriter, upgraded: DatabaseConnection, wrong: dict[str, Any]
) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InvalidTextRepresentation)):
        writer.write([a_score("ann"), a_score("bob", occurred_at=START, **wrong)], [LIFE[0]], [a_dead_letter()])
    assert all(found == [] for found in everything(upgraded).values())

    assert writer.write([a_score("ann")], [LIFE[0]], [a_dead_letter()]) == Written(1, 1, 1, 1)
    assert len(rows(upgraded, "model_versions")) == 1, "the model of a batch that failed was taken for registered"


SCORES = [a_score(user_id, sequence) for user_id in ("ann", "bob", "cy") for sequence in range(1, 7)]
ALERTS = [
    msgspec.structs.replace(transition, alert_id=alert_id, transition_id=f"{alert_id}-{transition.sequence}")
    for alert_id in ("alert-1", "alert-2")
    for transition in LIFE
]
LETTERS = [a_dead_letter(number) for number in range(4)]
CONTRACTS = [some_contracts(user, n, loan="past_due", card="closed") for user in ("ann", "bob") for n in (1, 4)]
PRODUCTS = [a_product(user, "loan", f"product-{day}", 10 - day, day) for user in ("ann", "bob") for day in range(3)]
OUTPUTS: list[Output | ContractProduct] = [*SCORES, *ALERTS, *LETTERS, *CONTRACTS, *PRODUCTS]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[dict[str, Any]]]:
    return {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(OUTPUTS),
    repeats=st.lists(st.tuples(st.integers(0, len(OUTPUTS)), st.sampled_from(OUTPUTS)), max_size=12),
    batches=st.integers(1, 9),
)
def test_any_order_repeats_and_batches_leave_the_same_tables(
    writer: DatabaseWriter,
    upgraded: DatabaseConnection,
    expected: dict[str, list[dict[str, Any]]],
    order: list[Output | ContractProduct],
    repeats: list[tuple[int, Output | ContractProduct]],
    batches: int,
) -> None:
    if not expected:
        writer.write(SCORES, ALERTS, LETTERS, CONTRACTS, PRODUCTS)
        expected.update(everything(upgraded))
        assert {table: len(found) for table, found in expected.items()} == {
            "user_scores": 3,
            "score_history": 18,
            "alerts": 2,
            "alert_events": 6,
            "contracts": 4,
            "contract_products": 2,
            "dead_letters": 4,
            "model_versions": 1,
        }
        assert all(row["sequence"] == 6 for row in expected["user_scores"])
        assert all(row["cleared_at"] for row in expected["alerts"])
    with upgraded.connect() as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    writer.close()  # so that it knows nothing of the rows that are gone
    outputs = list(order)
    for place, output in repeats:
        outputs.insert(place, output)

    for number in range(batches):
        batch = outputs[number::batches]
        writer.write(
            [output for output in batch if isinstance(output, Score)],
            [output for output in batch if isinstance(output, Alert)],
            [output for output in batch if isinstance(output, DeadLetter)],
            [output for output in batch if isinstance(output, BorrowerContracts)],
            [output for output in batch if isinstance(output, ContractProduct)],
        )

    assert everything(upgraded) == expected
