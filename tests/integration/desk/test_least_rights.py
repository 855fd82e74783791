"""The desk with no more rights on the database than its role has: every page and answer of every role comes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from desk.access import tokens
from desk.app import create_app
from stream.database import registry, replay_runs
from stream.database.connection import DatabaseConnection
from stream.database.registry import Decider
from stream.database.roles import ACCESS, DESK, MODELS, REPLAY, SINK, WEBHOOKS
from stream.desk_roles import DeskRole
from stream.settings import load_settings
from tests.desk_data import portfolio, write_portfolio
from tests.integration.desk.conftest import NOON, PASSWORD, bearer, new_account
from tests.integration.test_database_roles import Risk
from tests.integration.test_model_registry import a_model


@pytest.fixture(scope="module")
def risk(desk_database: DatabaseConnection) -> Iterator[Risk]:
    made = Risk(desk_database, "risk data")
    made.set_up()
    write_portfolio(made.as_role(SINK), portfolio(), NOON)
    replay_runs.record_start(made.as_role(REPLAY), "march", NOON, NOON, "m")
    replay_runs.record_end(made.as_role(REPLAY), "march", "finished", {"scored": 1})
    replay_runs.record_diff(made.as_role(REPLAY), "march", {"alerts_gained": 1})
    registry.register(made.as_role(MODELS), a_model(), Decider("somebody", "trained"))
    with made.as_role(WEBHOOKS).connect() as connection:
        connection.execute("INSERT INTO webhooks (name, url, secret, created_by) VALUES ('crm', 'x', 'x', 'tests')")
    yield made
    made.drop_roles()


PAGES: dict[DeskRole, tuple[str, ...]] = {
    "collector": (
        "/queue",
        "/portfolio",
        "/portfolio/forecast",
        "/portfolio/drift",
        "/portfolio/replays/march",
        "/help",
    ),
    "lead": ("/queue?status=closed", "/queue.csv", "/evidence", "/evidence.csv", "/evidence.pdf"),
    "operator": ("/operations", "/operations/hand-over", "/portfolio"),
    "reader": ("/queue?review=1", "/portfolio"),
}


def post(client: TestClient, path: str, page: str, **fields: str) -> int:
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    return client.post(path, data={**fields, "csrf": token[1]}, follow_redirects=False).status_code


def test_all_pages_come_with_the_desks_own_rights(risk: Risk) -> None:
    engine = risk.as_role(ACCESS).open_engine("tests")
    app = create_app(load_settings(), risk.as_role(DESK), lambda: NOON)
    with TestClient(app, base_url="http://localhost") as client:
        for role, paths in PAGES.items():
            name = new_account(engine, role)
            client.cookies.clear()
            client.post("/sign-in", data={"name": name, "password": PASSWORD})
            for path in paths:
                assert client.get(path).status_code == 200, (role, path)
            page = client.get(paths[0]).text
            if role == "operator":
                assert "crm" in page
                fingerprint = a_model().fingerprint
                path = f"/operations/models/{fingerprint}"
                assert post(client, path, page, step="approve", reason="fine", standing="registered") == 303
                decision = registry.decisions(risk.as_role(MODELS), fingerprint)[-1]
                assert (decision.actor, decision.reason) == (name, "fine")
                assert decision.database_user.endswith("_desk")
            if role == "collector":
                assert post(client, "/queue/next", page) == 303
                case = re.search(r"/cases/[\w-]+", page)
                assert case is not None
                for path in (case[0], f"{case[0]}/lower"):
                    assert client.get(path).status_code == 200, path
    engine.dispose()


ANSWERS = (
    "/v1/users/u0001/score", "/v1/users/u0001/alerts", "/v1/users/u0001/events", "/v1/alerts", "/v1/alerts/alert-u0001",
    "/v1/portfolio/forecast", "/readyz",
)  # fmt: skip


def test_the_api_answers_with_the_desks_own_rights(risk: Risk) -> None:
    engine = risk.as_role(ACCESS).open_engine("tests")
    with engine.begin() as connection:
        _, token = tokens.create(connection, "s", "collector", products=None, days=1, by="tests", now=NOON)
    engine.dispose()
    app = create_app(load_settings(), risk.as_role(DESK), lambda: NOON)
    with TestClient(app, base_url="http://localhost", headers=bearer(token)) as client:
        for path in ANSWERS:
            # There is no forecast without scores of the desk's own model.
            expected = 404 if path.endswith("forecast") else 200
            assert client.get(path).status_code == expected, path
        # Twice under one key: the second one is answered from what was kept.
        for _ in range(2):
            taken = client.post("/v1/alerts/next", json={}, headers={"Idempotency-Key": "one"})
            assert taken.status_code == 200, taken.text
        case = taken.json()["case"]
        noted = {"action": "note", "version": case["version"], "reason": "x"}
        done = client.post(f"/v1/alerts/{case['alert_id']}/actions", json=noted)
        assert done.status_code == 200, done.text
