"""What is asked of the desk is counted once, by route and class of status, whatever becomes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from desk.figures import ProcessFigures
from desk.measuring import ANSWERED_AS, Measured

ROUTE = SimpleNamespace(path="/cases/{alert_id}", path_format="/cases/{alert_id}", methods={"GET"})


async def ask(figures: ProcessFigures, app: Any, **scope: Any) -> None:
    async def nothing(*_: Any) -> None:
        return None

    await Measured(app, figures=figures)({"type": "http", "method": "GET", "route": ROUTE, **scope}, nothing, nothing)


def answering(status: int, content_type: str = "text/html") -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app


def counted(figures: ProcessFigures) -> dict[tuple[str, str], int]:
    return {(kind.route, kind.status): int(buckets.sum()) for kind, buckets, _ in figures.requests()}


async def test_answers_are_counted_by_route_and_class() -> None:
    figures = ProcessFigures()
    for status in (200, 204, 303, 404, 503):
        await ask(figures, answering(status))
    await ask(figures, answering(421), route=None)
    found = counted(figures)
    assert found.pop(("none", "4xx")) == 1
    assert found == {("GET /cases/{alert_id}", f"{first}xx"): 2 if first == 2 else 1 for first in (2, 3, 4, 5)}


async def test_what_a_middleware_answers_counts_as_the_route_in_whose_place_it_does() -> None:
    figures = ProcessFigures()
    await ask(figures, answering(200), route=None, **{ANSWERED_AS: "GET /quick"})
    assert counted(figures) == {("GET /quick", "2xx"): 1}


async def test_what_fails_without_an_answer_is_a_failure() -> None:
    async def failing(*_: Any) -> None:
        raise ValueError("of ours")

    figures = ProcessFigures()
    with pytest.raises(ValueError, match="of ours"):
        await ask(figures, failing)
    assert counted(figures) == {("GET /cases/{alert_id}", "5xx"): 1}


async def test_streams_and_what_nobody_was_answered_are_no_requests() -> None:
    async def left(*_: Any) -> None:
        return None

    figures = ProcessFigures()
    await ask(figures, answering(200, "text/event-stream; charset=utf-8"))
    await ask(figures, left)
    await ask(figures, answering(200), type="lifespan")
    assert counted(figures) == {}


async def test_pages_that_are_told_of_news_are_counted_while_they_are_open() -> None:
    figures = ProcessFigures()
    with figures.listening(), figures.listening():
        assert figures.listeners == 2
    assert figures.listeners == 0


@pytest.mark.parametrize(
    ("status", "outcome"), [(303, "accepted"), (401, "refused"), (403, "refused"), (429, "limited"), (503, None)]
)
async def test_tries_to_sign_in_are_told_by_their_answer(status: int, outcome: str | None) -> None:
    figures = ProcessFigures()
    route = SimpleNamespace(path="/sign-in", path_format="/sign-in", methods={"POST"})
    await ask(figures, answering(status), method="POST", route=route)
    assert {name for name, count in figures.sign_ins.items() if count} == ({outcome} if outcome else set())
