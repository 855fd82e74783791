"""`POST /v1/score`: the stream's own score, byte for byte, and requests that are sent twice."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from desk.access.expiry import ANSWERS_KEPT
from desk.access.principals import Principal
from desk.api import scoring
from desk.api.bodies import PredictionsBody
from desk.api.idempotency import Answer, once
from desk.api.scoring import EXAMPLE
from desk.context import Desk
from desk.problems import Problem
from events.types import encode_event
from stream.database.connection import DatabaseConnection
from stream.scoring.intake import Taken
from tests.integration.desk.conftest import SetClock, bearer
from tests.unit.stream.scoring.test_prediction import published

Tokens = Callable[..., str]


@functools.cache
def history() -> tuple[list[Taken], bytes, bytes]:
    """Events of a user whose alert opened, and what a worker publishes last of them."""
    events, scores, alerts = published()
    key = min(alerts, key=lambda key: sum(item.key == key for item in events))
    return [item for item in events if item.key == key], scores[key], alerts[key][-1]


def body_of(taken: list[Taken], **more: Any) -> dict[str, Any]:
    return {
        "user_id": taken[0].key.decode(),
        "events": [
            {"kind": item.kind, "event": json.loads(encode_event(item.event)), "partition": item.partition,
             "offset": item.offset}
            for item in taken
        ],
        **more,
    }  # fmt: skip


def test_it_is_the_streams_score_byte_for_byte(client: TestClient, new_token: Tokens) -> None:
    taken, score, alert = history()
    answer = client.post("/v1/score", json=body_of(taken), headers=bearer(new_token("reader")))
    assert answer.status_code == 200, answer.text
    assert b'"score":' + score in answer.content
    assert b'"alert":' + alert in answer.content
    assert answer.content == answer.content.replace(b"\n", b"")
    found = PredictionsBody.model_validate_json(answer.content, strict=False)
    assert (found.prediction.scored, found.prediction.not_scored, found.without) == (len(taken), [], None)
    assert found.prediction.reasons


def test_what_if_events_had_not_been(client: TestClient, new_token: Tokens) -> None:
    taken, _, _ = history()
    dropped = [item.event.event_id for item in taken[-5:]]
    headers = bearer(new_token("reader"))
    both = client.post("/v1/score", json=body_of(taken, leave_out=dropped), headers=headers).json()
    alone = client.post("/v1/score", json=body_of(taken[:-5]), headers=headers).json()
    assert both["without"] == alone["prediction"]
    assert both["prediction"]["score"]["sequence"] == len(taken)
    everything = [item.event.event_id for item in taken]
    assert (
        client.post("/v1/score", json=body_of(taken, leave_out=everything), headers=headers).json()["without"] is None
    )


def test_the_example_of_the_reference_works(client: TestClient, new_token: Tokens) -> None:
    found = client.post("/v1/score", json=EXAMPLE, headers=bearer(new_token("reader"))).json()
    assert found["without"]["score"]["score"] < found["prediction"]["score"]["score"]


GOOD = EXAMPLE["events"][0]["event"]


def of_profiles(*events: dict[str, Any]) -> dict[str, Any]:
    return {"user_id": "u0000003", "events": [{"kind": "profiles", **event} for event in events]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b"[1]", 422, "body"),
        (b"\xff", 400, "body"),
        (b'{"user_id": "u", "events": [{"kind": "profiles", "event": ' + b"[" * 200_000, 400, "body"),
        (b'{"user_id": "\\ud800", "events": []}', 400, "body"),
        ({"user_id": "u", "events": []}, 422, "length"),
        ({"user_id": "u", "events": [{"kind": "x", "event": {}}]}, 422, "events"),
        ({"user_id": "u", "events": [{"kind": "profiles", "event": {}}]}, 422, "missing_field"),
        ({"user_id": "u", "events": [{"kind": "profiles", "event": GOOD}]}, 422, "key_mismatch"),
        (of_profiles({"event": GOOD | {"income": -1}}), 422, "out_of_range"),
        (of_profiles({"event": GOOD | {"occurred_at": "2199-01-01T00:00:00Z"}}), 422, "in_the_future"),
        (of_profiles({"event": GOOD, "more": 1}), 422, "more"),
        (of_profiles({"event": GOOD, "offset": 5}, {"event": GOOD, "offset": 5}), 422, "not larger"),
        (of_profiles({"event": GOOD, "partition": 1}, {"event": GOOD, "partition": 2}), 422, "another one"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_workers_would_refuse_is_refused(
    client: TestClient, new_token: Tokens, body: bytes | dict[str, Any], status: int, said: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = bearer(new_token("reader")) | {"Content-Type": "application/json"}
    answer = client.post("/v1/score", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.text


def test_other_bodies_and_large_ones_are_refused(client: TestClient, new_token: Tokens) -> None:
    headers = bearer(new_token("reader"))
    assert client.post("/v1/score", content=b"a=1", headers=headers).status_code == 415
    large = b" " * (4 * 1024 * 1024 + 1)
    assert client.post("/v1/score", content=large, headers=headers).status_code == 413
    assert client.post("/v1/score", content=iter([large]), headers=headers).status_code == 413


def test_repeats_are_not_scored_as_in_the_stream(client: TestClient, new_token: Tokens) -> None:
    body = {"user_id": "u0000003", "events": [EXAMPLE["events"][0]] * 2}
    found = client.post("/v1/score", json=body, headers=bearer(new_token("reader"))).json()["prediction"]
    assert found["scored"] == 1
    assert [(one["event_id"], one["reason"]) for one in found["not_scored"]] == [("p-1", "duplicate_event_id")]


def test_too_many_at_once_are_told_to_come_again(
    client: TestClient, new_token: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_ROOM", threading.BoundedSemaphore(1))
    with scoring._turn():
        answer = client.post("/v1/score", json=EXAMPLE, headers=bearer(new_token("reader")))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert client.post("/v1/score", json=EXAMPLE, headers=bearer(new_token("reader"))).status_code == 200


def test_a_request_that_is_sent_again_gets_the_same_answer(
    client: TestClient, new_token: Tokens, clock: SetClock, desk_database: DatabaseConnection
) -> None:
    headers = bearer(new_token("reader")) | {"Idempotency-Key": "one"}
    first = client.post("/v1/score", json=EXAMPLE, headers=headers)
    again = client.post("/v1/score", json=EXAMPLE, headers=headers)
    assert (again.status_code, again.content) == (200, first.content)
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    other = client.post("/v1/score", json=EXAMPLE | {"leave_out": []}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:foreshock:problem:key_reused")
    somebody = bearer(new_token("reader")) | {"Idempotency-Key": "one"}
    assert client.post("/v1/score", json=EXAMPLE | {"leave_out": []}, headers=somebody).status_code == 200
    clock.move(hours=ANSWERS_KEPT.total_seconds() / 3600)
    assert client.post("/v1/score", json=EXAMPLE | {"leave_out": []}, headers=headers).status_code == 200
    for wrong in ("", "ä", "x" * 256, "a b"):
        refused = client.post("/v1/score", json=EXAMPLE, headers=headers | {"Idempotency-Key": wrong.encode("latin-1")})  # type: ignore[dict-item]
        assert refused.status_code == 422
    with desk_database.connect() as connection:
        assert connection.execute("DELETE FROM idempotent_requests WHERE user_id = 'u0000003'").rowcount == 2


class _Request:
    method = "POST"

    class url:
        path = "/v1/work"


def test_a_request_at_the_same_time_waits_for_nothing(desk: Desk) -> None:
    """One of several does the work; the others are told that it is being done, or get its answer."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []
    ann = Principal("ann", "account", "collector")

    def work(_: Any) -> Answer:
        done.append(1)
        begun.set()
        assert go_on.wait(20)
        return Answer(b"{}")

    def ask() -> str:
        try:
            return str(once(desk, ann, "key", _Request(), b"body", work).status_code)  # type: ignore[arg-type]
        except Problem as problem:
            return problem.kind

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask)
        assert begun.wait(20)
        others = [pool.submit(ask).result() for _ in range(3)]
        go_on.set()
        assert (first.result(), others) == ("200", ["key_in_use"] * 3)
    assert ask() == "200"
    assert done == [1]


def test_a_request_that_failed_is_done_when_it_is_sent_again(desk: Desk) -> None:
    ann = Principal("ann", "account", "collector")

    def fail(_: Any) -> Answer:
        raise Problem(422, "illegal", "not now")

    with pytest.raises(Problem, match="not now"):
        once(desk, ann, "second", _Request(), b"", fail)  # type: ignore[arg-type]
    assert once(desk, ann, "second", _Request(), b"", lambda _: Answer(b"", status=204)).status_code == 204  # type: ignore[arg-type]
    assert once(desk, ann, "second", _Request(), b"", fail).status_code == 204  # type: ignore[arg-type]
