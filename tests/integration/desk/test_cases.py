"""Cases on a real database: alerts make them, people act on them one at a time, and what happens by itself does."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text

from desk.access.principals import Principal
from desk.cases.actions import (
    ActionIdTaken,
    Asked,
    CaseChanged,
    CaseNotFound,
    DoneAction,
    act,
    act_on_many,
    actions_of,
)
from desk.cases.assignment import DailyCapReached, auto_assign, collectors, take_next
from desk.cases.life import IllegalAction
from desk.cases.priority import lead, priority, renew
from desk.cases.promises import ARRIVAL_TOLERANCE, LOOK_AGAIN_EVERY, decide_promises
from desk.cases.queue import (
    ForeignFilters,
    Place,
    QueuedCase,
    QueueFilters,
    find_case,
    forget_view,
    queue_page,
    save_view,
    saved_views,
)
from desk.cases.rules import CaseRules
from desk.clerk import Clerk, wake_due
from stream.case_records import PromisedPayment
from stream.database import person
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from tests.desk_data import DAY, Borrower, portfolio, transition, write_payments, write_portfolio
from tests.integration.desk.conftest import NOON, SetClock, new_account

ANN = Principal("ann", "account", "collector")
BOB = Principal("bob", "account", "collector")
LEAD = Principal("eve", "account", "lead")
RULES = CaseRules(four_eyes=True)
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def engine(desk_database: DatabaseConnection) -> Iterator[Engine]:
    found = desk_database.open_engine("tests", kept=10)
    yield found
    found.dispose()


@pytest.fixture
def new_borrower(desk_database: DatabaseConnection) -> Callable[..., Borrower]:
    """Writes a borrower with an alert, of a product of their own unless told otherwise."""

    def make(**given: object) -> Borrower:
        number = next(_NUMBERS)
        borrower = Borrower(f"c{number}", **{"product": f"product{number}", **given})  # type: ignore[arg-type]
        write_portfolio(desk_database, [borrower], NOON)
        return borrower

    return make


def all_cases(
    connection: Connection, principal: Principal, filters: QueueFilters, now: dt.datetime
) -> Iterator[QueuedCase]:
    """Every case of a queue, page by page."""
    place: Place | None = None
    while True:
        page = queue_page(connection, principal, filters, now, place=place, size=7)
        yield from page.cases
        if page.end is None:
            return
        place = page.end


def of_product(principal: Principal, borrower: Borrower) -> Principal:
    return Principal(principal.name, principal.kind, principal.role, frozenset({str(borrower.product)}))


def case_of(connection: Connection, borrower: Borrower) -> QueuedCase:
    found = find_case(connection, LEAD, borrower.alert_id)
    assert found is not None
    return found


def do(
    connection: Connection, borrower: Borrower, action: str, principal: Principal = ANN, **more: object
) -> DoneAction:
    asked = Asked(borrower.alert_id, action, **more)  # type: ignore[arg-type]
    return act(connection, principal, asked, NOON, RULES)


def test_an_alert_makes_its_case_and_keeps_it_in_step(
    desk_database: DatabaseConnection, engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    borrower = new_borrower(score=0.4, exposure=10_000.0, opened_days=5.0)
    with engine.begin() as connection:
        made = case_of(connection, borrower)
        assert (made.status, made.level, made.product, made.version) == ("open", "MEDIUM", borrower.product, 1)
        assert (made.reason_codes, made.reason) == (["overdue", "cash_out"], "41 days past due")
        assert (made.score, made.expected_loss) == (0.4, pytest.approx(0.4 * 10_000 * 0.45))
        assert [done.action for done in actions_of(connection, borrower.alert_id)] == ["open"]
        do(connection, borrower, "snooze", until=NOON + DAY)

    escalated = transition(borrower, "escalated", "MEDIUM", "HIGH", NOON, made.opened_at, 2)
    cleared = transition(borrower, "cleared", "HIGH", "LOW", NOON, made.opened_at, 3)
    with DatabaseWriter(desk_database) as writer:
        writer.write_alerts([escalated])
        writer.write_alerts([escalated])
        with engine.begin() as connection:
            woken = case_of(connection, borrower)
            assert (woken.status, woken.level, woken.snoozed_until, woken.version) == ("open", "HIGH", None, 3)
            do(connection, borrower, "close", disposition="paid")
        writer.write_alerts([cleared])
    with engine.begin() as connection:
        closed = case_of(connection, borrower)
        assert (closed.status, closed.level, closed.highest_level) == ("closed", "LOW", "HIGH")
        assert (closed.closed_as, closed.alert_cleared_at, closed.version) == ("paid", NOON, 5)
        done = [(one.action, one.actor) for one in actions_of(connection, borrower.alert_id)]
        assert done == [("open", "foreshock"), ("snooze", "ann"), ("escalate", "foreshock"), ("close", "ann"),
                        ("clear", "foreshock")]  # fmt: skip


def test_what_nobody_touched_is_closed_with_its_alert(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    borrower = new_borrower(levels=("MEDIUM", "HIGH"), cleared_days=1.0)
    with engine.begin() as connection:
        found = case_of(connection, borrower)
        assert (found.status, found.closed_as, found.highest_level) == ("closed", "cured", "HIGH")
        done = actions_of(connection, borrower.alert_id)
        assert [(one.action, one.status_to) for one in done] == [("open", "open"), ("clear", "closed")]
        assert done[-1].details == {"closed_as": "cured"}


@pytest.mark.parametrize(("closed_as", "status"), [("false_alarm", "open"), ("written_off", "closed")])
def test_an_alert_that_escalates_opens_its_case_again(
    desk_database: DatabaseConnection,
    engine: Engine,
    new_borrower: Callable[..., Borrower],
    closed_as: str,
    status: str,
) -> None:
    borrower = new_borrower()
    with engine.begin() as connection:
        opened_at = case_of(connection, borrower).opened_at
        do(connection, borrower, "close", disposition=closed_as, reason="why")
    with DatabaseWriter(desk_database) as writer:
        writer.write_alerts([transition(borrower, "escalated", "MEDIUM", "HIGH", NOON, opened_at, 2)])
    with engine.begin() as connection:
        found = case_of(connection, borrower)
        assert (found.status, found.version) == (status, 3)
        assert (found.closed_at is None) == (status == "open")


def test_the_database_computes_priorities_as_python_does(connection: Connection) -> None:
    for horizons in (
        {"30": 0.1, "60": 0.2, "90": 0.3, "180": 0.6}, {"90": 0.5}, {"180": 0.4, "30": 0.1}, {"30": 0.3, "60": 0.1},
        {"30": 0.0, "60": 0.0}, {},
    ):  # fmt: skip
        found = connection.execute(
            text("SELECT lead_days, lead_share FROM case_lead(CAST(:horizons AS jsonb))"),
            {"horizons": str(horizons).replace("'", '"')},
        ).one()
        expected = lead(horizons)
        assert (found.lead_days is None) == (expected is None)
        if expected is not None:
            assert (found.lead_days, found.lead_share) == pytest.approx((expected.days, expected.share))
    for foreign in ('{"a": 1, "30": "x", "60": null}', "[1]", "7", '{"-5": 0.5}'):
        found = connection.execute(text("SELECT lead_days FROM case_lead(CAST(:h AS jsonb))"), {"h": foreign}).one()
        assert found.lead_days is None


def test_priorities_follow_new_scores(
    desk_database: DatabaseConnection, engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    borrower = new_borrower(score=0.2, product=None)
    later = Borrower(borrower.user_id, score=0.6, product="late", scored=12, opened_days=None)
    write_portfolio(desk_database, [later], NOON)
    with engine.begin() as connection:
        before = case_of(connection, borrower)
        assert renew(connection) >= 2
        assert renew(connection) == 0
        found = case_of(connection, borrower)
    assert (before.score, found.score, found.version) == (0.2, 0.6, before.version)
    assert found.priority == pytest.approx(
        priority(0.6 * 5_000 * 0.45, {"30": 0.263194, "60": 0.457116, "90": 0.6, "180": 0.84})
    )
    assert (before.product, found.product) == (None, "late")


def test_an_action_is_done_once_and_by_who_saw_the_case(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    borrower, other = new_borrower(), new_borrower()
    action_id = uuid.uuid4()
    with engine.begin() as connection:
        first = do(connection, borrower, "start", version=1, action_id=action_id)
        again = do(connection, borrower, "start", version=1, action_id=action_id)
        assert first == again
        with pytest.raises(ActionIdTaken):
            do(connection, other, "start", action_id=action_id)
        with pytest.raises(CaseChanged, match="ann: start") as caught:
            do(connection, borrower, "note", BOB, version=1, reason="called")
        assert (caught.value.version, [done.actor for done in caught.value.since]) == (2, ["ann"])
        with pytest.raises(CaseNotFound):
            do(connection, borrower, "note", of_product(BOB, other), reason="called")
        with pytest.raises(IllegalAction):
            do(connection, borrower, "acknowledge")


def test_of_two_sessions_at_once_one_is_told_what_the_other_did(
    engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    borrower = new_borrower()
    both = threading.Barrier(2)

    def works(principal: Principal) -> str:
        with engine.begin() as connection:
            seen = case_of(connection, borrower)
            both.wait(20)
            do(connection, borrower, "contact", principal, version=seen.version)
        return principal.name

    def session(principal: Principal) -> str | CaseChanged:
        try:
            return works(principal)
        except CaseChanged as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(session, (ANN, BOB)))
    (winner,) = (one for one in outcomes if isinstance(one, str))
    (loser,) = (one for one in outcomes if isinstance(one, CaseChanged))
    assert [done.actor for done in loser.since] == [winner]
    with engine.begin() as connection:
        assert case_of(connection, borrower).version == 2


def test_nobody_changes_what_was_done(
    engine: Engine, desk_database: DatabaseConnection, new_borrower: Callable[..., Borrower]
) -> None:
    borrower = new_borrower()
    with engine.begin() as connection:
        do(connection, borrower, "promise", promise=PromisedPayment(amount=10.0, due_on=NOON.date()))
    with desk_database.connect() as plain:
        for statement in (
            "UPDATE case_actions SET reason = 'x'", "DELETE FROM case_actions", "TRUNCATE case_actions",
            "UPDATE case_actions SET published_at = now(), reason = 'x' WHERE published_at IS NULL",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="only ever added"):
                plain.execute(statement.encode())
    held = person.count(desk_database, borrower.user_id)
    assert (held["cases"], held["case_actions"], held["promises"]) == (1, 2, 1)
    gone = person.forget(desk_database, borrower.user_id)
    assert (gone["cases"], gone["case_actions"], gone["promises"]) == (1, 2, 1)
    assert gone["user_events"] == 25
    assert person.count(desk_database, borrower.user_id).total() == 0


def test_a_change_is_told_at_once(
    desk_database: DatabaseConnection, engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    with desk_database.connect() as listening:
        listening.execute("LISTEN desk_cases")
        borrower = new_borrower()
        with engine.begin() as connection:
            do(connection, borrower, "start")
        told = [notice.payload for notice in listening.notifies(timeout=10, stop_after=2)]
        assert told == [borrower.alert_id] * 2
        with engine.begin() as connection:
            renew(connection)
        assert list(listening.notifies(timeout=0.1)) == []


def test_pages_of_the_queue_hold_every_case_once(desk_database: DatabaseConnection, engine: Engine) -> None:
    sample = portfolio("q")
    write_portfolio(desk_database, sample, NOON)
    own = QueueFilters()
    with engine.begin() as connection:
        mine = [case for case in all_cases(connection, LEAD, own, NOON) if case.user_id.startswith("q")]
        expected = {one.alert_id for one in sample if one.opened_days is not None and one.cleared_days is None}
        assert {case.alert_id for case in mine} == expected
        ranks = [(case.priority is not None, case.priority or 0.0, case.score, case.alert_id) for case in mine]
        assert ranks == sorted(ranks, reverse=True)
        assert mine[-1].priority is None

        paged: list[str] = []
        place: Place | None = None
        while True:
            page = queue_page(connection, LEAD, own, NOON, place=place, size=3)
            paged += [case.alert_id for case in page.cases]
            if page.end is None:
                break
            place = Place.decode(page.end.encode())
        assert [one for one in paged if one.startswith("alert-q")] == [case.alert_id for case in mine]
        assert len(paged) == len(set(paged))

        closed = queue_page(connection, LEAD, QueueFilters(statuses=frozenset({"closed"})), NOON, size=500)
        assert {one.alert_id for one in closed.cases} >= {
            one.alert_id for one in sample if one.opened_days is not None and one.cleared_days is not None
        }
        assert [one.closed_at for one in closed.cases] == sorted((one.closed_at for one in closed.cases), reverse=True)
        with pytest.raises(ForeignFilters):
            queue_page(connection, LEAD, QueueFilters(statuses=frozenset({"closed", "open"})), NOON)


FILTERED: list[tuple[QueueFilters, Callable[[QueuedCase], bool]]] = [
    (QueueFilters(levels=frozenset({"HIGH"})), lambda case: case.level == "HIGH"),
    (QueueFilters(products=frozenset({"loan", "card"})), lambda case: case.product in ("loan", "card")),
    (QueueFilters(reason="near_limit"), lambda case: "near_limit" in case.reason_codes),
    (QueueFilters(least_age_days=20), lambda case: case.opened_at <= NOON - 20 * DAY),
    (QueueFilters(most_age_days=20), lambda case: case.opened_at >= NOON - 20 * DAY),
    (QueueFilters(unknown_exposure=True), lambda case: case.expected_loss is None),
    (QueueFilters(unknown_exposure=False), lambda case: case.expected_loss is not None),
    (QueueFilters(unassigned=True), lambda case: case.assignee is None),
    (QueueFilters(user_id="f0001"), lambda case: case.user_id == "f0001"),
    (QueueFilters(review=True), lambda case: case.review_of is not None),
]


def test_filters_and_scopes(desk_database: DatabaseConnection, engine: Engine) -> None:
    write_portfolio(desk_database, portfolio("f"), NOON)
    with engine.begin() as connection:
        everything = list(all_cases(connection, LEAD, QueueFilters(), NOON))
        assert len({case.product for case in everything}) > 2
        for filters, holds in FILTERED:
            found = [case.alert_id for case in all_cases(connection, LEAD, filters, NOON)]
            assert found == [case.alert_id for case in everything if holds(case)], filters
        scoped = Principal("ann", "account", "collector", frozenset({"loan"}))
        seen = list(all_cases(connection, scoped, QueueFilters(), NOON))
        assert seen == [case for case in everything if case.product == "loan"]
        hidden = next(case for case in everything if case.product == "card")
        assert find_case(connection, scoped, hidden.alert_id) is None


def test_views_are_kept_by_name(connection: Connection) -> None:
    filters = QueueFilters(levels=frozenset({"HIGH", "MEDIUM"}), least_age_days=3)
    save_view(connection, "ann", "old", QueueFilters())
    save_view(connection, "ann", "old", filters)
    assert saved_views(connection, "ann") == {"old": filters}
    assert saved_views(connection, "bob") == {}
    assert forget_view(connection, "ann", "old")
    assert not forget_view(connection, "ann", "old")


def test_many_are_assigned_at_once(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    new_account(engine, "collector", "carl")
    first, second, gone = new_borrower(), new_borrower(), Borrower("nobody")
    with engine.begin() as connection:
        do(connection, second, "start")
        asked = [Asked(one.alert_id, "assign", version=1, assignee="carl") for one in (first, second, gone)]
        outcome = act_on_many(connection, LEAD, asked, NOON, RULES)
        assert isinstance(outcome[first.alert_id], DoneAction)
        assert isinstance(outcome[second.alert_id], CaseChanged)
        assert isinstance(outcome[gone.alert_id], CaseNotFound)
        assert case_of(connection, first).assignee == "carl"
        nobody = act_on_many(connection, LEAD, [Asked(first.alert_id, "assign", assignee="zoe")], NOON, RULES)
        assert isinstance(nobody[first.alert_id], IllegalAction)
        with pytest.raises(IllegalAction, match="each once"):
            act_on_many(connection, LEAD, asked * 2, NOON, RULES)


def test_next_never_gives_a_case_twice(desk_database: DatabaseConnection, engine: Engine) -> None:
    borrowers = [Borrower(f"n{number}", product="next", score=0.1 + number / 100) for number in range(40)]
    write_portfolio(desk_database, borrowers, NOON)
    taken: list[str] = []

    def takes(number: int) -> None:
        principal = Principal(f"taker{number}", "account", "collector", frozenset({"next"}))
        while True:
            with engine.begin() as connection:
                case = take_next(connection, principal, NOON, RULES)
            if case is None:
                return
            assert (case.assignee, case.status) == (principal.name, "acknowledged")
            taken.append(case.alert_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(takes, range(8)))
    assert sorted(taken) == sorted(one.alert_id for one in borrowers)


def test_next_is_ones_own_first_and_ends_with_the_cap(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    small, large = new_borrower(product="cap", exposure=1e3), new_borrower(product="cap", exposure=9e3)
    third, fourth = new_borrower(product="cap", exposure=5e3), new_borrower(product="cap", exposure=4e3)
    rules = CaseRules(daily_cap=2)
    ann = Principal("capped", "account", "collector", frozenset({"cap"}))
    new_account(engine, "collector", "capped")
    with engine.begin() as connection:
        do(connection, small, "assign", LEAD, assignee="capped")
        given = [take_next(connection, ann, NOON, rules) for _ in range(2)]
        assert [case and case.alert_id for case in given] == [small.alert_id, large.alert_id]
        with pytest.raises(DailyCapReached, match="2 cases"):
            take_next(connection, ann, NOON, rules)
        tomorrow = take_next(connection, ann, NOON + DAY, rules)
        assert tomorrow is not None
        assert tomorrow.alert_id == third.alert_id
        assert (
            take_next(connection, ann, NOON + 2 * DAY, rules, filters=QueueFilters(levels=frozenset({"HIGH"}))) is None
        )
        assert case_of(connection, fourth).assignee is None


def test_cases_are_given_to_who_has_fewest_within_caps(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    for name in ("rita", "sam"):
        new_account(engine, "collector", name)
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET active = name IN ('rita', 'sam')"))
        connection.execute(text("UPDATE accounts SET products = '{auto}', daily_cap = 2 WHERE name = 'rita'"))
        connection.execute(text("UPDATE accounts SET products = '{auto}' WHERE name = 'sam'"))
    busy = new_borrower(product="auto", exposure=9.9e3)
    cases = [new_borrower(product="auto", exposure=9e3 - 1e3 * number) for number in range(5)]
    new_borrower(product="other")
    rules = CaseRules(auto_assign=True, daily_cap=10)
    with engine.begin() as connection:
        do(connection, busy, "assign", LEAD, assignee="sam")
        assert auto_assign(connection, NOON, rules) == 5
        assert auto_assign(connection, NOON, rules) == 0
        given = [case_of(connection, one).assignee for one in cases]
        assert given == ["rita", "rita", "sam", "sam", "sam"]
        assert {one.name: one.room for one in collectors(connection, NOON, rules)} == {"rita": 0, "sam": 7}
        assert {one.name: one.room for one in collectors(connection, NOON + DAY, rules)} == {"rita": 2, "sam": 10}


def test_promises_are_kept_and_broken_by_repayments(
    desk_database: DatabaseConnection, engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    borrower = new_borrower()
    due_on = NOON.date() + dt.timedelta(days=5)
    with engine.begin() as connection:
        promised = do(connection, borrower, "promise", promise=PromisedPayment(amount=100.0, due_on=due_on))

    def state_at(days: float) -> tuple[str, float, str]:
        with engine.begin() as connection:
            decide_promises(connection, NOON + days * DAY, RULES)
            row = connection.execute(
                text("SELECT state, paid FROM promises WHERE action_id = :id"), {"id": promised.action_id}
            ).one()
            return row.state, row.paid, case_of(connection, borrower).status

    assert state_at(0.5) == ("open", 0.0, "promised")
    write_payments(
        desk_database, borrower, [("paid", NOON + DAY, 60.0), ("paid", NOON + 2 * DAY, 40.0)], first_offset=1
    )
    assert state_at(2) == ("kept", 100.0, "in_progress")
    write_payments(desk_database, borrower, [("reversed", NOON + 7 * DAY, 40.0)], first_offset=3)
    assert state_at(8) == ("broken", 60.0, "in_progress")
    write_payments(desk_database, borrower, [("paid", NOON + 9 * DAY, 40.0)], first_offset=4)
    assert state_at(10) == ("broken", 60.0, "in_progress")
    with engine.begin() as connection:
        late = connection.execute(
            text("SELECT paid_late_at FROM promises WHERE action_id = :id"), {"id": promised.action_id}
        ).scalar_one()
        assert late == NOON + 9 * DAY
        done = [one.action for one in actions_of(connection, borrower.alert_id)]
        assert done == ["open", "promise", "promise_kept", "promise_broken"]


def test_a_promise_is_broken_a_while_after_its_day_and_may_be_withdrawn(
    engine: Engine, new_borrower: Callable[..., Borrower]
) -> None:
    borrower, other = new_borrower(), new_borrower()
    tomorrow = PromisedPayment(amount=10.0, due_on=NOON.date() + dt.timedelta(days=1))
    with engine.begin() as connection:
        do(connection, borrower, "promise", promise=tomorrow)
        withdrawn = do(connection, other, "promise", promise=tomorrow)
        do(connection, other, "withdraw_promise", promise_id=str(withdrawn.action_id), reason="moved")
        with pytest.raises(IllegalAction):
            do(connection, other, "withdraw_promise", promise_id=str(withdrawn.action_id), reason="moved")
        assert case_of(connection, other).status == "in_progress"
    deadline = dt.datetime(2026, 6, 3, tzinfo=dt.UTC)
    for now, status in (
        (deadline + ARRIVAL_TOLERANCE - DAY / 9, "promised"),
        (deadline + ARRIVAL_TOLERANCE, "in_progress"),
    ):
        with engine.begin() as connection:
            decide_promises(connection, now, RULES)
            assert case_of(connection, borrower).status == status
    with engine.begin() as connection:
        looked, _ = decide_promises(connection, deadline + ARRIVAL_TOLERANCE + LOOK_AGAIN_EVERY / 2, RULES)
        assert looked == 0


def test_snoozes_end(engine: Engine, new_borrower: Callable[..., Borrower]) -> None:
    borrower = new_borrower()
    with engine.begin() as connection:
        do(connection, borrower, "start")
        do(connection, borrower, "snooze", until=NOON + DAY)
        assert wake_due(connection, NOON, RULES) == 0
        assert wake_due(connection, NOON + DAY, RULES) == 1
        assert case_of(connection, borrower).status == "in_progress"
        assert actions_of(connection, borrower.alert_id)[-1].actor == "foreshock"


def test_one_clerk_works_at_a_time(engine: Engine, clock: SetClock) -> None:
    first, second = (Clerk(engine, RULES, None, clock) for _ in range(2))
    assert first.leads()
    assert first.leads()
    assert not second.leads()
    first.turn()
    first.stop()
    assert second.leads()
    second.stop()


def test_a_token_is_neither_of_two_people(connection: Connection, new_borrower: Callable[..., Borrower]) -> None:
    """Whoever has asked with it could confirm with their account, and the other way round."""
    borrower = new_borrower(levels=("HIGH",))
    service = Principal("service of eve", "token", "lead", token_id="0123456789ab")
    asked = {"disposition": "false_alarm", "reason": "paid in cash"}
    with pytest.raises(IllegalAction, match="sign in at the desk"):
        do(connection, borrower, "request_review", service, **asked)
    do(connection, borrower, "request_review", LEAD, **asked)
    with pytest.raises(IllegalAction, match="sign in at the desk"):
        do(connection, borrower, "confirm", service)
    with pytest.raises(IllegalAction, match="whoever asked"):
        do(connection, borrower, "confirm", LEAD)
    # What a token may still do is say no.
    do(connection, borrower, "reject", service, reason="call them first")
    do(connection, borrower, "request_review", LEAD, **asked)
    assert do(connection, borrower, "confirm", Principal("lou", "account", "lead")).status_to == "closed"


def test_what_was_asked_for_with_a_token_is_not_confirmed(
    connection: Connection, new_borrower: Callable[..., Borrower]
) -> None:
    """As a database may hold it that another program has written to."""
    borrower = new_borrower(levels=("HIGH",))
    connection.execute(
        text("UPDATE cases SET review_of = 'false_alarm', review_by = 'token:of ann' WHERE alert_id = :alert_id"),
        {"alert_id": borrower.alert_id},
    )
    with pytest.raises(IllegalAction, match="reject it, and have somebody who is signed in ask"):
        do(connection, borrower, "confirm", LEAD)
    assert do(connection, borrower, "reject", LEAD, reason="who asks?").status_to == "open"
