"""A role for each component, on a real server: it can do its work, and nothing beyond it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import errors, sql
from typer.testing import CliRunner

from foreshock import app
from stream.database import migration, person, registry, replay_runs
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseForbidden
from stream.database.kept_events import KeptEvent
from stream.database.products import ContractProduct
from stream.database.registry import Decider
from stream.database.roles import (
    ACCESS,
    DESK,
    MODELS,
    OWNER,
    PEOPLE,
    READER,
    REPLAY,
    ROLES,
    SINK,
    VIEWS,
    WEBHOOKS,
    role_name,
    roles_script,
)
from stream.database.summary import summarise
from stream.database.writer import DatabaseWriter, Written
from stream.outputs import Alert, BorrowerContracts, ContractStanding, DeadLetter, Score
from tests.integration.test_model_registry import a_model

PASSWORD = "correct-horse"
_NUMBERS = itertools.count(1)
JANUARY = dt.datetime(2023, 1, 5, tzinfo=dt.UTC)

SCORE = Score(
    score_id="t:0:1", event_id="e", user_id="ann", occurred_at=JANUARY, sequence=1, score=0.5, horizons={"90": 0.5},
    level="LOW", baseline=0.5, delta=0.0, days_past_due=None, source_topic="t", source_partition=0, source_offset=1,
    model="m",
)  # fmt: skip
ALERT = Alert(
    transition_id="x", alert_id="a", user_id="ann", kind="opened", occurred_at=JANUARY, opened_at=JANUARY,
    level_from="LOW", level_to="HIGH", score=0.5, baseline=0.1, delta=0.4, reference_pd=None, days_past_due=None,
    triggers=[], reasons=[], weighed_most=[], sequence=1, source_topic="t", source_partition=0, source_offset=1,
    policy="p", model="m",
)  # fmt: skip
LETTER = DeadLetter(
    dead_letter_id="d", reason="not_json", message="no", topic="t", partition=0, offset=2, timestamp_ms=0,
)  # fmt: skip

CONTRACTS = BorrowerContracts(
    user_id="ann", sequence=1, occurred_at=JANUARY, source_partition=0,
    contracts=[ContractStanding(contract_id=None, status="performing", days_past_due=None, amount_overdue=None,
                                exposure=None, currency=None)],
)  # fmt: skip
PRODUCT = ContractProduct(
    user_id="ann", contract_id=None, product="card", occurred_at=JANUARY, source_partition=0, source_offset=1
)
EVENT = KeptEvent("profiles", 0, 1, JANUARY, "ann", "e", "profiles", b"{}")


class Risk:
    """A database in a schema of its own, whose components have roles."""

    def __init__(self, administrator: DatabaseConnection, schema: str) -> None:
        self.administrator = administrator
        self.schema = schema
        self.prefix = f"risk{next(_NUMBERS)}"

    def run_script(self) -> None:
        with self.administrator.connect() as connection:
            connection.execute(roles_script(self.schema, self.prefix).encode())

    def set_up(self) -> None:
        """As the page says: the script, the upgrade, the script again."""
        self.run_script()
        with self.administrator.connect() as connection:
            for role in ROLES:
                name = sql.Identifier(role_name(self.prefix, role))
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, PASSWORD))
        migration.upgrade(self.as_role(OWNER))
        self.run_script()

    def as_role(self, role: str) -> DatabaseConnection:
        parts = urlsplit(self.administrator.url)
        url = f"postgresql://{role_name(self.prefix, role)}@127.0.0.1:{parts.port}{parts.path}"
        return DatabaseConnection(url, PASSWORD)

    def drop_roles(self) -> None:
        with self.administrator.connect() as connection:
            for role in ROLES:
                name = sql.Identifier(role_name(self.prefix, role))
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
                connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def risk(database: DatabaseConnection) -> Iterator[Risk]:
    made = Risk(database, "risk data")
    made.set_up()
    yield made
    made.drop_roles()


def write_all(database: DatabaseConnection) -> Written:
    with DatabaseWriter(database) as writer:
        writer.register_model("m", {"name": "m"})
        return writer.write([SCORE], [ALERT], [LETTER], [CONTRACTS], [PRODUCT], [EVENT])


def test_each_component_can_do_its_work(risk: Risk) -> None:
    assert write_all(risk.as_role(SINK)) == Written(1, 1, 1, 1, 1, 1, 1)
    assert write_all(risk.as_role(SINK)) == Written()
    with risk.as_role(OWNER).connect() as connection:
        found = connection.execute("SELECT count(*) FROM score_history_2023_01").fetchone()
    assert found == (1,), "the sink has made the month"

    replay_runs.record_start(risk.as_role(REPLAY), "march", JANUARY, JANUARY, "m")
    replay_runs.record_end(risk.as_role(REPLAY), "march", "finished", {"scored": 1})
    recorded = replay_runs.find(risk.as_role(REPLAY), "march")
    assert recorded is not None
    assert recorded.status == "finished"

    with risk.as_role(READER).connect() as connection:
        for view in set(VIEWS) - {"taken_events"}:
            assert connection.execute(f"SELECT borrowers FROM {view}").fetchall() == [(1,)]
    summary = summarise(risk.as_role(READER))
    assert (summary.scores, summary.alerts, summary.dead_letters) == (1, 1, 1)
    with DatabaseWriter(risk.as_role(SINK)) as writer:
        writer.forget([("ann", 0)], [("ann", 0)], [("ann", 0)], [("ann", 0)], {"ann": JANUARY - dt.timedelta(days=1)})
        assert person.count(risk.as_role(PEOPLE), "ann") == {"user_events": 1}, "what came later is kept"
        writer.forget((), (), events_until={"ann": JANUARY})
    assert person.count(risk.as_role(PEOPLE), "ann").total() == 0
    assert write_all(risk.as_role(SINK)).events == 0, "what came before is not kept again"
    assert person.count(risk.as_role(PEOPLE), "ann").total() == 8
    person.forget(risk.as_role(PEOPLE), "ann")
    assert person.count(risk.as_role(PEOPLE), "ann").total() == 0

    registry.register(risk.as_role(MODELS), a_model(), Decider("ann"))
    registry.approve(risk.as_role(MODELS), a_model().fingerprint, Decider("bob", "fits"))
    decisions = registry.decisions(risk.as_role(READER), a_model().fingerprint)
    assert [(one.actor, one.database_user) for one in decisions] == [
        (name, role_name(risk.prefix, MODELS)) for name in ("ann", "bob")
    ]
    for role in set(ROLES) - {OWNER}:
        assert migration.current(risk.as_role(role)) == migration.head()


BEYOND: list[tuple[str, str]] = [
    *((SINK, statement) for statement in (
        "DROP TABLE user_scores", "ALTER TABLE alerts ADD COLUMN more text", "TRUNCATE dead_letters",
        "DELETE FROM dead_letters", "UPDATE score_history SET score = 0", "UPDATE alert_events SET score = 0",
        "DELETE FROM model_versions", "CREATE TABLE own (id int)", "SELECT * FROM replay_runs",
        "UPDATE alembic_version SET version_num = '1'", "ALTER TYPE risk_level ADD VALUE 'NONE'",
        "DROP FUNCTION make_score_history_month", "COPY user_scores TO PROGRAM 'true'",
    )),
    *((REPLAY, statement) for statement in (
        "SELECT * FROM user_scores", "DELETE FROM replay_runs", "DROP TABLE replay_runs", "CREATE TABLE own (id int)",
    )),
    *((MODELS, statement) for statement in (
        "SELECT * FROM user_scores", "DELETE FROM registered_models", "UPDATE model_decisions SET actor = 'x'",
        "INSERT INTO model_decisions (fingerprint) VALUES ('x')", "DELETE FROM model_decisions",
        "TRUNCATE model_decisions CASCADE", "ALTER TABLE model_decisions DISABLE TRIGGER ALL",
        "SELECT note_model_decision()", "CREATE TABLE own (id int)",
    )),
    *((WEBHOOKS, statement) for statement in (
        "SELECT * FROM user_scores", "SELECT * FROM alerts", "UPDATE contract_products SET product = 'x'",
        "DROP TABLE webhooks", "CREATE TABLE own (id int)",
    )),
    *((PEOPLE, statement) for statement in (
        "DELETE FROM model_decisions", "SELECT secret FROM webhooks", "SELECT url FROM webhooks",
        "INSERT INTO model_versions (fingerprint) VALUES ('x')", "UPDATE alerts SET score = 0", "TRUNCATE alerts",
        "DELETE FROM replay_runs", "DELETE FROM model_versions", "CREATE TABLE own (id int)",
    )),
    *((READER, statement) for statement in (
        "INSERT INTO model_versions (fingerprint) VALUES ('x')", "UPDATE alerts SET score = 0",
        "DELETE FROM dead_letters", "CREATE TABLE own (id int)",
        "SELECT make_score_history_month('2023-02-01', '1s')", "DROP TABLE alerts",
        "TRUNCATE alerts", "SELECT secret FROM webhooks", "SELECT former_secret FROM webhooks",
        "SELECT * FROM webhooks", "DELETE FROM webhook_deliveries",
    )),
    *((role, statement) for role in (READER, PEOPLE) for statement in (
        "SELECT password_hash FROM accounts", "SELECT secret_sha256 FROM access_tokens", "SELECT * FROM sessions",
        "SELECT response FROM idempotent_requests", "SELECT nonce FROM oidc_sign_ins",
    )),
    (PEOPLE, "UPDATE personal_data_reads SET principal = 'x'"), (PEOPLE, "DELETE FROM personal_data_reads"),
    *((DESK, statement) for statement in (
        "UPDATE accounts SET password_hash = 'x'", "UPDATE accounts SET active = true", "DELETE FROM accounts",
        "INSERT INTO access_tokens (token_id) VALUES ('x')", "UPDATE access_tokens SET expires_at = 'infinity'",
        "UPDATE access_tokens SET revoked_at = NULL", "DELETE FROM access_tokens", "SELECT * FROM personal_data_reads",
        "UPDATE personal_data_reads SET read_at = now()", "TRUNCATE personal_data_reads",
        "ALTER TABLE personal_data_reads DISABLE TRIGGER ALL", "UPDATE alerts SET score = 0",
        "DELETE FROM user_scores", "SELECT value FROM dead_letters", "DELETE FROM cases",
        "UPDATE model_decisions SET actor = 'x'", "DELETE FROM model_decisions", "DELETE FROM registered_models",
        "INSERT INTO registered_models (fingerprint) VALUES ('x')", "SELECT url FROM webhooks",
        "SELECT body FROM webhook_deliveries", "UPDATE webhooks SET state = 'active'",
        "INSERT INTO cases (alert_id) VALUES ('x')", "UPDATE case_actions SET reason = 'x'", "DELETE FROM case_actions",
        "TRUNCATE case_actions", "DELETE FROM promises", "INSERT INTO user_events (kind) VALUES ('x')",
        "SELECT keep_case()", "CREATE TABLE own (id int)",
    )),
    *((ACCESS, statement) for statement in (
        "SELECT * FROM user_scores", "SELECT * FROM personal_data_reads", "DELETE FROM accounts",
        "SELECT * FROM idempotent_requests", "CREATE TABLE own (id int)",
    )),
    *((OWNER, statement) for statement in (
        "CREATE ROLE more", "COPY user_scores FROM PROGRAM 'true'", "CREATE SCHEMA more",
        "SELECT pg_read_file('/etc/passwd')",
    )),
]  # fmt: skip


def test_nothing_beyond_is_allowed(risk: Risk) -> None:
    for role, statement in BEYOND:
        with risk.as_role(role).connect() as connection, pytest.raises(psycopg.Error) as caught:
            connection.execute(statement.encode())
        assert isinstance(caught.value, errors.InsufficientPrivilege), (role, statement, caught.value)


def test_the_function_makes_months_and_nothing_else(risk: Risk) -> None:
    with risk.as_role(SINK).connect() as connection:
        # A table of one's own, under a name that the function uses, is not what it uses.
        connection.execute("CREATE TEMPORARY TABLE score_history_default (occurred_at timestamptz)")
        connection.execute("SELECT make_score_history_month('2023-02-01', '1s')")
        connection.execute("SELECT make_score_history_month('2023-02-01', '1s')")
        with pytest.raises(errors.RaiseException, match="is not the first day of a month"):
            connection.execute("SELECT make_score_history_month('2023-02-02', '1s')")
    with risk.as_role(OWNER).connect() as connection:
        made = connection.execute(
            "SELECT relname, pg_get_userbyid(relowner) FROM pg_class "
            "WHERE relname LIKE 'score\\_history\\_2%' AND relkind = 'r'"
        ).fetchall()
    assert made == [("score_history_2023_02", role_name(risk.prefix, OWNER))]


def test_a_right_that_is_missing_is_told_with_what_to_do(risk: Risk) -> None:
    """As after an upgrade without the script, or with the wrong user."""
    for write in (
        lambda: write_all(risk.as_role(READER)),
        lambda: replay_runs.record_start(risk.as_role(READER), "march", JANUARY, JANUARY, "m"),
        lambda: migration.downgrade(risk.as_role(SINK), "base"),
    ):
        with pytest.raises(DatabaseForbidden, match=r"(permission denied|must be owner).*`foreshock db roles`"):
            write()


def test_what_an_administrator_has_upgraded_is_handed_over(database: DatabaseConnection) -> None:
    risk = Risk(database, "public")
    migration.upgrade(database)
    assert write_all(database).scores == 1
    risk.set_up()
    try:
        migration.downgrade(risk.as_role(OWNER), "base")
        migration.upgrade(risk.as_role(OWNER))
        risk.run_script()
        assert write_all(risk.as_role(SINK)).scores == 1
    finally:
        risk.drop_roles()


def test_the_schema_may_stand_in_the_address(risk: Risk) -> None:
    """`search_path` of the address beats that of the role or the server."""
    write_all(risk.as_role(SINK))
    with pytest.raises(psycopg.errors.UndefinedTable), risk.administrator.connect() as connection:
        connection.execute("SELECT 1 FROM user_scores")
    # Quotes for the name, a backslash for the blank within an option, and all of it as it stands in a URL.
    options = "options=" + quote('-csearch_path="risk\\ data"')
    there = DatabaseConnection(f"{risk.administrator.url}&{options}")
    assert summarise(there).scores == 1
    assert migration.current(there) == migration.head()
    migration.upgrade(there)


def test_the_command_prints_the_script() -> None:
    result = CliRunner().invoke(app, ["db", "roles", "--schema", "risk", "--prefix", "early"])
    assert result.exit_code == 0
    assert result.output == roles_script("risk", "early")
