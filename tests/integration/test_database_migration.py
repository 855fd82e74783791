"""The migrations on a real server: up, down, up again, at once, and in agreement with the models."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.database.migration import current, downgrade, head, upgrade
from stream.database.tables import Base, is_managed

TABLES = {
    "alert_events",
    "alerts",
    "dead_letters",
    "model_versions",
    "replay_runs",
    "score_history",
    "score_history_default",
    "user_scores",
}

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
            "WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic%'"
        ).fetchall()
    assert left == []


def test_models_and_migrations_agree_for_alembic(database: DatabaseConnection) -> None:
    upgrade(database)
    with database.open_engine().connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_name": is_managed}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_models_and_migrations_agree_in_the_catalogue(database: DatabaseConnection) -> None:
    """Also in what Alembic does not compare: checks, defaults, index expressions, partitioning, storage."""
    upgrade(database)
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA modelled")
    with database.open_engine().begin() as engine_connection:
        engine_connection.exec_driver_sql("SET LOCAL search_path TO modelled")
        Base.metadata.create_all(engine_connection, checkfirst=False)

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
