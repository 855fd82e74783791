"""The SQL that gives each component a role of its own with the least rights. Executes nothing.

| role | who connects as it | may |
| --- | --- | --- |
| `…_owner` | `foreshock db upgrade` | own the tables: make, change and drop them |
| `…_sink` | the sink | add rows, change the latest ones, delete those of a forgotten user; make months |
| `…_replay` | `foreshock replay` | add and change the list of replays |
| `…_models` | `foreshock models` | add models and decide about them; decisions note themselves |
| `…_people` | `foreshock forget`, `foreshock export` | read, and delete the rows of a user |
| `…_reader` | reports, monitoring, people | read |
"""

from __future__ import annotations

from psycopg import sql

from stream.database.tables import Base

OWNER, SINK, REPLAY, MODELS, PEOPLE, READER = "owner", "sink", "replay", "models", "people", "reader"
ROLES = (OWNER, SINK, REPLAY, MODELS, PEOPLE, READER)

VERSIONS = "alembic_version"
MAKE_MONTH = "make_score_history_month(date, text)"
TRIGGER_FUNCTIONS = ("keep_model_decisions()", "note_model_decision()")
VIEWS = ("borrowers_by_status", "contracts_by_product", "contracts_by_status")
TABLES = (*sorted(Base.metadata.tables), VERSIONS)

_ADDED = "SELECT, INSERT"
_CHANGED = "SELECT, INSERT, UPDATE"

GRANTS: dict[str, dict[str, str]] = {
    SINK: {
        "alert_events": f"{_ADDED}, DELETE",
        "alerts": f"{_CHANGED}, DELETE",
        "contract_products": f"{_CHANGED}, DELETE",
        "contracts": f"{_CHANGED}, DELETE",
        "dead_letters": _ADDED,
        "model_versions": _CHANGED,
        "score_history": f"{_ADDED}, DELETE",
        "user_scores": f"{_CHANGED}, DELETE",
        VERSIONS: "SELECT",
    },
    REPLAY: {"replay_runs": _CHANGED, VERSIONS: "SELECT"},
    MODELS: {"model_decisions": "SELECT", "registered_models": _CHANGED, VERSIONS: "SELECT"},
    PEOPLE: {
        **dict.fromkeys(TABLES, "SELECT"),
        **dict.fromkeys(
            (
                "alert_events",
                "alerts",
                "contract_products",
                "contracts",
                "dead_letters",
                "score_history",
                "user_scores",
            ),
            "SELECT, DELETE",
        ),
        "replay_runs": "SELECT, UPDATE",
    },
    READER: dict.fromkeys((*TABLES, *VIEWS), "SELECT"),
}
"""Rights on tables by role and table. The owner needs none."""

_SCRIPT = """\
-- Roles of Foreshock, one for each component, with the least rights. Run this as an administrator of the database,
--     foreshock db roles | psql --set ON_ERROR_STOP=1 ADDRESS
-- before the first `foreshock db upgrade`, and again after each: tables that are new get their rights then. It may run
-- as often as you like. Roles have no password yet: give them one (\\password in psql), or have them use certificates.
BEGIN;

DO $do$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY {roles}::text[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', role, current_database(), {schema_text});
    END LOOP;
    -- The sink copies its batches into temporary tables.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), {sink_text});
END
$do$;

CREATE SCHEMA IF NOT EXISTS {schema};
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};
GRANT USAGE ON SCHEMA {schema} TO {others};

-- What is there already, made by whoever ran the first upgrade, belongs to the owner from now on.
DO $do$
DECLARE
    found record;
    function text;
BEGIN
    FOR found IN
        SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = {schema_quoted}::regnamespace
            AND relkind IN ('r', 'p', 'v') AND relowner <> {owner_quoted}::regrole
            AND (relname = ANY ({tables}) OR relname ~ '^score_history_(default|[0-9]+_[0-9]+)$')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', found.name, {owner_text});
    END LOOP;
    IF to_regtype({type_text}) IS NOT NULL THEN
        EXECUTE format('ALTER TYPE %s OWNER TO %I', to_regtype({type_text}), {owner_text});
    END IF;
    IF to_regprocedure({function_text}) IS NOT NULL THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', to_regprocedure({function_text}), {owner_text});
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', to_regprocedure({function_text}), {sink_text});
    END IF;
    FOREACH function IN ARRAY {trigger_functions}::text[] LOOP
        IF to_regprocedure(function) IS NOT NULL THEN
            EXECUTE format('ALTER FUNCTION %s OWNER TO %I', to_regprocedure(function), {owner_text});
        END IF;
    END LOOP;
END
$do$;

REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {others};
DO $do$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT * FROM (VALUES
            {grants}
        ) AS given(role, name, rights) WHERE to_regclass(format('%I.%I', {schema_text}, name)) IS NOT NULL
    LOOP
        EXECUTE format('GRANT %s ON %I.%I TO %I', given.rights, {schema_text}, given.name, given.role);
    END LOOP;
END
$do$;

COMMIT;
"""


def role_name(prefix: str, component: str) -> str:
    """Name of a component's role, e.g. `foreshock_sink`."""
    return f"{prefix}_{component}"


def roles_script(schema: str = "public", prefix: str = "foreshock") -> str:
    """SQL that makes the roles `prefix`_owner and so on, for tables in `schema`, and grants what each needs.

    For an administrator to run, before and after every upgrade; running it again changes nothing.
    """
    others = [role_name(prefix, role) for role in ROLES if role != OWNER]
    granted = [
        sql.SQL("({}, {}, {})").format(role_name(prefix, role), table, rights)
        for role, tables in GRANTS.items()
        for table, rights in sorted(tables.items())
    ]
    quoted = sql.Identifier(schema).as_string()
    script = sql.SQL(_SCRIPT).format(
        roles=sql.Literal([role_name(prefix, role) for role in ROLES]),
        schema=sql.Identifier(schema),
        schema_text=sql.Literal(schema),
        owner=sql.Identifier(role_name(prefix, OWNER)),
        owner_text=sql.Literal(role_name(prefix, OWNER)),
        owner_quoted=sql.Literal(sql.Identifier(role_name(prefix, OWNER)).as_string()),
        schema_quoted=sql.Literal(quoted),
        sink_text=sql.Literal(role_name(prefix, SINK)),
        others=sql.SQL(", ").join(map(sql.Identifier, others)),
        tables=sql.Literal([*TABLES, *VIEWS]),
        type_text=sql.Literal(f"{quoted}.risk_level"),
        function_text=sql.Literal(f"{quoted}.{MAKE_MONTH}"),
        trigger_functions=sql.Literal([f"{quoted}.{function}" for function in TRIGGER_FUNCTIONS]),
        grants=sql.SQL(",\n            ").join(granted),
    )
    return script.as_string()
