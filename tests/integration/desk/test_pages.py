"""What pages show and take of whom, without a browser: products, forms of others, and what nobody meant to send."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from desk.cases.rules import CaseRules
from desk.clerk import Chores, Clerk
from desk.context import Desk
from desk.pages import evidence, lower, portfolio
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from stream.desk_roles import DeskRole
from tests.desk_data import DAY, Borrower, transition, write_portfolio
from tests.integration.desk.conftest import NOON, PASSWORD, SetClock, new_account

YEAR = "?from=2026-01-01&to=2026-12-31"
SignIn = Callable[..., TestClient]


@pytest.fixture
def sign_in(client: TestClient, desk: Desk, desk_database: DatabaseConnection) -> SignIn:
    """Signs a new account of a role in, limited to products where some are named."""

    def make(role: DeskRole, *products: str) -> TestClient:
        name = new_account(desk.engine, role)
        if products:
            with desk_database.connect() as connection:
                connection.execute("UPDATE accounts SET products = %s WHERE name = %s", (list(products), name))
        client.cookies.clear()
        client.post("/sign-in", data={"name": name, "password": PASSWORD})
        return client

    return make


def token_of(client: TestClient) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/help").text)
    assert found is not None
    return found[1]


def post(client: TestClient, path: str, **fields: Any) -> Any:
    return client.post(path, data={**fields, "csrf": token_of(client)})


@pytest.fixture
def two(desk_database: DatabaseConnection) -> tuple[Borrower, Borrower]:
    """Borrowers of a card and of a loan, and an earlier case of the first about a loan."""
    card, loan = Borrower("of-card", product="card"), Borrower("of-loan", product="loan")
    write_portfolio(desk_database, [card, loan], NOON)
    opened_at = NOON - 20 * DAY
    earlier = transition(card, "opened", "LOW", "HIGH", opened_at, opened_at, 1)
    with DatabaseWriter(desk_database) as writer:
        writer.write_alerts([msgspec.structs.replace(earlier, alert_id="elsewhere", transition_id="elsewhere-1")])
    with desk_database.connect() as connection:
        connection.execute("UPDATE cases SET product = 'loan' WHERE alert_id = 'elsewhere'")
    return card, loan


def test_no_page_tells_of_a_product_that_is_not_seen(sign_in: SignIn, two: tuple[Borrower, Borrower]) -> None:
    card, loan = two
    for role, paths in {
        "collector": ("/queue", "/queue?user=of-loan", f"/cases/{card.alert_id}", "/portfolio"),
        "lead": (
            "/queue.csv",
            "/evidence?from=2026-01-01&to=2026-12-31",
            "/evidence.csv?from=2026-01-01&to=2026-12-31",
        ),
    }.items():
        mine = sign_in(role, "card")
        for path in paths:
            answer = mine.get(path)
            assert answer.status_code == 200
            assert "of-loan" not in answer.text.replace("user=of-loan", "").replace('value="of-loan"', ""), path
            assert "elsewhere" not in answer.text, path
        for path in (f"/cases/{loan.alert_id}", f"/cases/{loan.alert_id}/lower"):
            assert mine.get(path).status_code == 404
    assert "elsewhere" in sign_in("lead").get(f"/cases/{card.alert_id}").text, "who sees loans, too"


def test_events_are_told_with_their_figures(sign_in: SignIn, two: tuple[Borrower, Borrower]) -> None:
    """As the sink keeps them: what stands in columns is no part of the payload."""
    card, _ = two
    text = sign_in("collector").get(f"/cases/{card.alert_id}").text
    events = text.partition('id="case-events"')[2].partition("</section>")[0]
    assert "120.00" in events, "an instalment"
    assert "41.00" in events, "a withdrawal"
    assert card.contract_id in events


def test_a_form_that_names_a_case_of_others_learns_nothing(sign_in: SignIn, two: tuple[Borrower, Borrower]) -> None:
    card, loan = two
    mine = sign_in("lead", "card")
    picked = [
        f"{card.alert_id} 1",
        f"{card.alert_id} 1",
        f"{loan.alert_id} 1",
        "nothing 1",
        "x",
        f"{card.alert_id} {10**12}",
    ]
    answer = post(mine, "/queue/assign", pick=picked, to="", back="/queue")
    assert answer.status_code == 200, "a case that is named twice is one"
    assert f"<li>{loan.alert_id}</li>" in answer.text, "what was named, and no more of it"
    assert "<li>of-loan</li>" not in answer.text
    assert post(mine, f"/cases/{loan.alert_id}/note", version="1", reason="x").status_code == 404


@pytest.mark.usefixtures("two")
def test_what_is_noted_as_seen_is_what_was_shown(
    sign_in: SignIn, desk_database: DatabaseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ON_PAGE", 1)
    monkeypatch.setattr(evidence, "MOST_IN_PDF", 1)
    mine = sign_in("lead")

    def noted() -> list[str]:
        with desk_database.connect() as connection:
            query = "SELECT user_id FROM personal_data_reads WHERE what = 'evidence' ORDER BY number"
            return [str(row[0]) for row in connection.execute(query)]

    before = len(noted())
    page = mine.get(f"/evidence{YEAR}").text
    (seen,) = noted()[before:]
    assert seen in page
    shown = mine.get(f"/evidence.pdf{YEAR}")
    assert shown.headers["content-type"].startswith("text/html"), "more than a document holds"
    assert "at most 1 alerts" in shown.text
    assert len(noted()) == before + 2, "of the page that says so"
    assert len(mine.get(f"/evidence.csv{YEAR}").text.splitlines()) > 3


@pytest.mark.parametrize(
    ("file", "page"),
    [
        ("/queue.csv?level=HIHG", "HIHG"),
        ("/queue.csv?age=-1", "age=-1"),
        ("/evidence.csv?from=2026-02-30&to=2026-03-01", "were not understood"),
        ("/evidence.pdf?from=2026-03-02&to=2026-03-01", "were not understood"),
        ("/evidence.csv?level=HIHG", "were not understood"),
    ],
)
def test_no_file_is_made_of_more_than_was_asked_for(sign_in: SignIn, file: str, page: str) -> None:
    answer = sign_in("lead").get(file)
    assert answer.headers["content-type"].startswith("text/html")
    assert page in answer.text


def test_a_borrower_who_is_forgotten_meanwhile_is_not_there(
    sign_in: SignIn, two: tuple[Borrower, Borrower], monkeypatch: pytest.MonkeyPatch
) -> None:
    from desk.cases.actions import CaseNotFound
    from desk.pages import case as pages

    def gone(*_: object) -> None:
        raise CaseNotFound("gone")

    monkeypatch.setattr(pages, "act", gone)
    card, _ = two
    assert post(sign_in("lead"), f"/cases/{card.alert_id}/note", version="1", reason="x").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/queue/next",
        "/queue/assign",
        "/queue/views",
        "/queue/views/delete",
        "/sign-out",
        "/account/language",
        "/cases/x/note",
    ],
)
def test_a_form_without_the_sessions_token_does_nothing(sign_in: SignIn, path: str) -> None:
    mine = sign_in("lead")
    assert mine.post(path, data={"csrf": "of somebody else"}).status_code == 403
    assert mine.post(path).status_code == 403
    foreign = {"csrf": token_of(mine)}
    assert mine.post(path, data=foreign, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert mine.post(path, data=foreign, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_explanations_leave_threads_for_others(
    sign_in: SignIn, two: tuple[Borrower, Borrower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower, "_ROOM", threading.BoundedSemaphore(1))
    assert lower._ROOM.acquire(blocking=False)
    monkeypatch.setattr(lower, "_why_not", lambda *_: "")
    card, _ = two
    mine = sign_in("collector")
    assert "being worked out just now" in mine.get(f"/cases/{card.alert_id}/lower").text


def test_drift_that_is_being_worked_out_is_not_waited_for(sign_in: SignIn) -> None:
    mine = sign_in("lead")
    with portfolio._DRIFTS._lock:
        assert "being worked out just now" in mine.get("/portfolio/drift").text
    assert "being worked out just now" not in mine.get("/portfolio/drift").text


def test_a_fault_of_ours_does_not_end_the_clerk(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One turn fails; another clerk could work meanwhile; the next turn is done."""
    monkeypatch.setattr("desk.clerk.TURN_S", 0.01)
    stop = threading.Event()
    done: list[Chores] = []

    def ended(turn: Chores) -> None:
        done.append(turn)
        stop.set()

    engine: Engine = desk.database.open_engine("tests", kept=2)
    clerk = Clerk(engine, CaseRules(), None, SetClock(), on_turn=ended)
    turn = clerk.turn
    tries = iter([ValueError("of ours")])

    def failing() -> Any:
        for error in tries:
            raise error
        return turn()

    clerk.turn = failing  # type: ignore[method-assign]
    clerk.run(stop)
    engine.dispose()
    assert len(done) == 1
    assert "a turn failed; trying again" in caplog.text
