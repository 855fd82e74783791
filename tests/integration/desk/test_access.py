"""Accounts, tokens, sessions, limits and the audit on a real database."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from desk.access import accounts, audit, sessions, tokens
from desk.access.accounts import FIRST_LOCK_S, FREE_TRIES, sign_in
from desk.access.expiry import remove_expired
from desk.access.limits import SHARES, RequestLimits, forget_windows
from desk.access.principals import Principal
from desk.access.refusals import NotSignedIn, SignInRefused, TooManyRequests
from desk.context import Desk
from stream.database import person
from stream.database.connection import DatabaseConnection
from tests.integration.desk.conftest import NOON, PASSWORD, new_account


def test_a_token_is_shown_once_and_kept_as_a_hash(desk: Desk, new_token: Callable[..., str]) -> None:
    text = new_token("collector", ["card"])
    with desk.transaction() as connection:
        principal = tokens.principal_of(connection, text, NOON)
        kept = connection.exec_driver_sql("SELECT * FROM access_tokens").mappings().all()
    assert (principal.kind, principal.role, principal.products) == ("token", "collector", frozenset({"card"}))
    secret = text.partition("_")[2].partition("_")[2]
    assert len(secret) == 43
    assert not any(secret.encode() in repr(value).encode() for row in kept for value in row.values())


@pytest.mark.parametrize("spoil", [
    lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"), lambda text: text[:-1], lambda text: text + "A",
    lambda text: text.upper(), lambda text: f" {text}", lambda _: "", lambda _: "fsk_000000000000_" + "A" * 43,
    lambda text: text.replace("fsk_", "fsk-"), lambda _: "\x00", lambda _: "é" * 60,
])  # fmt: skip
def test_what_is_not_the_token_is_refused(
    desk: Desk, new_token: Callable[..., str], spoil: Callable[[str], str]
) -> None:
    text = new_token("reader")
    with desk.transaction() as connection, pytest.raises(NotSignedIn, match="not known, has expired or was revoked"):
        tokens.principal_of(connection, spoil(text), NOON)


def test_a_token_ends_by_its_date_and_when_it_is_revoked(desk: Desk, new_token: Callable[..., str]) -> None:
    text = new_token("reader", days=2)
    token_id = text.split("_")[1]
    day = dt.timedelta(days=1)
    with desk.transaction() as connection:
        assert tokens.principal_of(connection, text, NOON + day).token_id == token_id
        with pytest.raises(NotSignedIn):
            tokens.principal_of(connection, text, NOON + 2 * day)
        tokens.revoke(connection, token_id, by="ann", now=NOON + day)
        with pytest.raises(NotSignedIn):
            tokens.principal_of(connection, text, NOON + day)
        first = tokens.revoke(connection, token_id, by="bob", now=NOON + 3 * day)
        assert (first.state(NOON), first.revoked_at) == ("revoked", NOON + day)
        assert first.last_used_at == NOON + day


def test_a_password_opens_a_session_and_disabling_ends_it(desk: Desk) -> None:
    name = new_account(desk.engine, "collector")
    assert sign_in(desk.engine, name, PASSWORD, NOON).principal == Principal(name, "account", "collector")
    with desk.transaction() as connection:
        cookie = sessions.open_session(connection, name, desk.lifetime, NOON)
        found = sessions.find_session(connection, cookie, desk.lifetime, NOON)
        assert found is not None
        assert sessions.is_own_form(found, found.csrf_token)
        assert not any(sessions.is_own_form(found, other) for other in (None, "", "x", found.csrf_token + "x", "é"))
        assert sessions.find_session(connection, cookie + "x", desk.lifetime, NOON) is None
        accounts.set_active(connection, name, active=False)
        assert sessions.find_session(connection, cookie, desk.lifetime, NOON) is None
    with pytest.raises(SignInRefused):
        sign_in(desk.engine, name, PASSWORD, NOON)


def test_a_session_ends_unused_and_after_its_time(desk: Desk) -> None:
    name = new_account(desk.engine, "reader")
    minute = dt.timedelta(minutes=1)
    with desk.transaction() as connection:
        cookie = sessions.open_session(connection, name, desk.lifetime, NOON)
        for passed in range(59, 12 * 60, 59):
            assert sessions.find_session(connection, cookie, desk.lifetime, NOON + passed * minute), passed
        assert sessions.find_session(connection, cookie, desk.lifetime, NOON + 12 * 60 * minute) is None
        idle = sessions.open_session(connection, name, desk.lifetime, NOON)
        assert sessions.find_session(connection, idle, desk.lifetime, NOON + 60 * minute) is None
        gone = sessions.open_session(connection, name, desk.lifetime, NOON)
        sessions.close_session(connection, gone)
        assert sessions.find_session(connection, gone, desk.lifetime, NOON) is None


def test_failed_sign_ins_lock_an_account_for_longer_and_longer(desk: Desk) -> None:
    name, now = new_account(desk.engine, "reader"), NOON
    for _ in range(FREE_TRIES):
        with pytest.raises(SignInRefused):
            sign_in(desk.engine, name, "wrong", now)
    with pytest.raises(SignInRefused):  # the right one, too
        sign_in(desk.engine, name, PASSWORD, now + dt.timedelta(seconds=FIRST_LOCK_S - 1))
    now += dt.timedelta(seconds=FIRST_LOCK_S)
    with pytest.raises(SignInRefused):
        sign_in(desk.engine, name, "wrong", now)
    with pytest.raises(SignInRefused):
        sign_in(desk.engine, name, PASSWORD, now + dt.timedelta(seconds=2 * FIRST_LOCK_S - 1))
    assert sign_in(desk.engine, name, PASSWORD, now + dt.timedelta(seconds=2 * FIRST_LOCK_S)).locked_until is None
    with pytest.raises(SignInRefused):
        sign_in(desk.engine, name, "wrong", now)
    assert sign_in(desk.engine, name, PASSWORD, now).name == name, "counted from the beginning again"


def test_tries_at_the_same_time_do_not_outrun_the_lock(desk: Desk) -> None:
    name = new_account(desk.engine, "reader")
    refused = [0]
    lock = threading.Lock()

    def attempt(_: int) -> None:
        try:
            sign_in(desk.engine, name, "wrong", NOON)
        except SignInRefused:
            with lock:
                refused[0] += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(16)))
    assert refused == [16]
    with desk.transaction() as connection:
        tried = connection.exec_driver_sql("SELECT failed_sign_ins FROM accounts WHERE name = %s", (name,)).scalar_one()
    assert tried == FREE_TRIES, "those after it were refused without a look at the password"


def test_who_is_not_there_is_refused_in_the_same_words(desk: Desk) -> None:
    name = new_account(desk.engine, "reader")
    said = set()
    for who, password in ((name, "wrong"), ("nobody", "wrong"), ("no\x00body", PASSWORD), (name, "x" * 5000)):
        with pytest.raises(SignInRefused) as caught:
            sign_in(desk.engine, who, password, NOON)
        said.add(str(caught.value))
    assert len(said) == 1


def test_who_asks_at_once_loses_nothing_of_the_limit(desk: Desk) -> None:
    limits, limit = RequestLimits(desk.engine), 8 * SHARES

    def ask(_: int) -> int:
        granted = 0
        for _ in range(limit // 8):
            try:
                limits.take("many at once", limit, NOON)
            except TooManyRequests:
                continue
            granted += 1
        return granted

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask, range(12))) == limit


def test_processes_share_a_limit(desk: Desk) -> None:
    one, other, limit = RequestLimits(desk.engine), RequestLimits(desk.engine), 3 * SHARES
    refusals, taken = [], 0
    while not refusals and taken < 2 * limit:
        try:
            (one, other)[taken % 2].take("somebody", limit, NOON)
            taken += 1
        except TooManyRequests as refusal:
            refusals.append(refusal)
    assert limit - limit // SHARES <= taken <= limit
    assert 1 <= refusals[0].retry_after_s <= 60
    one.take("somebody else", limit, NOON)
    one.take("somebody", limit, NOON + dt.timedelta(minutes=1))
    with desk.transaction() as connection:
        forget_windows(connection, NOON + dt.timedelta(minutes=1))
        left = connection.exec_driver_sql("SELECT caller FROM request_counts").scalars().all()
    assert left == ["somebody"]


def test_what_was_read_is_on_record_and_stays(desk: Desk, desk_database: DatabaseConnection) -> None:
    ann = Principal("ann", "account", "collector")
    with desk.transaction() as connection:
        audit.note_reads(connection, ann, "score", ["u1", "u2", "u1"], NOON)
        audit.note_reads(connection, ann, "score", [], NOON)
    with desk_database.connect() as connection:
        found = connection.execute("SELECT principal, what, user_id FROM personal_data_reads ORDER BY 3").fetchall()
        assert found == [("account:ann", "score", "u1"), ("account:ann", "score", "u2")]
        for statement in (
            "DELETE FROM personal_data_reads", "TRUNCATE personal_data_reads",
            "UPDATE personal_data_reads SET principal = 'x'", "UPDATE personal_data_reads SET user_id = 'x'",
            "UPDATE personal_data_reads SET user_id = 'forgotten', read_at = now()",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.IntegrityError, match="only ever added"):
                connection.execute(statement.encode())
        connection.execute("INSERT INTO personal_data_reads (read_at, principal, kind, what, user_id, database_user) "
                           "VALUES ('2020-01-01', 'p', 'token', 'score', 'old', 'somebody')")  # fmt: skip
        wrote = connection.execute("SELECT database_user = session_user FROM personal_data_reads").fetchall()
        assert set(wrote) == {(True,)}
        assert connection.execute("DELETE FROM personal_data_reads WHERE user_id = 'old'").rowcount == 1
    held = [row for table, row in person.rows_of(desk_database, "u1") if table == "personal_data_reads"]
    assert held == [{"read_at": NOON, "kind": "account", "what": "score"}], "when, not by whom"
    assert person.forget(desk_database, "u1")["personal_data_reads"] == 1
    with desk_database.connect() as connection:
        left = connection.execute("SELECT user_id FROM personal_data_reads ORDER BY number").fetchall()
    assert left == [("forgotten",), ("u2",)]


def test_what_has_had_its_time_goes(desk: Desk) -> None:
    name, hour = new_account(desk.engine, "reader"), dt.timedelta(hours=1)
    with desk.transaction() as connection:
        remove_expired(connection, NOON + 1000 * hour, desk.lifetime.idle)
        idle = sessions.open_session(connection, name, desk.lifetime, NOON - 2 * hour)
        live = sessions.open_session(connection, name, desk.lifetime, NOON)
        for number, created in enumerate((NOON - 25 * hour, NOON)):
            connection.exec_driver_sql(
                "INSERT INTO idempotent_requests VALUES ('p', %s, '', NULL, 200, '', %s)", (str(number), created)
            )
            connection.exec_driver_sql(
                "INSERT INTO oidc_sign_ins VALUES (%s, '', '', '', '', %s)", (str(number).encode(), created)
            )
        connection.exec_driver_sql(
            "INSERT INTO personal_data_reads (read_at, principal, kind, what, user_id) "
            "VALUES (%s, 'p', 'token', 'score', 'u')",
            (NOON - 10_000 * hour,),
        )
        assert remove_expired(connection, NOON, desk.lifetime.idle) == 4
        assert sessions.find_session(connection, idle, desk.lifetime, NOON - hour) is None
        assert sessions.find_session(connection, live, desk.lifetime, NOON) is not None
        assert remove_expired(connection, NOON, desk.lifetime.idle, 366) == 1
