"""The migrations on a real server: up, down, up again, at once, and in agreement with the models."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.types.json import Jsonb

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.database.migration import current, downgrade, head, upgrade
from stream.database.schema import METADATA, is_managed
from stream.database.writer import DatabaseWriter
from tests.integration.test_database_writer import LIFE, a_dead_letter, a_product, a_score, some_contracts

TABLES = {
    "access_tokens",
    "accounts",
    "alert_events",
    "alerts",
    "case_actions",
    "cases",
    "contract_products",
    "contracts",
    "dead_letters",
    "forgotten_users",
    "idempotent_requests",
    "model_decisions",
    "model_versions",
    "oidc_sign_ins",
    "personal_data_reads",
    "promises",
    "registered_models",
    "replay_runs",
    "request_counts",
    "saved_views",
    "score_history",
    "score_history_default",
    "sessions",
    "user_events",
    "user_events_default",
    "user_scores",
    "webhook_deliveries",
    "webhooks",
}
OF_CASES = {"case_actions", "cases", "forgotten_users", "promises", "saved_views", "user_events", "user_events_default"}
"""What revision 0005 adds."""
OF_ACCESS = {
    "access_tokens",
    "accounts",
    "idempotent_requests",
    "oidc_sign_ins",
    "personal_data_reads",
    "request_counts",
    "sessions",
}
"""What revision 0006 adds."""
OF_WEBHOOKS = {"webhook_deliveries", "webhooks"}
"""What revision 0007 adds."""

# What a catalogue knows of a schema: columns, constraints and indices, enums, storage.
CATALOGUE = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) =
            (a.attrelid, a.attnum)
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
            AND NOT c.relispartition AND NOT a.attisdropped AND c.relname <> 'alembic_version'""",
    "constraints": """
        SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.connamespace = %(schema)s::regnamespace AND NOT c.relispartition AND c.relname <> 'alembic_version'""",
    "indices": """
        SELECT i.relname, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class c ON c.oid = x.indrelid
        WHERE i.relnamespace = %(schema)s::regnamespace AND NOT c.relispartition AND c.relname <> 'alembic_version'""",
    "enums": """
        SELECT t.typname, e.enumlabel, e.enumsortorder FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
        WHERE t.typnamespace = %(schema)s::regnamespace""",
    "tables": """
        SELECT relname, relkind::text, reloptions, pg_get_partkeydef(oid) FROM pg_class
        WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname <> 'alembic_version'""",
}


def tables(upgraded: DatabaseConnection) -> set[str]:
    with upgraded.connect() as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {str(row[0]) for row in found} - {"alembic_version"}


def catalogue(connection: psycopg.Connection[Any], schema: str) -> dict[str, set[Any]]:
    connection.execute(f"SET search_path TO {schema}")
    return {
        part: {
            tuple(cell.replace(f"{schema}.", "") if isinstance(cell, str) else repr(cell) for cell in row)
            for row in connection.execute(query, {"schema": schema})
        }
        for part, query in CATALOGUE.items()
    }


def test_up_down_up(database: DatabaseConnection) -> None:
    assert current(database) is None

    upgrade(database)
    assert (current(database), tables(database)) == (head(), TABLES)

    downgrade(database, "base")
    assert (current(database), tables(database)) == (None, set())

    upgrade(database)
    upgrade(database)
    assert (current(database), tables(database)) == (head(), TABLES)


def rows(database: DatabaseConnection, table: str) -> list[dict[str, Any]]:
    with database.connect() as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return sorted(cursor.execute(f"SELECT * FROM {table}").fetchall(), key=repr)


HELD = ("user_scores", "score_history", "alerts", "alert_events", "dead_letters", "model_versions", "replay_runs")
OF_CONTRACTS = {"status", "contracts", "exposure", "amount_overdue", "expected_loss"}


def test_contracts_are_added_to_rows_of_the_release_before_and_taken_away(database: DatabaseConnection) -> None:
    """What the revision before held is there after each step, also in a month's partition and in the default one."""
    upgrade(database)
    with DatabaseWriter(database) as writer:
        writer.write([a_score("ann", 1), a_score("ann", 2), a_score("bob", 1)], LIFE, [a_dead_letter()])
        writer.write_contracts([some_contracts("ann", 1, loan="past_due")])
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO score_history SELECT 'far-' || score_id, '2400-01-01', user_id, event_id, sequence, score,"
            " horizons, level, baseline, delta, days_past_due, model FROM score_history"
        )
    now = {table: rows(database, table) for table in HELD}
    before = {table: [{n: v for n, v in row.items() if n not in OF_CONTRACTS} for row in now[table]] for table in HELD}

    downgrade(database, "0002")
    assert (
        tables(database) - {"score_history_2023_01", "score_history_2023_02"}
        == TABLES
        - {
            "contracts",
            "contract_products",
            "model_decisions",
            "registered_models",
        }
        - OF_CASES
        - OF_ACCESS
        - OF_WEBHOOKS
    )
    assert {table: rows(database, table) for table in HELD} == before

    upgrade(database)
    after = {table: rows(database, table) for table in HELD}
    for table in HELD:
        assert [{n: v for n, v in row.items() if n not in OF_CONTRACTS} for row in after[table]] == before[table], table
    added = OF_CONTRACTS & after["user_scores"][0].keys()
    assert added == OF_CONTRACTS == OF_CONTRACTS & after["alerts"][0].keys()
    assert {row[name] for table in HELD[:4] for row in after[table] for name in OF_CONTRACTS} == {None}
    assert (after["dead_letters"], rows(database, "contracts")) == (before["dead_letters"], [])

    # And the tables are whole: what comes next is written, over what was there.
    with DatabaseWriter(database) as writer:
        writer.write([a_score("ann", 3, contracts=2, exposure=900.0)], [], [])
        writer.write_contracts([some_contracts("ann", 3, loan="performing")])
    ann = next(row for row in rows(database, "user_scores") if row["user_id"] == "ann")
    assert (ann["sequence"], ann["contracts"], ann["exposure"]) == (3, 2, 900.0)


def test_views_say_what_the_tables_come_to(database: DatabaseConnection) -> None:
    upgrade(database)
    with DatabaseWriter(database) as writer:
        serious = a_score("ann", 1, status="serious", level="HIGH", contracts=2, exposure=1_500.0, amount_overdue=80.0,
                          expected_loss=90.0)  # fmt: skip
        writer.write([serious, a_score("bob", 1, status="performing", contracts=1, exposure=None), a_score("cid", 1)])
        writer.write_contracts([some_contracts("ann", 1, loan="serious", card="performing")])
        bobs = some_contracts("bob", 1, loan="performing")
        (loan,) = bobs.contracts
        unlimited = msgspec.structs.replace(loan, contract_id="other", exposure=9_000.0, credit_limit=None)
        unknown = msgspec.structs.replace(loan, contract_id="third", exposure=None, credit_limit=10.0)
        closed = msgspec.structs.replace(loan, contract_id="fourth", status="closed", exposure=0.0, credit_limit=0.0)
        writer.write_contracts([msgspec.structs.replace(bobs, contracts=[loan, unlimited, unknown, closed])])
        writer.write(products=[a_product("ann", "loan", "car_loan", 1), a_product("bob", "loan", "car_loan", 2),
                               a_product("bob", "other", "card", 3)])  # fmt: skip
    use = 1_000.0 / 4_000.5
    by_status = ("status", "currency", "contracts", "borrowers", "exposure", "days_past_due", "credit_limit")
    assert in_order(database, "contracts_by_product", "product", *by_status, "utilisation") == [
        ("car_loan", "performing", "EUR", 1, 1, 1_000.0, 1.0, 4_000.5, use),
        ("car_loan", "serious", "EUR", 1, 1, 1_000.0, 1.0, 4_000.5, use),
        ("card", "performing", "EUR", 1, 1, 9_000.0, 1.0, None, None),
        (None, "closed", "EUR", 1, 1, 0.0, 1.0, 0.0, None),
        (None, "performing", "EUR", 2, 2, 1_000.0, 1.0, 4_010.5, use),
    ]
    assert in_order(database, "contracts_by_status", *by_status, "utilisation") == [
        ("closed", "EUR", 1, 1, 0.0, 1.0, 0.0, None),
        ("performing", "EUR", 4, 2, 11_000.0, 1.0, 8_011.0, 2 * use / 2),
        ("serious", "EUR", 1, 1, 1_000.0, 1.0, 4_000.5, use),
    ]
    columns = ("status", "level", "borrowers", "contracts", "expected_loss", "without_amounts")
    assert in_order(database, "borrowers_by_status", *columns) == [
        ("performing", "LOW", 1, 1, None, 1),
        ("serious", "HIGH", 1, 2, 90.0, 0),
        (None, "LOW", 1, 0, None, 0),
    ]


def in_order(database: DatabaseConnection, view: str, *columns: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(f"SELECT {', '.join(columns)} FROM {view}").fetchall()


def test_rules_of_replays_are_moved_out_of_the_counts_and_back(database: DatabaseConnection) -> None:
    upgrade(database)
    downgrade(database, "0008")
    before = [
        ("april", {"scored": 3}),
        ("march", {"rules": "p Europe/Berlin 90", "scored": 12}),
        ("may", {"rules": ""}),
    ]
    with database.connect() as connection:
        for name, counts in before:
            connection.execute(
                "INSERT INTO replay_runs (name, from_at, to_at, model, status, counts)"
                " VALUES (%s, '2023-03-01', '2023-04-01', 'm', 'running', %s)",
                (name, Jsonb(counts)),
            )
    upgrade(database)
    assert in_order(database, "replay_runs ORDER BY name", "name", "rules", "counts") == [
        ("april", None, {"scored": 3}),
        ("march", "p Europe/Berlin 90", {"scored": 12}),
        ("may", "", {}),
    ]
    downgrade(database, "0008")
    assert in_order(database, "replay_runs ORDER BY name", "name", "counts") == before


def test_down_leaves_nothing_behind(database: DatabaseConnection) -> None:
    upgrade(database)
    with database.connect() as connection:
        connection.execute("CREATE TABLE score_history_2023_01 PARTITION OF score_history "
                           "FOR VALUES FROM ('2023-01-01') TO ('2023-02-01')")  # fmt: skip
    downgrade(database, "base")

    with database.connect() as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%' "
            "UNION SELECT typname FROM pg_type "
            "WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic%' "
            "UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ).fetchall()
    assert left == []


def test_models_and_migrations_agree_for_alembic(database: DatabaseConnection) -> None:
    upgrade(database)
    with database.open_engine().connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_name": is_managed}
        )
        assert compare_metadata(context, METADATA) == []


def test_models_and_migrations_agree_in_the_catalogue(database: DatabaseConnection) -> None:
    """Also in what Alembic does not compare: checks, defaults, index expressions, partitioning, storage."""
    upgrade(database)
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA modelled")
    with database.open_engine().begin() as engine_connection:
        engine_connection.exec_driver_sql("SET LOCAL search_path TO modelled")
        METADATA.create_all(engine_connection, checkfirst=False)

    with database.connect() as connection:
        migrated, modelled = catalogue(connection, "public"), catalogue(connection, "modelled")
    for part in CATALOGUE:
        assert migrated[part], part
        assert migrated[part] == modelled[part], part


def test_many_upgrades_at_once(database: DatabaseConnection) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [database] * 4))

    assert (current(database), tables(database)) == (head(), TABLES)


def test_a_failed_upgrade_changes_nothing(database: DatabaseConnection) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE replay_runs (theirs text)")  # the last table of the revision is taken
    with pytest.raises(psycopg.errors.DuplicateTable):
        upgrade(database)

    assert current(database) is None
    assert tables(database) == {"replay_runs"}


def test_a_revision_of_another_release_is_named(database: DatabaseConnection) -> None:
    upgrade(database)
    with database.connect() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=r"9999.*use the release that made its schema or newer"):
        upgrade(database)


def test_no_server_is_unavailable() -> None:
    for call in (current, upgrade):
        with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/d is not available"):
            call(DatabaseConnection("postgresql://ann@127.0.0.1:1/d"))
