"""Webhooks through what the other tests do not end: brokers that are killed, a process that is killed at each of its
two commits, and a webhook that is added late. Alerts and actions on their cases, each from its topic: at least once,
and in order per user.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stream.case_records import CASE_ACTIONS, AlertAction, encode_action
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.doctor import examine
from stream.embedded.kafka import EmbeddedKafka
from stream.outputs import SOURCE_HEADER, Alert
from stream.status import Group, Observer
from stream.topics import webhook_group
from tests.integration.test_webhooks import KEY, add, command, partition_of, publish, story
from tests.receiver import Received, Receiver, receiving
from tests.unit.stream.webhooks.alerts import JANUARY

Deploy = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

OPTIONS = {"partitions": 2, "webhook_key": KEY, "webhook_networks": "127.0.0.0/8", "webhook_timeout_s": 2}

# Ends at the first commit of offsets: the rows are in the table, and the topic will be read again.
ENDS_BEFORE_IT_COMMITS = """
import os, signal
from stream.webhooks.intake import Intake
async def ends(*_):
    os.kill(os.getpid(), signal.SIGKILL)
Intake._commit = ends
"""


@pytest.fixture
def deployment(deploy: Deploy, database: DatabaseConnection) -> Any:
    migration.upgrade(database)
    return deploy(database_url=database.url, **OPTIONS)


def deeds(users: int, each: int, since: int = 0) -> list[AlertAction]:
    """Actions on cases, in turn for all users; of two cases of each."""
    return [
        AlertAction(
            action_id=f"action-user-{user}-{number}", alert_id=f"alert-user-{user}-{number % 2}",
            user_id=f"user-{user}",
            action=CASE_ACTIONS[number % len(CASE_ACTIONS)], status_from="open", status_to="in_progress", level="HIGH",
            actor="ann", at=JANUARY, version=number // 2 + 1, product="card",
        )
        for number in range(since, since + each)
        for user in range(users)
    ]  # fmt: skip


def publish_deeds(deployment: Any, actions: Sequence[AlertAction]) -> None:
    for partition in range(2):
        own = [action for action in actions if partition_of(action.user_id) == partition]
        deployment.send_raw("alert-actions", [(one.user_id.encode(), encode_action(one)) for one in own], partition)


def first_taken(receiver: Receiver, path: str, kind: str) -> dict[str, list[str]]:
    """Ids of messages by user, as a receiver that leaves repeats out has them."""
    found: dict[str, list[str]] = {}
    for received in list(receiver.accepted):
        if received.path == path and received.message["type"].startswith(kind):
            ids = found.setdefault(received.user, [])
            if received.message_id not in ids:
                ids.append(received.message_id)
    return found


def by_user(items: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, message_id in items:
        found.setdefault(user, []).append(message_id)
    return found


def of_alerts(alerts: Sequence[Alert]) -> dict[str, list[str]]:
    return by_user([(alert.user_id, alert.transition_id) for alert in alerts])


def of_deeds(actions: Sequence[AlertAction]) -> dict[str, list[str]]:
    return by_user([(action.user_id, action.action_id) for action in actions])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that a test may kill."""
    kafka = EmbeddedKafka(tmp_path / "kafka")
    kafka.start()
    yield kafka
    kafka.stop()


def test_a_broker_that_is_killed_loses_no_message(
    broker: EmbeddedKafka, deploy_on: Deploy, database: DatabaseConnection
) -> None:
    """While it is away, what is in the table is sent on; alerts and actions come in order from before and after."""
    migration.upgrade(database)
    deployment = deploy_on(broker.connection, database_url=database.url, **OPTIONS)
    alerts, actions = story(users=6, transitions=6), deeds(users=6, each=6)
    half = len(alerts) // 2
    taken = threading.Semaphore(0)

    def slowly(_: Received) -> int:
        time.sleep(0.02)
        taken.release()
        return 204

    with receiving(slowly) as receiver:
        add(deployment, "alerts", receiver.address("/alerts"))
        add(deployment, "both", receiver.address("/both"), "--transition", "opened", "--transition", "escalated",
            "--transition", "cleared", "--action", "all")  # fmt: skip
        with deployment.running("webhooks run", "webhooks", broker_timeout_s=240) as process:
            publish(deployment, alerts[:half])
            publish_deeds(deployment, actions[:half])
            assert taken.acquire(timeout=60), process.log_tail(40)
            os.kill(broker.identity.pid, signal.SIGKILL)
            time.sleep(1.5)
            assert process.alive
            broker.stop()
            broker.start()
            publish(deployment, alerts[half:])
            publish_deeds(deployment, actions[half:])

            def all_told() -> bool:
                return (
                    first_taken(receiver, "/alerts", "alert.") == of_alerts(alerts)
                    and first_taken(receiver, "/both", "alert.") == of_alerts(alerts)
                    and first_taken(receiver, "/both", "case.") == of_deeds(actions)
                )

            deployment.wait(all_told, "all to be told in order", process, seconds=60)
        assert first_taken(receiver, "/alerts", "case.") == {}


def test_a_process_that_is_killed_at_either_commit_tells_all_at_least_once(deployment: Any) -> None:
    """Once when the rows are there and the offsets are not; once when a message was taken and no row says so."""
    alerts, actions = story(users=4, transitions=3), deeds(users=4, each=4)
    victims: list[Any] = []

    def deadly(received: Received) -> int:
        if victims and received.message_id == alerts[5].transition_id:
            deployment.kill(victims.pop())
        return 204

    with receiving(deadly) as receiver:
        add(deployment, "crm", receiver.address(), *("--transition", "opened"), *("--transition", "escalated"),
            *("--transition", "cleared"), "--action", "all")  # fmt: skip
        publish(deployment, alerts)
        publish_deeds(deployment, actions)
        with deployment.running("webhooks run", "first", fault=ENDS_BEFORE_IT_COMMITS) as first:
            deployment.wait(lambda: not first.alive, "its end", seconds=60)
        group = webhook_group(deployment.settings.application_id)
        assert deployment.committed(group, deployment.topics.told_to_webhooks) == 0
        with deployment.running("webhooks run", "second") as second:
            victims.append(second)
            deployment.wait(lambda: not second.alive, "its end", seconds=60)
        with deployment.running("webhooks run", "third") as third:

            def all_told() -> bool:
                return first_taken(receiver, "/hook", "alert.") == of_alerts(alerts) and first_taken(
                    receiver, "/hook", "case."
                ) == of_deeds(actions)

            deployment.wait(all_told, "all to be told in order", third, seconds=60)
            deployment.wait(
                lambda: json.loads(command(deployment, "list", "--json").stdout)[0]["pending"] == 0, "the last note"
            )
        again = [received.message_id for received in receiver.accepted].count(alerts[5].transition_id)
        assert again == 2, "what was taken when it was killed came again, and nothing else is known of it"


def test_a_webhook_that_is_added_late_is_told_everything_from_the_beginning_in_order(deployment: Any) -> None:
    """Those who deliver have read past it long ago. Who is forgotten is not told of."""
    before, after = story(users=4, transitions=3), story(users=4, transitions=3, since=3)
    actions = deeds(users=4, each=3)
    with receiving() as receiver, deployment.running("webhooks run", "webhooks") as process:
        add(deployment, "early", receiver.address("/early"))
        publish(deployment, before)
        publish_deeds(deployment, actions)
        deployment.wait(lambda: first_taken(receiver, "/early", "alert.") == of_alerts(before), "early", process, 30)
        deployment.send_raw("alerts", [(b"user-3", None, [(SOURCE_HEADER, b"profiles:1:7")])], 1)
        add(deployment, "late", receiver.address("/late"), "--from-beginning", "--transition", "opened",
            "--transition", "escalated", "--transition", "cleared", "--action", "all")  # fmt: skip
        publish(deployment, after)
        wanted = [alert for alert in before if alert.user_id != "user-3"] + after
        deployment.wait(
            lambda: (
                first_taken(receiver, "/late", "alert.") == of_alerts(wanted)
                and first_taken(receiver, "/late", "case.")
                == of_deeds([action for action in actions if action.user_id != "user-3"])
            ),
            "late", process, 30,
        )  # fmt: skip
        command(deployment, "replay", "early", "--since", "2020-01-01")
        twice = len(before) + len(wanted) + len(after)
        deployment.wait(
            lambda: len([1 for one in receiver.accepted if one.path == "/early"]) == twice, "again", process
        )


def test_doctor_and_status_say_how_far_webhooks_are_behind(deployment: Any, database: DatabaseConnection) -> None:
    def examined() -> dict[str, Any]:
        found = examine(deployment.settings, deployment.kafka, database)
        return {finding.subject: finding for finding in found if "webhook" in finding.subject}

    observer = Observer(deployment.settings, deployment.kafka, None)
    assert (examined(), observer.look().webhooks, observer.look().webhook_lag) == ({}, None, None)
    with receiving() as receiver:
        add(deployment, "crm", receiver.address(), "--action", "all")
        assert "nobody has ever read as group" in examined()["webhooks"].message
        publish_deeds(deployment, deeds(users=2, each=3))
        with deployment.running("webhooks run", "webhooks") as process:
            deployment.wait(lambda: len(receiver.accepted) == 6, "all to be told", process, seconds=40)
            deployment.wait(lambda: isinstance(observer.look().webhooks, Group), "the first commit", process, 20)
            found = observer.look().webhooks
            assert isinstance(found, Group)
            assert found.state == "Stable"
        publish_deeds(deployment, deeds(users=2, each=2, since=3))
        lags = observer.look().webhook_lag
        assert isinstance(lags, list)
        assert {lag.topic: lag.records for lag in lags} == {
            deployment.topics.alerts: 0,
            deployment.topics.alert_actions: 4,
        }
        well = examined()["webhooks"]
        assert (well.level, "has 4 records to read" in well.message) == ("ok", True)
        command(deployment, "disable", "crm")
        assert "it is disabled" in examined()["webhook crm"].message
