"""The SQL that gives each component a role of its own with the least rights. Executes nothing.

| role | who connects as it | may |
| --- | --- | --- |
| `…_owner` | `foreshock db upgrade` | own the tables: make, change and drop them |
| `…_sink` | the sink | add rows, change the latest ones, delete those of a forgotten user; make months |
| `…_replay` | `foreshock replay` | add and change the list of replays |
| `…_models` | `foreshock models` | add models and decide about them; decisions note themselves |
| `…_desk` | `foreshock desk` | read; act on cases; actions, promises, views, sessions, audit; decide about models |
| `…_webhooks` | `foreshock webhooks` | keep the list of receivers and what each is to be told |
| `…_people` | `foreshock forget`, `foreshock export` | read, and delete the rows of a user |
| `…_reader` | reports, monitoring, people | read, but for accounts, tokens and sessions of the desk |
| `…_access` | `foreshock account`, `foreshock token` | make and change accounts and tokens |
"""

from __future__ import annotations

from psycopg import sql

from stream.database import webhook_tables
from stream.database.schema import BY_MONTH, METADATA

OWNER, SINK, REPLAY, MODELS, DESK, PEOPLE, READER = "owner", "sink", "replay", "models", "desk", "people", "reader"
ACCESS, WEBHOOKS = "access", "webhooks"
ROLES = (OWNER, SINK, REPLAY, MODELS, DESK, ACCESS, WEBHOOKS, PEOPLE, READER)

VERSIONS = "alembic_version"
FUNCTIONS: dict[str, tuple[str, ...]] = {
    **{f"make_{table}_month(date, text)": (SINK,) for table in BY_MONTH},
    "case_lead(jsonb)": (DESK,),
    "case_product(text, jsonb)": (DESK,),
    "keep_all_personal_data_reads()": (),
    "keep_case()": (),
    "keep_case_actions()": (),
    "keep_model_decisions()": (),
    "keep_personal_data_reads()": (),
    "note_model_decision()": (),
    "tell_case()": (),
}
"""Functions of the migrations, all the owner's, and who may call each. Those of triggers nobody needs to call."""

VIEWS = ("borrowers_by_status", "contracts_by_product", "contracts_by_status", "taken_events")
TABLES = (*sorted(METADATA.tables), VERSIONS)

HIDDEN = ("access_tokens", "accounts", "idempotent_requests", "oidc_sign_ins", "request_counts", "sessions")
"""What is for the desk and for who manages access alone: hashes of secrets, and answers that were given."""

SEEN = tuple(table for table in TABLES if table not in HIDDEN)

_ADDED = "SELECT, INSERT"
_CHANGED = "SELECT, INSERT, UPDATE"

_OPEN_COLUMNS = ", ".join(
    column.name for column in webhook_tables.Webhook.__table__.columns if column.name not in webhook_tables.HIDDEN
)
_READ = {**dict.fromkeys(SEEN, "SELECT"), "webhooks": f"SELECT ({_OPEN_COLUMNS})"}
"""Who may read all may not read secrets, nor addresses of receivers, which may hold one."""

GRANTS: dict[str, dict[str, str]] = {
    SINK: {
        "alert_events": f"{_ADDED}, DELETE",
        "alerts": f"{_CHANGED}, DELETE",
        "contract_products": f"{_CHANGED}, DELETE",
        "contracts": f"{_CHANGED}, DELETE",
        "dead_letters": _ADDED,
        "forgotten_users": _CHANGED,
        "model_versions": _CHANGED,
        "score_history": f"{_ADDED}, DELETE",
        "user_events": f"{_ADDED}, DELETE",
        "user_scores": f"{_CHANGED}, DELETE",
        VERSIONS: "SELECT",
    },
    REPLAY: {"replay_runs": _CHANGED, VERSIONS: "SELECT"},
    MODELS: {"model_decisions": "SELECT", "registered_models": _CHANGED, VERSIONS: "SELECT"},
    DESK: {
        **dict.fromkeys(
            (
                "alert_events",
                "alerts",
                "contract_products",
                "contracts",
                "model_decisions",
                "model_versions",
                "replay_runs",
                "score_history",
                "user_scores",
                *VIEWS,
                VERSIONS,
            ),
            "SELECT",
        ),
        "access_tokens": "SELECT, UPDATE (last_used_at)",
        # Who comes by the identity provider gets an account, and its role anew each time. A password nobody can set.
        "accounts": "SELECT, INSERT, UPDATE (display_name, role, products, language, failed_sign_ins, locked_until)",
        # Who is told of what, without addresses and bodies; which inputs were refused, without what they held.
        "dead_letters": "SELECT (reason, received_at)",
        "idempotent_requests": f"{_ADDED}, DELETE",
        "oidc_sign_ins": f"{_ADDED}, DELETE",
        # The trigger lets only old ones be deleted.
        "personal_data_reads": "SELECT (read_at), INSERT, DELETE",
        # Operators decide on the page; triggers say what is legal and note it. Locking the table needs the whole right.
        "registered_models": "SELECT, UPDATE",
        "request_counts": f"{_CHANGED}, DELETE",
        "sessions": "SELECT, INSERT, UPDATE (last_seen_at), DELETE",
        "case_actions": f"{_ADDED}, UPDATE (published_at)",
        "cases": "SELECT, UPDATE",
        "promises": _CHANGED,
        "saved_views": f"{_CHANGED}, DELETE",
        "webhook_deliveries": "SELECT (webhook, state)",
        "webhooks": f"SELECT ({_OPEN_COLUMNS})",
    },
    WEBHOOKS: {
        "contract_products": "SELECT",
        "webhook_deliveries": f"{_CHANGED}, DELETE",
        "webhooks": f"{_CHANGED}, DELETE",
        VERSIONS: "SELECT",
    },
    PEOPLE: {
        **_READ,
        **dict.fromkeys(
            (
                "alert_events",
                "alerts",
                "contract_products",
                "contracts",
                "dead_letters",
                "score_history",
                "user_events",
                "user_scores",
                "webhook_deliveries",
            ),
            "SELECT, DELETE",
        ),
        "idempotent_requests": "SELECT (user_id), DELETE",
        "personal_data_reads": "SELECT, UPDATE (user_id)",
        "replay_runs": "SELECT, UPDATE",
    },
    ACCESS: {
        "access_tokens": _CHANGED,
        "accounts": _CHANGED,
        "sessions": "SELECT, DELETE",
        VERSIONS: "SELECT",
    },
    READER: {**_READ, **dict.fromkeys(VIEWS, "SELECT")},
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
BEGIN
    FOR found IN
        SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = {schema_quoted}::regnamespace
            AND relkind IN ('r', 'p', 'v') AND relowner <> {owner_quoted}::regrole
            AND (relname = ANY ({tables}) OR relname ~ {months})
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', found.name, {owner_text});
    END LOOP;
    IF to_regtype({type_text}) IS NOT NULL THEN
        EXECUTE format('ALTER TYPE %s OWNER TO %I', to_regtype({type_text}), {owner_text});
    END IF;
    FOR found IN
        SELECT to_regprocedure(name) AS name, caller FROM (VALUES
            {functions}
        ) AS function(name, caller) WHERE to_regprocedure(name) IS NOT NULL
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', found.name, {owner_text});
        IF found.caller IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', found.name, found.caller);
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
    called = [
        sql.SQL("({}, {})").format(f"{quoted}.{function}", None if caller is None else role_name(prefix, caller))
        for function, callers in FUNCTIONS.items()
        for caller in callers or (None,)
    ]
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
        months=sql.Literal(f"^({'|'.join(BY_MONTH)})_(default|[0-9]+_[0-9]+)$"),
        type_text=sql.Literal(f"{quoted}.risk_level"),
        functions=sql.SQL(",\n            ").join(called),
        grants=sql.SQL(",\n            ").join(granted),
    )
    return script.as_string()
