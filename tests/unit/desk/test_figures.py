"""What processes of the desk count is one sum, whoever of them counted, also after one was started anew."""

from __future__ import annotations

import multiprocessing
from collections import Counter

import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st

from desk.app import create_app
from desk.clerk import Chores
from desk.figures import _KEY_BYTES, MOST_REQUEST_KINDS, DeskFigures, ProcessFigures, RequestKind
from desk.measuring import NO_ROUTE, route_of
from desk.telemetry import DeskHealth
from stream.database.connection import DatabaseConnection
from stream.database.probe import DatabaseProbe
from stream.settings import load_settings

ROUTES = ("GET /queue", "POST /sign-in", NO_ROUTE)
KINDS = st.builds(RequestKind, st.sampled_from(ROUTES), st.sampled_from(["2xx", "5xx"]))
REQUESTS = st.lists(st.tuples(st.integers(0, 1), KINDS, st.floats(0, 20)), max_size=40)


@given(REQUESTS)
def test_the_requests_of_all_processes_are_one_sum(requests: list[tuple[int, RequestKind, float]]) -> None:
    figures = DeskFigures(2)
    for number, kind, seconds in requests:
        figures.parts[number].note_request(kind, seconds)
    found = figures.requests()
    assert {kind: one.count for kind, one in found.items()} == Counter(kind for _, kind, _ in requests)
    for kind, one in found.items():
        own = [seconds for _, other, seconds in requests if other == kind]
        assert one.total == pytest.approx(sum(own))
        for bound, count in one.cumulative():
            assert count == sum(seconds <= float(bound) for seconds in own)


def _work(part: ProcessFigures, kind: str) -> None:
    part.begin()
    part.note_request(RequestKind(kind, "2xx"), 0.01)
    part.note_request(RequestKind("GET /queue", "2xx"), 0.3)
    part.note_sign_in("refused")
    part.note_turn(Chores(woken=2, published=1), 1_700_000_000.0)
    part._add_listeners(1)  # it is killed while a page is open


def test_a_process_goes_on_in_the_part_of_the_one_before_it() -> None:
    figures = DeskFigures(2)
    context = multiprocessing.get_context("fork")
    for part, kind in ((0, "GET /a"), (0, "GET /b"), (1, "GET /a")):
        process = context.Process(target=_work, args=(figures.parts[part], kind))
        process.start()
        process.join(30)
        assert process.exitcode == 0
    counts = {kind.route: one.count for kind, one in figures.requests().items()}
    assert counts == {"GET /a": 2, "GET /b": 1, "GET /queue": 3}
    assert figures.sign_ins == {"accepted": 0, "refused": 3, "limited": 0}
    assert figures.chores == {"woken": 6, "decided": 0, "renewed": 0, "assigned": 0, "published": 3}
    assert figures.turned_at_s == 1_700_000_000.0
    assert figures.listeners == 2, "not those of the process that was replaced"


def test_more_kinds_than_there_is_room_for_are_counted_as_one() -> None:
    figures = DeskFigures(1)
    for number in range(MOST_REQUEST_KINDS + 10):
        figures.parts[0].note_request(RequestKind(f"GET /{number}", "2xx"), 0.01)
    found = figures.requests()
    assert len(found) == MOST_REQUEST_KINDS
    assert sum(one.count for one in found.values()) == MOST_REQUEST_KINDS + 10
    assert found[RequestKind(NO_ROUTE, "other")].count == 11


def test_every_route_of_the_desk_has_room_with_every_class_of_status() -> None:
    app = create_app(load_settings(), DatabaseConnection("postgresql://nobody@127.0.0.1:1/none"))
    names = [f"{method} {one.path}" for one in iter_route_contexts(app.routes) for method in one.methods or ()]
    assert len(set(names)) > 40
    assert max(len(f"{name}\n5xx".encode()) for name in names) <= _KEY_BYTES
    assert 4 * len(set(names)) < MOST_REQUEST_KINDS


def test_a_method_that_the_route_has_not_is_no_route() -> None:
    route = type("Route", (), {"path": "/queue", "methods": {"GET"}})()
    assert route_of({"method": "GET", "route": route}) == "GET /queue"
    assert route_of({"method": "GET' OR 1", "route": route}) == NO_ROUTE
    assert route_of({"method": "GET"}) == NO_ROUTE


def standing(figures: DeskFigures, **database: str) -> DeskHealth:
    probe = DatabaseProbe(
        DatabaseConnection("postgresql://nobody@127.0.0.1:1/none"),
        current=lambda _: database.get("found", "0008"),
        head=lambda: "0008",
    )
    if database != {"found": "unasked"}:
        probe.look()
    return DeskHealth(figures, probe, stall_timeout_s=60.0)


def test_one_process_that_hangs_is_left_to_itself_and_all_are_not_live() -> None:
    figures = DeskFigures(2)
    health = standing(figures)
    assert health.liveness().ok
    assert health.readiness().reason == "2 of 2 processes answer"
    figures.parts[0].note_look(40.0)
    assert health.liveness().ok
    assert health.liveness().loop_stalled_s == 40
    figures.parts[1].note_look(31.0)
    verdict = health.liveness()
    assert not verdict.ok
    assert verdict.reason == "no event loop has turned for 31 s"
    assert b"checkpoint" not in verdict.as_json()


def test_it_is_not_ready_while_the_database_is_of_another_release() -> None:
    verdict = standing(DeskFigures(1), found="0007").readiness()
    assert not verdict.ok
    assert "revision 0007, this release needs 0008" in verdict.reason
