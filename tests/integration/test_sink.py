"""The sink on the real broker and database: every alert once, latest scores, through an outage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from psycopg import sql

from events.types import Profile
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.summary import summarise
from stream.outputs import Alert, BorrowerContracts, Score
from stream.topics import sink_group

Deploy = Callable[..., Any]


def stored(deployment: Any) -> bool:
    outputs = deployment.topics.read_by_sink()
    group = sink_group(deployment.settings.application_id)
    return bool(deployment.committed(group, outputs) == deployment.size(*outputs))


def scored(deploy: Deploy, database: DatabaseConnection, users: int, **settings: Any) -> Any:
    deployment = deploy(database_url=database.url, watchdog=False, **settings)
    deployment.publish(open_dataset("simulator", users=users, months=5, seed=11).events())
    deployment.send_raw("activity", [(b"u", b"not an event")])
    # As people write lists, and with a first broker that is dead.
    addresses = f" 127.0.0.1:1 , {deployment.kafka} ,"
    with deployment.running("worker", bootstrap_servers=addresses) as worker:
        deployment.wait_until_scored(worker)
    return deployment


def contracts_are_those_of_the_latest_records(deployment: Any, database: DatabaseConnection) -> None:
    records = deployment.records(deployment.topics.contracts)
    told = [msgspec.json.decode(record.value, type=BorrowerContracts) for record in records]
    standing = {borrower.user_id: borrower for borrower in sorted(told, key=lambda borrower: borrower.sequence)}
    assert len(standing) > 100, "the borrowers must have contracts for this test to see anything"
    with database.connect() as connection:
        known = connection.execute("SELECT user_id, contract_id, status, exposure, sequence FROM contracts").fetchall()
    assert {tuple(row) for row in known} == {
        (user, contract.contract_id or "", contract.status, contract.exposure, borrower.sequence)
        for user, borrower in standing.items()
        for contract in borrower.contracts
    }


def products_are_those_of_the_latest_profiles(deployment: Any, database: DatabaseConnection) -> None:
    records = deployment.records(deployment.topics.of_kind("profiles"))
    told = sorted((msgspec.json.decode(record.value, type=Profile) for record in records), key=lambda p: p.occurred_at)
    latest = {(profile.user_id, profile.contract_id or ""): profile.product for profile in told}
    assert len(latest) > 100, "the borrowers must have profiles for this test to see anything"
    with database.connect() as connection:
        known = connection.execute("SELECT user_id, contract_id, product FROM contract_products").fetchall()
        (of_product,) = connection.execute(
            "SELECT sum(contracts) FROM contracts_by_product WHERE product IS NOT NULL"
        ).fetchall()
    assert {(user, contract): product for user, contract, product in known} == latest
    assert of_product[0] > 100


def test_tables_hold_what_the_topics_hold(deploy: Deploy, database: DatabaseConnection) -> None:
    deployment = scored(deploy, database, users=120)
    migration.upgrade(database)
    with deployment.running("sink", bootstrap_servers=f"127.0.0.1:1,{deployment.kafka}") as sink:
        deployment.wait(lambda: stored(deployment), "storing", sink)

    summary = summarise(database)
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    alerts = [msgspec.json.decode(r.value, type=Alert) for r in deployment.records(deployment.topics.alerts)]
    assert alerts, "the portfolio must raise some alert for this test to see anything"
    assert summary.scores == len({score.score_id for score in scores})
    assert summary.users == len({score.user_id for score in scores})
    assert summary.alert_events == len({alert.transition_id for alert in alerts}) == len(alerts)
    assert summary.alerts == len({alert.alert_id for alert in alerts})
    assert summary.dead_letters == 1
    latest = {score.user_id: score for score in sorted(scores, key=lambda score: score.sequence)}
    with database.connect() as connection:
        rows = connection.execute("SELECT user_id, sequence, score FROM user_scores").fetchall()
    assert {(user, sequence) for user, sequence, _ in rows} == {(s.user_id, s.sequence) for s in latest.values()}
    assert all(score == pytest.approx(latest[user].score, abs=1e-9) for user, _, score in rows)
    contracts_are_those_of_the_latest_records(deployment, database)
    products_are_those_of_the_latest_profiles(deployment, database)


def test_an_outage_delays_and_loses_nothing(
    deploy: Deploy, database: DatabaseConnection, server_database: DatabaseConnection
) -> None:
    """The database refuses connections while the sink runs, then takes them again."""
    deployment = scored(deploy, database, users=30, sink_retry_s=0.2)
    migration.upgrade(database)
    name = sql.Identifier(urlsplit(database.url).path[1:])
    with server_database.connect() as operator:
        operator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            with deployment.running("sink") as sink:
                deployment.wait(lambda: "trying again" in sink.log_tail(50), "the outage to be noticed", sink)
                assert deployment.committed(sink_group(deployment.settings.application_id), deployment.topics.all) == 0
                operator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
                deployment.wait(lambda: stored(deployment), "storing", sink)
        finally:
            operator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert summarise(database).scores == len(deployment.records(deployment.topics.scores))


def test_a_database_that_lacks_characters_is_refused_before_anything_is_read(
    deploy: Deploy, database_encoded: Callable[[str], DatabaseConnection]
) -> None:
    deployment = deploy(database_url=database_encoded("LATIN1").url)
    with deployment.running("sink") as sink:
        deployment.wait(lambda: not sink.alive, "the refusal")
        (line,) = sink.log_text().splitlines()
    assert line.startswith("error: database ")
    assert "has the encoding LATIN1" in line
    assert "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0" in line
