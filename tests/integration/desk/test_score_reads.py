"""`GET /v1/users/{id}/score` the short way: answered as the route answers, to nobody whom the route would not let in,
and on record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from desk.access import dependencies, tokens
from desk.access.remembered import MOST, REMEMBERED, RememberedTokens
from desk.access.tokens import OfferedToken
from desk.api import score_reads
from desk.app import create_app
from desk.context import Desk
from stream.database.awaited import AwaitedStatements
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from stream.settings import load_settings
from tests.integration.desk.conftest import NOON, SetClock, bearer
from tests.integration.desk.test_api_users import reads
from tests.integration.test_database_writer import a_product, a_score

Tokens = Callable[..., str]
ODD = "an/odd id?#%/score"


@pytest.fixture(scope="module", autouse=True)
def written(desk_database: DatabaseConnection) -> None:
    with DatabaseWriter(desk_database) as writer:
        writer.write([a_score("ann", 2), a_score("bob", 1), a_score(ODD, 1)], [], [])
        writer.write(products=[a_product("ann", "card", "card", 2), a_product("bob", "loan", "car_loan", 3)])


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified by themselves, which the route does with each request."""
    found: list[str] = []
    verify = dependencies._verified

    def verify_noted(desk: Desk, text: str) -> Any:
        found.append(text)
        return verify(desk, text)

    monkeypatch.setattr(dependencies, "_verified", verify_noted)
    return found


@pytest.fixture
def route(desk_database: DatabaseConnection, clock: SetClock) -> Iterator[TestClient]:
    """Another application, not started: there nothing is answered the short way."""
    app = create_app(load_settings(), desk_database, clock)
    yield TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    app.state.desk.engine.dispose()


def noted(database: DatabaseConnection, text: str) -> list[str]:
    who = f"token:{text.split('_')[1]}"
    return [user_id for principal, user_id in reads(database, "score") if principal == who]


@pytest.mark.parametrize("products", [None, ["card"], ["mortgage"]])
def test_it_answers_as_the_route_does(
    client: TestClient, route: TestClient, new_token: Tokens, verified: list[str], desk_database: DatabaseConnection,
    products: list[str] | None,
) -> None:  # fmt: skip
    text = new_token("reader", products)
    tag = route.get("/v1/users/ann/score", headers=bearer(text)).headers.get("etag", '"none"')
    asked = [
        (path, headers)
        for path in ("ann", "bob", "nobody", "an%2Fodd%20id%3F%23%25%2Fscore", "%F0%9F%98%80", "x" * 128, "a'; --")
        for headers in ({}, {"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'}, {"If-None-Match": "*"})
    ]
    before, from_route = len(noted(desk_database, text)), len(verified)
    answers = []
    for path, headers in asked:
        found = [one.get(f"/v1/users/{path}/score", headers={**bearer(text), **headers}) for one in (client, route)]
        assert found[0].status_code in (200, 304, 404)
        assert [(one.status_code, one.content, one.headers) for one in found[:1]] == [
            (one.status_code, one.content, one.headers) for one in found[1:]
        ]
        answers.append(found[0].status_code)
    assert len(verified) - from_route == len(asked) + 1, "the short way once, to begin with"
    seen = [status for status in answers if status != 404]
    assert len(noted(desk_database, text)) - before == 2 * len(seen)
    assert bool(seen) == (products != ["mortgage"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/users/{'x' * 129}/score", 422), ("GET", "/v1/users//score", 422), ("GET", "/v1/users/score", 404),
        ("GET", "/v1/users/a%00/score", 404), ("GET", "/v1/users/ann/score/", 404),
        ("POST", "/v1/users/ann/score", 405), ("GET", "/v1/users/ann/alerts", 200),
    ],
)  # fmt: skip
def test_what_it_does_not_answer_the_route_does(
    client: TestClient, new_token: Tokens, method: str, path: str, status: int
) -> None:
    text = new_token("reader")
    assert client.get("/v1/users/ann/score", headers=bearer(text)).status_code == 200
    assert client.request(method, path, headers=bearer(text)).status_code == status
    for offered in ("", f"Basic {text}", f"Bearer {text}x", "Bearer", f"Token {text}"):
        assert client.get("/v1/users/ann/score", headers={"Authorization": offered}).status_code == 401


def test_a_token_that_is_revoked_expired_or_changed_is_that_at_once(
    client: TestClient, desk: Desk, new_token: Tokens, clock: SetClock, verified: list[str]
) -> None:
    def changed(text: str, to: str) -> None:
        with desk.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE access_tokens SET {to} WHERE token_id = %s", (text.split("_")[1],))

    def ask(text: str) -> int:
        return client.get("/v1/users/ann/score", headers=bearer(text)).status_code

    revoked, expiring, demoted, narrowed = (new_token("reader", days=days) for days in (30, 0.001, 30, 30))
    assert [ask(text) for text in (revoked, expiring, demoted, narrowed) for _ in range(2)] == [200] * 8
    assert len(verified) == 4
    with desk.transaction() as connection:
        tokens.revoke(connection, revoked.split("_")[1], by="tests", now=NOON)
    changed(demoted, "role = 'operator'")
    changed(narrowed, "products = ARRAY['mortgage']")
    clock.move(minutes=2)
    assert [ask(text) for text in (revoked, expiring, demoted, narrowed)] == [401, 401, 403, 404]
    assert [ask(text) for text in (revoked, expiring, demoted, narrowed)] == [401, 401, 403, 404]


def test_that_a_token_is_used_is_noted_all_the_same(
    client: TestClient, desk: Desk, new_token: Tokens, clock: SetClock, verified: list[str]
) -> None:
    text = new_token("reader")

    def last_used() -> dt.datetime | None:
        with desk.transaction() as connection:
            return tokens.find(connection, text.split("_")[1]).last_used_at

    for _ in range(15):
        clock.move(minutes=5)
        for _ in range(3):
            client.get("/v1/users/ann/score", headers=bearer(text))
    assert len(verified) == 15
    used = last_used()
    assert used is not None
    assert used >= NOON + dt.timedelta(minutes=60)


def test_it_counts_as_the_route_it_answers_for(client: TestClient, desk: Desk, new_token: Tokens) -> None:
    text = new_token("reader")
    for _ in range(4):
        client.get("/v1/users/ann/score", headers=bearer(text))
    counted = {kind.route: kind for kind in desk.figures._kinds()}
    assert list(counted) == [score_reads.ROUTE], "by the route first, and then the short way"


def test_the_limit_holds_the_short_way_too(
    desk_database: DatabaseConnection, clock: SetClock, new_token: Tokens
) -> None:
    text, limit = new_token("reader"), 250
    app = create_app(load_settings(desk_requests_per_minute=limit), desk_database, clock)
    with TestClient(app, base_url="http://localhost") as client:
        found = [client.get("/v1/users/ann/score", headers=bearer(text)) for _ in range(limit + 20)]
        assert [one.status_code for one in found].count(200) == limit
        assert {one.status_code for one in found[limit:]} == {429}
        assert 1 <= int(found[-1].headers["retry-after"]) <= 60
        clock.move(minutes=1)
        assert client.get("/v1/users/ann/score", headers=bearer(text)).status_code == 200
    assert len(noted(desk_database, text)) == limit + 1


def test_every_answer_is_on_record_when_many_ask_at_once(
    client: TestClient, new_token: Tokens, desk_database: DatabaseConnection
) -> None:
    text = new_token("reader")
    ask = lambda user: client.get(f"/v1/users/{user}/score", headers=bearer(text)).json()["user_id"]  # noqa: E731
    users = ["ann", "bob"] * 40
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, users)) == users
    assert sorted(noted(desk_database, text)) == sorted(users)


@pytest.fixture
def sessions_ended(desk_database: DatabaseConnection) -> Callable[[], int]:
    def end() -> int:
        with desk_database.connect() as operator:
            ended = operator.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert ended is not None
        return int(str(ended[0]))

    return end


def test_a_database_that_was_started_again_is_not_noticed(
    client: TestClient, new_token: Tokens, verified: list[str], sessions_ended: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(score_reads, "PASSED_ON_S", 0.0)
    monkeypatch.setattr("stream.database.connection.UNLOOKED_S", 0.0)  # the route looks before it asks
    text = new_token("reader")
    for _ in range(2):
        assert client.get("/v1/users/ann/score", headers=bearer(text)).status_code == 200
    assert (sessions_ended() > 0, len(verified)) == (True, 1)
    for _ in range(3):
        assert client.get("/v1/users/ann/score", headers=bearer(text)).status_code == 200
    assert len(verified) == 2, "once by the route, then the short way again"


def test_without_a_database_it_is_unavailable_and_nothing_is_counted(
    client: TestClient, desk: Desk, new_token: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = new_token("reader")
    assert client.get("/v1/users/ann/score", headers=bearer(text)).status_code == 200
    nowhere = DatabaseConnection("postgresql://nobody@127.0.0.1:1/none")

    def refuse(*_: object, **__: object) -> Any:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(AwaitedStatements, "first", refuse)
        patch.setattr(desk.engine, "connect", lambda: nowhere.open_engine().connect())
        left = desk.limits._shares[f"token:{text.split('_')[1]}"].left
        answer = client.get("/v1/users/ann/score", headers=bearer(text))
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert desk.limits._shares[f"token:{text.split('_')[1]}"].left == left


def test_what_is_remembered_is_bounded_and_ends() -> None:
    remembered = RememberedTokens()
    offered = [OfferedToken(str(number), b"") for number in range(MOST + 1)]
    principal: Any = object()
    for one in offered:
        remembered.remember(one, principal, NOON)
    assert remembered.find(offered[0], NOON) is None
    assert remembered.find(offered[-1], NOON) is principal
    assert remembered.find(OfferedToken(offered[-1].token_id, b"x"), NOON) is None
    assert remembered.find(offered[-1], NOON + REMEMBERED) is None
    remembered.forget(offered[-1])
    assert remembered.find(offered[-1], NOON) is None


@pytest.fixture(autouse=True)
def _no_limit_left_over(desk: Desk) -> Iterator[None]:
    yield
    desk.limits._shares.clear()
