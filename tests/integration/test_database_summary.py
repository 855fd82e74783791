"""What the demo shows of the tables, and the record of replays."""

import datetime as dt
from typing import Any

import msgspec
import psycopg
import pytest

from events.contracts import Status
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseOutdated, DatabaseUnavailable
from stream.database.migration import upgrade
from stream.database.replay_runs import RecordedRun, find, record_end, record_start
from stream.database.summary import first_alerts, summarise, without_amounts
from stream.database.writer import DatabaseWriter
from stream.outputs import Alert, AlertKind, BorrowerContracts, ContractStanding, DeadLetter, Level, Reason, Score

START = dt.datetime(2023, 3, 1, tzinfo=dt.UTC)


def a_score(user_id: str, score: float, days_past_due: float | None = None) -> Score:
    return Score(
        score_id=f"transactions:0:{user_id}",
        event_id="e",
        user_id=user_id,
        occurred_at=START,
        sequence=1,
        score=score,
        horizons={"90": score},
        level="LOW",
        baseline=0.125,
        delta=score - 0.125,
        days_past_due=days_past_due,
        source_topic="transactions",
        source_partition=0,
        source_offset=1,
        model="m",
    )


def an_alert(user_id: str, kind: AlertKind, level_from: Level, level_to: Level, day: int, score: float = 0.5) -> Alert:
    return Alert(
        transition_id=f"{user_id}-{day}",
        alert_id=f"alert-of-{user_id}",
        user_id=user_id,
        kind=kind,
        occurred_at=START + dt.timedelta(days=day),
        opened_at=START,
        level_from=level_from,
        level_to=level_to,
        score=score,
        baseline=0.125,
        delta=0.25,
        reference_pd=None,
        days_past_due=5.0,
        triggers=["level"],
        reasons=[Reason(code="paying_later", text="payments are getting later", contribution=1.25)],
        weighed_most=[],
        sequence=day,
        source_topic="repayments",
        source_partition=0,
        source_offset=day,
        policy="p",
        model="m",
    )


ALERTS = [
    an_alert("mild", "opened", "LOW", "MEDIUM", 1, 0.9),
    an_alert("grave", "opened", "LOW", "MEDIUM", 1),
    an_alert("grave", "escalated", "MEDIUM", "HIGH", 4),
    an_alert("graver", "opened", "LOW", "HIGH", 2),
    an_alert("unscored", "opened", "LOW", "HIGH", 3, 0.625),
    an_alert("well", "opened", "LOW", "HIGH", 1),
    an_alert("well", "cleared", "HIGH", "LOW", 9),
]
SCORES = [a_score("grave", 0.25, 45.0), a_score("graver", 0.75), a_score("mild", 0.9), a_score("well", 0.01)]
LETTER = DeadLetter(
    dead_letter_id="d",
    reason="not_json",
    message="m",
    topic="t",
    partition=0,
    offset=0,
    timestamp_ms=0,
)


@pytest.fixture
def upgraded(database: DatabaseConnection) -> DatabaseConnection:
    upgrade(database)
    return database


@pytest.fixture
def filled(upgraded: DatabaseConnection) -> DatabaseConnection:
    with DatabaseWriter(upgraded) as writer:
        writer.write(SCORES, ALERTS, [LETTER])
    return upgraded


def test_counts(filled: str) -> None:
    summary = summarise(filled)

    assert (summary.users, summary.scores, summary.dead_letters) == (4, 4, 1)
    assert (summary.alerts, summary.alert_events) == (5, 7)
    assert summary.alerts_by_level == {"LOW": 0, "MEDIUM": 1, "HIGH": 4}
    assert summary.open_by_level == {"LOW": 0, "MEDIUM": 1, "HIGH": 3}


def test_without_amounts_the_most_worrying_come_by_latest_score(filled: str) -> None:
    assert [user.user_id for user in summarise(filled).most_worrying] == ["mild", "graver", "unscored", "grave"]
    assert [user.user_id for user in summarise(filled, most_worrying=2).most_worrying] == ["mild", "graver"]


def test_those_with_an_expected_loss_come_first(upgraded: DatabaseConnection) -> None:
    known = {"contracts": 2, "exposure": 40_000.0}
    scores = [
        a_score("mild", 0.9),
        msgspec.structs.replace(a_score("grave", 0.25), expected_loss=4_500.0, **known),
        msgspec.structs.replace(a_score("graver", 0.75), expected_loss=0.0, **known),
    ]
    with DatabaseWriter(upgraded) as writer:
        writer.write(scores, ALERTS)

    worst = summarise(upgraded).most_worrying
    assert [user.user_id for user in worst] == ["grave", "graver", "mild", "unscored"]
    assert (worst[0].contracts, worst[0].exposure, worst[0].expected_loss) == (2, 40_000.0, 4_500.0)
    assert (worst[3].contracts, worst[3].exposure, worst[3].expected_loss) == (None, None, None)


@pytest.mark.parametrize(
    ("rates", "borrowers", "currencies"),
    [
        ({}, ("ann", "bob"), ("EUR", "SEK", "USD")),
        ({"EUR": 1.0}, ("ann", "bob", "eve"), ("SEK", "USD")),
        ({"EUR": 1.0, "SEK": 0.1}, ("bob",), ("USD",)),
        ({"EUR": 1.0, "SEK": 0.1, "USD": 0.9}, (), ()),
    ],
)
def test_who_is_without_amounts(
    upgraded: DatabaseConnection, rates: dict[str, float], borrowers: tuple[str, ...], currencies: tuple[str, ...]
) -> None:
    def contracts(user_id: str, *named: tuple[str | None, Status]) -> BorrowerContracts:
        standings = [
            ContractStanding(
                contract_id=f"c{number}",
                status=status,
                days_past_due=0.0,
                amount_overdue=0.0,
                exposure=1.0,
                currency=name,
            )
            for number, (name, status) in enumerate(named)
        ]
        return BorrowerContracts(
            user_id=user_id, sequence=1, occurred_at=START, source_partition=0, contracts=standings
        )

    with DatabaseWriter(upgraded) as writer:
        writer.write_contracts(
            [
                contracts("ann", ("EUR", "performing"), ("SEK", "written_off")),
                contracts("bob", ("EUR", "serious"), ("USD", "past_due"), (None, "performing")),
                contracts("cid", ("EUR", "performing"), ("SEK", "closed"), (None, "performing")),
                contracts("dan", (None, "performing")),
                contracts("eve", ("SEK", "performing")),
            ]
        )
    found = without_amounts(upgraded, rates)
    assert (found.borrowers, found.examples, found.currencies) == (len(borrowers), borrowers, currencies)


def test_who_is_already_late_can_be_left_out(filled: str) -> None:
    everyone = [user.user_id for user in summarise(filled).most_worrying]
    assert "grave" in everyone
    assert "grave" in [user.user_id for user in summarise(filled, less_than_days_past_due=45.5).most_worrying]
    assert "grave" not in [user.user_id for user in summarise(filled, less_than_days_past_due=45.0).most_worrying]


def test_a_worrying_user_field_by_field(filled: str) -> None:
    grave = summarise(filled).most_worrying[3]

    assert (grave.level, grave.score, grave.score_at_alert, grave.baseline) == ("HIGH", 0.25, 0.5, 0.125)
    assert (grave.days_past_due, grave.opened_at, grave.alert_id) == (45.0, START, "alert-of-grave")
    assert grave.triggers == ("level",)
    assert grave.reasons == (Reason(code="paying_later", text="payments are getting later", contribution=1.25),)


def test_an_empty_database_is_counted_as_nothing(upgraded: DatabaseConnection) -> None:
    summary = summarise(upgraded)

    assert (summary.users, summary.alerts, summary.most_worrying) == (0, 0, ())
    assert summary.alerts_by_level == {"LOW": 0, "MEDIUM": 0, "HIGH": 0}


def test_first_alerts(filled: str) -> None:
    def day(number: int) -> dt.datetime:
        return START + dt.timedelta(days=number)

    assert first_alerts(filled) == {
        "mild": day(1),
        "grave": day(1),
        "graver": day(2),
        "unscored": day(3),
        "well": day(1),
    }
    assert first_alerts(filled, "HIGH") == {"grave": day(4), "graver": day(2), "unscored": day(3), "well": day(1)}


def test_errors_say_what_to_do(database: DatabaseConnection) -> None:
    with pytest.raises(DatabaseOutdated, match="run `foreshock db upgrade`"):
        summarise(database)
    with pytest.raises(DatabaseUnavailable):
        summarise(DatabaseConnection("postgresql://ann@127.0.0.1:1/d"))


def replays(upgraded: DatabaseConnection) -> list[dict[str, Any]]:
    with upgraded.connect() as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute("SELECT * FROM replay_runs").fetchall()


def test_a_replay_from_start_to_end_and_over_again(upgraded: DatabaseConnection) -> None:
    until = START + dt.timedelta(days=30)
    record_start(upgraded, "march", START, until, "m1", rules="p UTC")
    (running,) = replays(upgraded)
    assert (running["status"], running["finished_at"], running["counts"]) == ("running", None, {})
    assert (running["from_at"], running["to_at"], running["model"]) == (START, until, "m1")
    assert running["rules"] == "p UTC"

    record_end(upgraded, "march", "finished", {"scores": 12, "alerts": 1})
    (finished,) = replays(upgraded)
    assert (finished["status"], finished["counts"]) == ("finished", {"scores": 12, "alerts": 1})
    assert finished["finished_at"] >= finished["started_at"]

    record_start(upgraded, "march", START, START, "m2", ["ann", "bob"])
    record_end(upgraded, "march", "failed", {})
    (again,) = replays(upgraded)
    assert (again["status"], again["model"], again["to_at"]) == ("failed", "m2", START)
    assert (again["rules"], again["counts"]) == (None, {}), "nothing of the run before is left"


def test_a_replay_is_found_by_name(upgraded: DatabaseConnection) -> None:
    assert find(upgraded, "march") is None

    record_start(upgraded, "march", START, START, "m", ["ann", "bob"], "p UTC")
    record_end(upgraded, "march", "finished", {"scores": 12})
    found = RecordedRun(START, START, ["ann", "bob"], "m", "p UTC", "finished", {"scores": 12})
    assert find(upgraded, "march") == found

    record_start(upgraded, "march", START, START, "m")
    assert find(upgraded, "march") == RecordedRun(START, START, [], "m", None, "running", {})


def test_what_of_a_replay_is_not_the_same() -> None:
    recorded = RecordedRun(START, START, ["ann", "bob"], "m", "p UTC", "running", {})
    until = START + dt.timedelta(days=1)

    assert list(recorded.differences(START, START, ["bob", "ann"], "m", "p UTC")) == []
    assert list(recorded.differences(START, until, [], "n", "q UTC")) == ["range", "users", "model", "policy"]
    unnoted = RecordedRun(START, START, [], "m", None, "running", {})
    assert list(unnoted.differences(START, START, [], "m", "p UTC")) == ["policy"]


def test_a_replay_that_never_started_cannot_end(upgraded: DatabaseConnection) -> None:
    with pytest.raises(KeyError, match="record_start comes first"):
        record_end(upgraded, "march", "finished", {})


def test_a_replay_backwards_is_refused(upgraded: DatabaseConnection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        record_start(upgraded, "march", START, START - dt.timedelta(days=1), "m")


def test_reasons_survive_as_they_were(upgraded: DatabaseConnection) -> None:
    reasons = [Reason(code=f"code_{n}", text='é « 𝄞 » \\ "quoted"', contribution=-n / 7) for n in range(4)]
    with DatabaseWriter(upgraded) as writer:
        writer.write_alerts([msgspec.structs.replace(ALERTS[0], reasons=reasons)])

    assert summarise(upgraded).most_worrying[0].reasons == tuple(reasons)
