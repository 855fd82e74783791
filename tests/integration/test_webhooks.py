"""Webhooks on the real broker and database, with a receiver on this machine: each alert at least once, in order per
user, with the same id and bytes when it is sent again, whatever is killed or away meanwhile.

The oracle is the topic of alerts.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from psycopg import sql

from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.outputs import Alert, encode_output
from stream.webhooks.signing import NotSigned, require_signed, secret_from
from tests import forked
from tests.receiver import Received, Receiver, receiving
from tests.unit.stream.webhooks.alerts import an_alert

Deploy = Callable[..., Any]
KEY = "11" * 32

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def deployment(deploy: Deploy, database: DatabaseConnection) -> Any:
    migration.upgrade(database)
    return deploy(
        database_url=database.url, partitions=2, webhook_key=KEY, webhook_networks="127.0.0.0/8", webhook_timeout_s=2
    )


def command(deployment: Any, *arguments: str) -> Any:
    """Runs `foreshock webhooks …` with the deployment's settings."""
    environment = {
        **os.environ,
        **{f"FORESHOCK_{key.upper()}": str(value) for key, value in deployment.options.items()},
    }
    environment.setdefault("FORESHOCK_BOOTSTRAP_SERVERS", deployment.kafka.bootstrap_servers)
    done = forked.run(["webhooks", *arguments], environment=environment)
    assert done.returncode == 0, done.stderr
    return done


def add(deployment: Any, name: str, address: str, *options: str) -> bytes:
    """Adds a webhook; returns its secret."""
    return secret_from(json.loads(command(deployment, "add", name, address, "--json", *options).stdout)["secret"])


def publish(deployment: Any, alerts: list[Alert]) -> None:
    """Each user's on a partition of their own."""
    for partition in range(2):
        own = [alert for alert in alerts if partition_of(alert.user_id) == partition]
        records = [(alert.user_id.encode(), encode_output(alert)) for alert in own]
        deployment.send_raw("alerts", records, partition)


def partition_of(user: str) -> int:
    return int(user.removeprefix("user-")) % 2


def story(users: int, transitions: int = 3, since: int = 0) -> list[Alert]:
    """Transitions of alerts, in turn for all users."""
    kinds = ("opened", "escalated", "cleared")
    return [
        an_alert(f"user-{user}", since + number, kinds[number % 3])
        for number in range(transitions)
        for user in range(users)
    ]


def in_order(receiver: Receiver, alerts: list[Alert]) -> bool:
    """Whether every alert was taken, and of each user first in the order of the topic; what came again came unchanged,
    and with its id."""
    by_id: dict[str, bytes] = {}
    first: dict[str, list[str]] = {}
    for received in list(receiver.accepted):
        if by_id.setdefault(received.message_id, received.body) != received.body:
            raise AssertionError(f"{received.message_id} was sent with two bodies")
        ids = first.setdefault(received.user, [])
        if received.message_id not in ids:
            ids.append(received.message_id)
    wanted: dict[str, list[str]] = {}
    for alert in alerts:
        wanted.setdefault(alert.user_id, []).append(alert.transition_id)
    for user, ids in first.items():
        assert ids == wanted.get(user, [])[: len(ids)], f"{user}: {ids} and not {wanted.get(user)}"
    return first == wanted


@contextmanager
def database_away(server: DatabaseConnection, database: DatabaseConnection) -> Iterator[None]:
    """It takes no connections, and has ended those that there were."""
    name = urlsplit(database.url).path[1:]
    change = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with server.connect() as operator:
        operator.execute(change.format(sql.Identifier(name), sql.SQL("false")))
        operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            operator.execute(change.format(sql.Identifier(name), sql.SQL("true")))


def test_alerts_are_signed_and_told_to_who_wants_them(deployment: Any) -> None:
    alerts = story(users=6)
    publish(deployment, story(users=2, since=90))  # before anybody was there to be told
    with receiving() as receiver:
        secret = add(deployment, "all", receiver.address("/all"))
        add(deployment, "high", receiver.address("/high"), "--level", "HIGH", "--transition", "opened")
        publish(deployment, alerts)
        with deployment.running("webhooks run", "webhooks") as process:
            wanted = [alert for alert in alerts if "HIGH" in alert.level_to and alert.kind == "opened"]
            deployment.wait(
                lambda: len(receiver.accepted) == len(alerts) + len(wanted), "all to be told", process, seconds=30
            )
            assert "whsec" not in process.log_text()
        for received in receiver.accepted:
            assert received.headers["content-type"] == "application/json"
        own = [received for received in receiver.accepted if received.path == "/all"]
        for received in own:
            assert require_signed(secret, received.headers, received.body, time.time()) == received.message_id
            told = msgspec.json.decode(msgspec.json.encode(received.message["data"]), type=Alert)
            assert told in alerts
            assert received.message["type"] == f"alert.{told.kind}"
            with pytest.raises(NotSigned):
                require_signed(secret, received.headers, received.body + b" ", time.time())
        assert {received.message_id for received in own} == {alert.transition_id for alert in alerts}
        others = {received.message_id for received in receiver.accepted if received.path == "/high"}
        assert others == {alert.transition_id for alert in wanted}
        assert others


def test_nothing_is_lost_by_a_receiver_a_database_and_deliverers_that_go_away(
    deployment: Any, database: DatabaseConnection, server_database: DatabaseConnection
) -> None:
    alerts = story(users=8, transitions=6)
    third = len(alerts) // 3
    slow = 0.03

    def unsteady(_: Received) -> int:
        time.sleep(slow)
        return 503 if time.monotonic() < away_until_s else 204

    away_until_s = time.monotonic() + 2
    with receiving(unsteady) as receiver, ExitStack() as processes:
        add(deployment, "crm", receiver.address())
        begin = lambda name: processes.enter_context(deployment.running("webhooks run", name))  # noqa: E731
        first, second = begin("first"), begin("second")
        publish(deployment, alerts[:third])
        deployment.wait(lambda: len(receiver.accepted) > third // 2, "some to be told", first, seconds=40)
        publish(deployment, alerts[third : 2 * third])
        deployment.kill(first)
        with database_away(server_database, database):
            deployment.wait(lambda: "trying again" in second.log_text() or "sent again" in second.log_text(),
                            "the outage to be noticed", second, seconds=40)  # fmt: skip
            publish(deployment, alerts[2 * third :])
        third_one = begin("third")
        deployment.wait(lambda: in_order(receiver, alerts), "all to be told", third_one, seconds=60)
        deployment.kill(second)
    waiting = json.loads(command(deployment, "list", "--json").stdout)
    assert [(one["name"], one["pending"], one["dead"]) for one in waiting] == [("crm", 0, 0)]


def test_a_receiver_that_hangs_or_refuses_holds_up_no_other(deployment: Any) -> None:
    alerts = story(users=6)
    stubborn = alerts[0].user_id

    def behave(received: Received) -> int:
        if received.path == "/hangs":
            time.sleep(5)
        if received.path == "/redirects":
            return 302
        return 400 if received.path == "/refuses" and received.user == stubborn else 204

    with receiving(behave) as receiver:
        receiver.extra_headers["Location"] = receiver.address("/elsewhere")
        for name in ("hangs", "refuses", "redirects", "works"):
            add(deployment, name, receiver.address(f"/{name}"))
        publish(deployment, alerts)
        with deployment.running("webhooks run", "webhooks", webhook_attempts=2) as process:

            def told(path: str) -> set[str]:
                return {received.message_id for received in receiver.accepted if received.path == path}

            everything = {alert.transition_id for alert in alerts}
            others = {alert.transition_id for alert in alerts if alert.user_id != stubborn}
            deployment.wait(lambda: told("/works") == everything, "who works to be told", process, seconds=20)
            deployment.wait(lambda: told("/refuses") >= others, "the others of who refuses", process, seconds=20)
            assert told("/refuses") == others, "of the user whose message is refused nothing overtakes it"
            deployment.wait(lambda: "is dead after 2 tries" in process.log_text(), "death", process, seconds=40)
        assert {received.path for received in receiver.requests}.isdisjoint({"/elsewhere"})
        assert "redirects are not followed" in command(deployment, "deliveries", "redirects").stdout
        assert "has not answered within 2 s" in command(deployment, "list").stdout
        receiver.behaviour = lambda _: 204
        command(deployment, "replay", "refuses", "--dead")
        with deployment.running("webhooks run", "again"):
            deployment.wait(lambda: told("/refuses") == everything, "what was dead", seconds=30)


def test_a_secret_is_replaced_and_what_was_told_is_told_again(deployment: Any) -> None:
    alerts = story(users=2)
    with receiving() as receiver, deployment.running("webhooks run", "webhooks") as process:
        former = add(deployment, "crm", receiver.address())
        publish(deployment, alerts)
        deployment.wait(lambda: in_order(receiver, alerts), "all to be told", process, seconds=30)
        assert b"whsec" not in base64.b64encode(former)
        told = command(deployment, "rotate", "crm", "--overlap-hours", "1", "--json").stdout
        secret = secret_from(json.loads(told)["secret"])
        before = len(receiver.accepted)
        time.sleep(1.2)  # until the process has looked at the list
        command(deployment, "replay", "crm", "--id", alerts[0].transition_id)
        deployment.wait(lambda: len(receiver.accepted) == before + 1, "one again", process, seconds=20)
        last = receiver.accepted[-1]
        assert last.message_id == alerts[0].transition_id
        assert last.body == next(each.body for each in receiver.accepted if each.message_id == last.message_id)
        for known in (former, secret):
            require_signed(known, last.headers, last.body, time.time())
        command(deployment, "replay", "crm", "--since", "2020-01-01")
        deployment.wait(lambda: len(receiver.accepted) == before + 1 + len(alerts), "all again", process, seconds=20)
        assert in_order(receiver, alerts)
