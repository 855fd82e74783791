"""The doctor on real servers: from nothing at all to a deployment in order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from model.bundle import Bundle
from stream.database import migration, registry
from stream.database.connection import DatabaseConnection
from stream.database.registry import Decider
from stream.database.writer import DatabaseWriter
from stream.doctor import examine
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import Finding, create_topics
from stream.outputs import BorrowerContracts, ContractStanding
from stream.settings import Settings
from tests.integration.test_model_registry import a_model


@pytest.fixture
def settings(topic_prefix: str) -> Settings:
    return Settings(topic_prefix=topic_prefix, application_id=f"{topic_prefix}app", partitions=2)


def problems(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings if finding.level != "ok"}


def test_without_addresses(settings: Settings) -> None:
    found = problems(examine(settings, None, None))
    assert {"broker", "database"} <= set(found)
    assert all("foreshock up" in found[subject].remedy for subject in ("broker", "database"))


def test_unreachable(settings: Settings) -> None:
    found = problems(
        examine(
            settings,
            KafkaConnection.parse("127.0.0.1:1"),
            DatabaseConnection("postgresql://postgres:secret@127.0.0.1:1/none"),
        )
    )
    assert "127.0.0.1:1" in found["broker"].message
    assert "127.0.0.1:1/none" in found["database"].message
    assert "secret" not in found["database"].message


def test_from_empty_servers_to_order(kafka: KafkaConnection, database: DatabaseConnection, settings: Settings) -> None:
    found = problems(examine(settings, kafka, database))
    assert found["database"].remedy == "run `foreshock db upgrade`"
    assert f"topic {settings.topics.scores}" in found

    create_topics(kafka, settings)
    migration.upgrade(database)
    assert set(problems(examine(settings, kafka, database))) <= {"bundle"}


def test_database_of_a_newer_release(database: DatabaseConnection, settings: Settings) -> None:
    migration.upgrade(database)
    with database.connect() as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    found = problems(examine(settings, None, database))
    assert "r9999, which this release" in found["database"].message
    assert "newer" in found["database"].remedy


def test_database_that_knows_no_characters(
    database_encoded: Callable[[str], DatabaseConnection], settings: Settings
) -> None:
    database = database_encoded("SQL_ASCII")
    migration.upgrade(database)
    found = problems(examine(settings, None, database))
    assert found["database encoding"].level == "warning"
    assert "ENCODING 'UTF8'" in found["database encoding"].remedy
    assert "database" not in found


def test_amounts_that_cannot_be_added_are_named_with_the_rates_to_set(
    database: DatabaseConnection, settings: Settings
) -> None:
    migration.upgrade(database)
    assert "currencies" not in problems(examine(settings, None, database))
    standings = [
        ContractStanding(
            contract_id=name, status="performing", days_past_due=0.0, amount_overdue=0.0, exposure=1.0, currency=name
        )
        for name in ("EUR", "SEK")
    ]
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with DatabaseWriter(database) as writer:
        writer.write_contracts(
            [BorrowerContracts(user_id="ann", sequence=1, occurred_at=now, source_partition=0, contracts=standings)]
        )
    found = problems(examine(settings, None, database))["currencies"]
    assert found.level == "warning"
    assert "of 1 borrowers are null, e.g. of ann" in found.message
    assert "set currency_rates = { EUR = …, SEK = … }" in found.remedy
    rates = settings.model_copy(update={"currency_rates": {"EUR": 1.0}})
    assert "(SEK)" in problems(examine(rates, None, database))["currencies"].message
    rates = settings.model_copy(update={"currency_rates": {"EUR": 1.0, "SEK": 0.09}})
    assert "currencies" not in problems(examine(rates, None, database))


def test_database_that_lacks_characters(
    database_encoded: Callable[[str], DatabaseConnection], settings: Settings
) -> None:
    found = problems(examine(settings, None, database_encoded("LATIN1")))
    assert "LATIN1" in found["database"].message
    assert found["database"].remedy.endswith("CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0")


def test_bundle_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    found = problems(examine(settings.model_copy(update={"bundle": tmp_path / "none"}), None, None))
    assert str(tmp_path / "none") in found["bundle"].message
    assert "foreshock train" in found["bundle"].remedy


def test_a_bundle_that_is_not_the_champion_is_told(database: DatabaseConnection, settings: Settings) -> None:
    migration.upgrade(database)
    models = []
    for number in (1, 2):
        model, _ = registry.register(database, a_model(number), Decider("ann"))
        models.append(registry.approve(database, model.fingerprint, Decider("bob")))
    assert "champion" not in {finding.subject for finding in examine(settings, None, database)}
    registry.give_alias(database, models[0].fingerprint, "champion", Decider("bob"))
    found = problems(examine(settings, None, database))["champion"]
    own = Bundle.load(settings.bundle)
    assert models[0].fingerprint in found.message
    assert f"models alias {own.fingerprint_hex} champion" in found.remedy
    content = (own.path / "manifest.json").read_bytes()
    ours = replace(a_model(), manifest_sha256=sha256(content).hexdigest(), fingerprint=own.fingerprint_hex)
    registry.register(database, ours, Decider("ann"))
    registry.approve(database, own.fingerprint_hex, Decider("bob"))
    registry.give_alias(database, own.fingerprint_hex, "champion", Decider("bob"))
    assert "champion" not in problems(examine(settings, None, database))
