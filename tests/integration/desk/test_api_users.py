"""`/v1/users/…` on a real database: what is answered, to whom, and that it is on record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from desk.api.bodies import AlertsPage, EventsPage, ScoreBody
from desk.api.cursors import AlertPlace, EventPlace, ForeignCursor, decode, encode
from desk.context import Desk
from desk.problems import TITLES
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from tests.integration.desk.conftest import NOON, SetClock, bearer
from tests.integration.test_database_writer import a_product, a_score, an_alert

Tokens = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def written(desk_database: DatabaseConnection) -> None:
    odd = "an/odd id?#%/score"
    alerts = [an_alert("opened", 3, f"alert-{number}", user_id="ann", opened_at=NOON - dt.timedelta(days=number // 2))
              for number in range(7)]  # fmt: skip
    alerts.append(an_alert("cleared", 4, "alert-6", user_id="ann", opened_at=NOON - dt.timedelta(days=3)))
    with DatabaseWriter(desk_database) as writer:
        writer.write([a_score("ann", 1), a_score("ann", 2), a_score("bob", 1), a_score(odd, 1)], alerts, [])
        writer.write(products=[a_product("ann", "loan", "car_loan", 1), a_product("ann", "card", "card", 2),
                               a_product("bob", "loan", "car_loan", 3)])  # fmt: skip
    with desk_database.connect() as connection:
        for number in range(5):
            connection.execute(
                "INSERT INTO user_events VALUES ('activity', 0, %s, %s, 'ann', %s, 'activity', %s::jsonb)",
                (number, NOON - dt.timedelta(days=number // 2), f"e{number}", '{"kind": "session"}'),
            )
        connection.execute(
            'INSERT INTO dead_letters (dead_letter_id, reason, message, topic, partition, "offset") '
            "VALUES ('d', 'duplicate_event_id', 'again', 'activity', 0, 4)"
        )


def reads(database: DatabaseConnection, what: str) -> list[Any]:
    with database.connect() as connection:
        return connection.execute(
            "SELECT principal, user_id FROM personal_data_reads WHERE what = %s ORDER BY number", (what,)
        ).fetchall()


def require_exactly(body: Any, model: type[BaseModel]) -> None:
    """The answer has the members that OpenAPI promises, and no more."""
    found = model.model_validate(body).model_dump(mode="json", by_alias=True)
    assert set(found) == set(body)
    for name, value in body.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            assert set(found[name][0]) == set(value[0]), name


def test_the_latest_score_with_its_tag_and_age(
    client: TestClient, new_token: Tokens, clock: SetClock, desk_database: DatabaseConnection
) -> None:
    text = new_token("reader")
    with desk_database.connect() as connection:
        (updated,) = connection.execute("SELECT updated_at FROM user_scores WHERE user_id = 'ann'").fetchone() or ()
    assert isinstance(updated, dt.datetime)
    clock.now = updated + dt.timedelta(seconds=90)
    text = new_token("reader")
    found = client.get("/v1/users/ann/score", headers=bearer(text))
    assert found.status_code == 200
    require_exactly(found.json(), ScoreBody)
    assert (found.json()["sequence"], found.json()["horizons"]) == (2, {"30": 0.005, "90": 0.02})
    assert (found.headers["age"], found.headers["cache-control"]) == ("90", "private, no-cache")
    tag = found.headers["etag"]
    for offered in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/v1/users/ann/score", headers=bearer(text) | {"If-None-Match": offered})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for offered in ('"other"', "", tag[:-2]):
        assert client.get("/v1/users/ann/score", headers=bearer(text) | {"If-None-Match": offered}).status_code == 200
    who = f"token:{text.split('_')[1]}"
    assert [read for read in reads(desk_database, "score") if read[0] == who] == [(who, "ann")] * 8
    with DatabaseWriter(desk_database) as writer:
        writer.write([a_score("ann", 3)])
    assert client.get("/v1/users/ann/score", headers=bearer(text)).headers["etag"] != tag


def test_any_id_can_be_asked_for(client: TestClient, new_token: Tokens) -> None:
    text = new_token("reader")
    odd = quote("an/odd id?#%/score", safe="")
    assert client.get(f"/v1/users/{odd}/score", headers=bearer(text)).json()["user_id"] == "an/odd id?#%/score"
    for path in (f"/v1/users/{odd}", "/v1/users//score", "/v1/users/", "/v1/users/%00/score",
                 f"/v1/users/{'x' * 129}/score", "/v1/users/%ff%fe/score", "/v1/users/ann/score/",
                 "/v1/users/ann/nothing"):  # fmt: skip
        answer = client.get(path, headers=bearer(text), follow_redirects=False)
        assert answer.status_code in (404, 422), path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("products", "seen"),
    [(None, {"ann", "bob"}), (["car_loan"], {"ann", "bob"}), (["card"], {"ann"}), (["mortgage"], set())],
)
def test_products_decide_who_is_seen(
    client: TestClient, new_token: Tokens, desk_database: DatabaseConnection, products: list[str] | None, seen: set[str]
) -> None:
    text = new_token("reader", products)
    before = len(reads(desk_database, "score"))
    for user_id in ("ann", "bob", "nobody"):
        for part in ("score", "alerts", "events"):
            answer = client.get(f"/v1/users/{user_id}/{part}", headers=bearer(text))
            assert answer.status_code == (200 if user_id in seen else 404), (user_id, part)
    assert len(reads(desk_database, "score")) - before == len(seen), "what is not answered is not read"


def test_alerts_page_by_page(client: TestClient, new_token: Tokens) -> None:
    text = new_token("reader")
    first = client.get("/v1/users/ann/alerts", params={"limit": 3}, headers=bearer(text)).json()
    require_exactly(first, AlertsPage)
    pages, cursor = [first["alerts"]], first["next_cursor"]
    while cursor:
        page = client.get("/v1/users/ann/alerts", params={"limit": 3, "cursor": cursor}, headers=bearer(text)).json()
        pages.append(page["alerts"])
        cursor = page["next_cursor"]
    whole = client.get("/v1/users/ann/alerts", headers=bearer(text)).json()
    assert whole["next_cursor"] is None
    assert [one["alert_id"] for page in pages for one in page] == [one["alert_id"] for one in whole["alerts"]]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one["opened_at"] for one in whole["alerts"]] == sorted(
        (o["opened_at"] for o in whole["alerts"]), reverse=True
    )
    open_ones = client.get("/v1/users/ann/alerts", params={"open": True}, headers=bearer(text)).json()["alerts"]
    assert {one["alert_id"] for one in whole["alerts"]} - {one["alert_id"] for one in open_ones} == {"alert-6"}


def test_events_page_by_page_without_what_was_refused(client: TestClient, new_token: Tokens) -> None:
    text = new_token("reader")
    found: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/users/ann/events", params=params, headers=bearer(text)).json()
        require_exactly(page, EventsPage)
        found += [one["event_id"] for one in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ["e1", "e0", "e3", "e2"]
    none = client.get("/v1/users/ann/events", params={"kind": "profiles"}, headers=bearer(text)).json()
    assert none == {"events": [], "next_cursor": None}
    assert client.get("/v1/users/ann/events", params={"kind": "x"}, headers=bearer(text)).status_code == 422


FOREIGN = ["x", "", "é", "e30", "bnVsbA", "W10", "[]", "A" * 1001, "eyJhIjoxfQ==", encode(EventPlace(NOON, "t", 0, 1)),
           encode(AlertPlace(NOON.replace(tzinfo=None), "a"))]  # fmt: skip


@pytest.mark.parametrize("cursor", FOREIGN)
def test_a_cursor_of_ones_own_making_is_refused(client: TestClient, new_token: Tokens, cursor: str) -> None:
    answer = client.get("/v1/users/ann/alerts", params={"cursor": cursor}, headers=bearer(new_token("reader")))
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]


def test_a_place_comes_back_as_it_was() -> None:
    place = EventPlace(NOON, "risk.activity", 3, 2**62)
    assert decode(encode(place), EventPlace) == place
    with pytest.raises(ForeignCursor):
        decode(encode(place) + "A", EventPlace)


def test_without_a_token_nothing_is_told(client: TestClient, new_token: Tokens) -> None:
    expired = new_token("lead", days=0.5)
    client.app.state.desk.clock.move(days=1)  # type: ignore[attr-defined]
    for headers in ({}, bearer("fsk_x"), {"Authorization": "Basic eA=="}, {"Authorization": "Bearer"}, bearer(expired),
                    {"Cookie": "foreshock=x"}):  # fmt: skip
        answer = client.get("/v1/users/ann/score", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="foreshock"')
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"].rpartition(":")[2] in TITLES


def test_a_limit_is_told_of(client: TestClient, new_token: Tokens, desk: Desk) -> None:
    text = new_token("reader")
    object.__setattr__(desk, "settings", desk.settings.model_copy(update={"desk_requests_per_minute": 3}))
    answers = [client.get("/v1/users/ann/score", headers=bearer(text)) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] == "60"
