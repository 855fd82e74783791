"""`/v1/alerts/…` and the forecast on a real database: pages, products, versions, and what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from desk.api.alert_bodies import ActionBody, CaseWithHistory, QueueBody
from desk.api.bodies import ForecastBody
from desk.api.portfolio import RENEWED_EVERY
from desk.context import Desk
from model.bundle import Bundle
from stream.database.connection import DatabaseConnection
from stream.settings import PRETRAINED_BUNDLE
from tests.desk_data import portfolio, write_portfolio
from tests.integration.desk.conftest import NOON, SetClock, bearer

Tokens = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def written(desk_database: DatabaseConnection) -> None:
    write_portfolio(desk_database, portfolio("q"), NOON)


def open_cases(client: TestClient, text: str, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/alerts", params={"limit": 500, **params}, headers=bearer(text))
    assert answer.status_code == 200, answer.text
    QueueBody.model_validate(answer.json())
    cases: list[dict[str, Any]] = answer.json()["cases"]
    return cases


def test_the_queue_page_by_page_and_by_filters(client: TestClient, new_token: Tokens) -> None:
    text = new_token("reader")
    whole = open_cases(client, text)
    assert len(whole) > 10
    known = [one["priority"] for one in whole if one["priority"] is not None]
    assert known == sorted(known, reverse=True)
    assert [one["priority"] for one in whole[len(known) :]] == [None] * (len(whole) - len(known))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 4} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/alerts", params=params, headers=bearer(text)).json()
        seen += [one["alert_id"] for one in page["cases"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [one["alert_id"] for one in whole]
    high = open_cases(client, text, level="HIGH")
    assert high == [one for one in whole if one["level"] == "HIGH"]
    assert open_cases(client, text, level=["HIGH", "MEDIUM"]) == whole
    assert open_cases(client, text, unknown_exposure=True) == [one for one in whole if one["expected_loss"] is None]
    assert {one["closed_as"] for one in open_cases(client, text, status="closed")} == {"cured"}
    for params in ({"status": ["closed", "open"]}, {"cursor": "x"}, {"level": "NONE"}, {"least_age_days": "nan"},
                   {"assignee": ""}, {"limit": 0}, {"limit": 501}, {"reason": "\x00"}):  # fmt: skip
        answer = client.get("/v1/alerts", params=params, headers=bearer(text))
        assert answer.status_code == 422, params
        assert answer.json()["type"] == "urn:foreshock:problem:invalid"


def test_products_scope_the_queue_and_each_case(client: TestClient, new_token: Tokens) -> None:
    everything, cards = open_cases(client, new_token("lead")), open_cases(client, new_token("lead", ["card"]))
    assert cards == [one for one in everything if one["product"] == "card"]
    assert open_cases(client, new_token("lead", ["card"]), product="loan") == []
    loan = next(one for one in everything if one["product"] == "loan")
    path = f"/v1/alerts/{loan['alert_id']}"
    for text, status in (
        (new_token("lead"), 200),
        (new_token("lead", ["loan"]), 200),
        (new_token("lead", ["card"]), 404),
    ):
        assert client.get(path, headers=bearer(text)).status_code == status
    body = {"action": "acknowledge", "version": 1}
    answer = client.post(f"{path}/actions", json=body, headers=bearer(new_token("collector", ["card"])))
    assert answer.status_code == 404


def test_an_action_names_the_version_that_was_seen(client: TestClient, new_token: Tokens) -> None:
    text, other = new_token("collector"), new_token("collector")
    case = open_cases(client, text, status="open")[0]
    path = f"/v1/alerts/{case['alert_id']}"
    done = client.post(
        f"{path}/actions", json={"action": "acknowledge", "version": case["version"]}, headers=bearer(text)
    )
    assert done.status_code == 200, done.text
    ActionBody.model_validate(done.json())
    assert (done.json()["actor"], done.json()["status_to"]) == ("token:service of a collector", "acknowledged")
    late = client.post(f"{path}/actions", json={"action": "start", "version": case["version"]}, headers=bearer(other))
    assert (late.status_code, late.json()["type"]) == (409, "urn:foreshock:problem:conflict")
    assert late.json()["version"] == done.json()["version"]
    assert [one["action"] for one in late.json()["since"]] == ["acknowledge"]
    whole = client.get(path, headers=bearer(text))
    CaseWithHistory.model_validate(whole.json())
    assert [one["action"] for one in whole.json()["actions"]][-1] == "acknowledge"
    assert whole.json()["case"]["version"] == done.json()["version"]
    illegal = client.post(
        f"{path}/actions",
        json={"action": "reopen", "version": done.json()["version"], "reason": "x"},
        headers=bearer(text),
    )
    assert (illegal.status_code, illegal.json()["type"]) == (422, "urn:foreshock:problem:illegal")


def test_an_action_that_is_sent_again_is_done_once(client: TestClient, new_token: Tokens) -> None:
    text = new_token("collector")
    case = open_cases(client, text, status="open")[1]
    path, key = f"/v1/alerts/{case['alert_id']}/actions", str(uuid.uuid4())
    body = {"action": "promise", "version": case["version"], "promise": {"amount": 180.0, "due_on": "2026-06-20"}}
    headers = bearer(text) | {"Idempotency-Key": key}
    first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["details"]["promise"]["amount"] == 180.0
    history = client.get(f"/v1/alerts/{case['alert_id']}", headers=bearer(text)).json()["actions"]
    assert [one["action"] for one in history].count("promise") == 1
    assert client.post(path, json=body | {"reason": "x"}, headers=headers).json()["type"].endswith("key_reused")


NOTE: dict[str, Any] = {"action": "note", "version": 1}


@pytest.mark.parametrize("body", [
    {}, {"action": "acknowledge"}, NOTE | {"action": "escalate"}, NOTE | {"version": 0}, NOTE | {"version": 2**31},
    NOTE | {"reason": "x" * 4001}, NOTE | {"action": "snooze", "until": "2026-07-01T00:00:00"}, NOTE | {"more": 1},
    NOTE | {"action": "promise", "promise": {"amount": 0, "due_on": "x"}}, [], "x", None,
])  # fmt: skip
def test_bodies_that_say_nothing_are_refused(client: TestClient, new_token: Tokens, body: Any) -> None:
    answer = client.post("/v1/alerts/nothing/actions", json=body, headers=bearer(new_token("collector")))
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"]


def test_half_a_character_is_refused_and_not_repeated(client: TestClient, new_token: Tokens) -> None:
    headers = bearer(new_token("collector")) | {"Content-Type": "application/json"}
    for content, status in (
        (b'{"action": "note", "version": 1, "reason": "\\ud800"}', 422),
        (b'{"\\ud800": 1}', 422),
        (b"\xff", 400),
        (b"{", 400),
    ):
        answer = client.post("/v1/alerts/nothing/actions", content=content, headers=headers)
        assert (answer.status_code, "errors" in answer.json()) == (status, status == 422), answer.text
    nul = b'{"action": "note", "version": 1, "reason": "a\\u0000b"}'
    case = open_cases(client, new_token("reader"))[-1]["alert_id"]
    assert client.post(f"/v1/alerts/{case}/actions", content=nul, headers=headers).status_code == 422


def test_next_gives_each_case_to_one(client: TestClient, new_token: Tokens, desk: Desk) -> None:
    texts = [new_token("collector", ["mortgage"]), new_token("collector", ["mortgage"])]
    before = [one["alert_id"] for one in open_cases(client, texts[0], status="open") if one["assignee"] is None]
    given = []
    for number in range(len(before)):
        answer = client.post("/v1/alerts/next", headers=bearer(texts[number % 2]))
        assert answer.status_code == 200, answer.text
        CaseWithHistory.model_validate(answer.json())
        given.append(answer.json()["case"]["alert_id"])
    assert given == before, "the same order as the queue's, and none twice"
    nothing = client.post("/v1/alerts/next", json={"levels": ["HIGH"]}, headers=bearer(texts[0]))
    assert (nothing.status_code, nothing.content) == (204, b"")
    object.__setattr__(desk, "settings", desk.settings.model_copy(update={"desk_daily_cap": 0}))
    capped = client.post("/v1/alerts/next", headers=bearer(new_token("collector", ["card"])))
    assert (capped.status_code, capped.json()["type"]) == (409, "urn:foreshock:problem:cap_reached")


def test_what_was_seen_is_on_record(client: TestClient, new_token: Tokens, desk_database: DatabaseConnection) -> None:
    text = new_token("reader")
    cases = open_cases(client, text)
    client.get(f"/v1/alerts/{cases[0]['alert_id']}", headers=bearer(text))
    with desk_database.connect() as connection:
        found = connection.execute(
            "SELECT what, count(*) FROM personal_data_reads WHERE principal = %s GROUP BY what ORDER BY what",
            (f"token:{text.split('_')[1]}",),
        ).fetchall()
    assert found == [("case", 1), ("queue", len({one["user_id"] for one in cases}))]


def test_the_forecast_is_that_of_the_outlook_and_of_the_products(
    client: TestClient, new_token: Tokens, clock: SetClock, desk_database: DatabaseConnection
) -> None:
    with desk_database.connect() as connection:
        model = Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex
        for table in ("user_scores", "score_history"):
            connection.execute(f"UPDATE {table} SET model = '{model}'".encode())
    everything = client.get("/v1/portfolio/forecast", headers=bearer(new_token("operator")))
    assert everything.status_code == 200, everything.text
    ForecastBody.model_validate(everything.json())
    cards = client.get("/v1/portfolio/forecast", headers=bearer(new_token("reader", ["card"]))).json()
    none = client.get("/v1/portfolio/forecast", headers=bearer(new_token("reader", ["nothing"])))
    assert none.status_code == 404

    def of(found: Any, days: int) -> tuple[int, float]:
        (one,) = (one for one in found["outlooks"] if (one["segment"], one["horizon_days"]) == ("all", days))
        return one["users"], one["expected"]

    assert 0 < of(cards, 90)[0] < of(everything.json(), 90)[0]
    assert of(cards, 30)[1] < of(cards, 90)[1] < of(everything.json(), 90)[1]
    assert everything.headers["age"] == "0"
    clock.move(minutes=5)
    again = client.get("/v1/portfolio/forecast", headers=bearer(new_token("operator")))
    assert (again.content, again.headers["age"]) == (everything.content, "300")
    clock.move(seconds=RENEWED_EVERY.total_seconds())
    text = new_token("operator")
    assert client.get("/v1/portfolio/forecast", headers=bearer(text)).headers["age"] == "0"
