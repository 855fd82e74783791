"""What was done about alerts reaches the topic: at least once and in order, whatever ends in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from desk.access.principals import Principal
from desk.cases.actions import Asked, act
from desk.cases.rules import CaseRules
from desk.clerk import Clerk
from desk.outbox import ActionProducer, NotPublished, Outbox
from stream.case_records import AlertAction, PromisedPayment
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import create_topics
from stream.kafka.topic_reader import TopicReader
from stream.settings import Settings, load_settings
from tests.desk_data import DAY, Borrower, write_portfolio
from tests.integration.desk.conftest import NOON, SetClock
from tests.integration.test_database_writer import a_score, an_alert

ANN = Principal("ann", "account", "collector")
RULES = CaseRules()

# Publishes as the clerk does, and is killed when the brokers have the records and no row says so.
KILLED = """
    import os, signal, sys
    from desk.clerk import Clerk
    from desk.cases.rules import CaseRules
    from desk.clock import system_clock
    from desk.outbox import ActionProducer
    from stream.database.connection import DatabaseConnection
    from stream.kafka.connection import KafkaConnection
    from stream.settings import load_settings
    settings = load_settings(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
    producer = ActionProducer(KafkaConnection.from_settings(settings), settings)
    def send(records):
        producer(records)
        os.kill(os.getpid(), signal.SIGKILL)
    Clerk(DatabaseConnection(sys.argv[3]).open_engine(), CaseRules(), send, system_clock).turn()
"""


@pytest.fixture
def topics(kafka: KafkaConnection, topic_prefix: str) -> Settings:
    settings = load_settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix)
    create_topics(kafka, settings)
    return settings


def published(kafka: KafkaConnection, settings: Settings) -> dict[str, list[AlertAction]]:
    """Records by alert, in the order of the topic. A repeat has the same bytes."""
    found: defaultdict[str, list[AlertAction]] = defaultdict(list)
    by_id: dict[str, bytes] = {}
    topic = settings.topics.alert_actions
    with TopicReader(kafka) as reader:
        for partition in range(reader.partitions(topic)):
            for batches, _ in reader.records([topic], partition):
                for record in batches.get(topic, []):
                    action = msgspec.json.decode(record.value, type=AlertAction)
                    assert record.key == action.user_id.encode()
                    assert by_id.setdefault(action.action_id, record.value) == record.value
                    found[action.alert_id].append(action)
    return dict(found)


def test_a_kill_between_an_action_and_its_publication_loses_nothing(
    kafka: KafkaConnection, topics: Settings, desk_database: DatabaseConnection, clock: SetClock
) -> None:
    borrowers = [Borrower(f"o{number}") for number in range(5)]
    write_portfolio(desk_database, borrowers, NOON)
    engine = desk_database.open_engine("tests", kept=4)
    work_on(engine, borrowers, "start")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), kafka.bootstrap_servers, topics.topic_prefix]
    killed = subprocess.run([*command, desk_database.url], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    work_on(engine, borrowers, "promise", promise=PromisedPayment(amount=50.0, due_on=NOON.date() + DAY))

    producer = ActionProducer(kafka, topics)
    clerk = Clerk(engine, RULES, producer, clock)
    assert clerk.turn().published == 15
    assert clerk.turn().published == 0
    producer.close()
    engine.dispose()
    found = published(kafka, topics)
    assert found.keys() >= {one.alert_id for one in borrowers}
    for borrower in borrowers:
        done = found[borrower.alert_id]
        assert [one.version for one in done] == [1, 2, 1, 2, 3]
        assert [one.action for one in done[2:]] == ["open", "start", "promise"]
        assert done[-1].promise == PromisedPayment(amount=50.0, due_on=NOON.date() + DAY)
        assert (done[-1].actor, done[-1].level, done[-1].product, done[-1].at) == ("ann", "MEDIUM", "card", NOON)


def work_on(engine: Engine, borrowers: Sequence[Borrower], action: Any, **said: Any) -> None:
    with engine.begin() as connection:
        for one in borrowers:
            act(connection, ANN, Asked(one.alert_id, action, **said), NOON, RULES)


def test_while_no_broker_takes_them_actions_wait(desk_database: DatabaseConnection) -> None:
    borrower = Borrower("waits")
    write_portfolio(desk_database, [borrower], NOON)
    engine = desk_database.open_engine("tests")

    def refuses(_records: object) -> None:
        raise NotPublished("no broker")

    waiting = text("SELECT count(*) FROM case_actions WHERE published_at IS NULL AND alert_id = :id")
    with pytest.raises(NotPublished), engine.begin() as connection:
        Outbox(refuses).publish(connection, NOON)
    with engine.begin() as connection:
        assert connection.execute(waiting, {"id": borrower.alert_id}).scalar_one() == 1
        sent: list[Sequence[tuple[bytes, bytes]]] = []
        assert Outbox(sent.append).publish(connection, NOON) == len(sent[0])
        assert connection.execute(waiting, {"id": borrower.alert_id}).scalar_one() == 0
    engine.dispose()


def test_what_a_borrower_has_two_cases_for_is_published_in_the_order_in_which_it_was_done(
    desk_database: DatabaseConnection,
) -> None:
    """Two collectors work on two cases of one borrower; who began first ends last."""
    alerts = [an_alert("opened", number, f"twice-{name}", user_id="twice") for number, name in enumerate("ab", 1)]
    with DatabaseWriter(desk_database) as writer:
        writer.write([a_score("twice", 1)], alerts, [])
    engine = desk_database.open_engine("tests", kept=4)
    sent: list[str] = []
    outbox = Outbox(lambda records: sent.extend(msgspec.json.decode(value)["alert_id"] for _, value in records))
    with engine.begin() as connection:
        outbox.publish(connection, NOON)
    sent.clear()
    with engine.connect() as first:
        begun = first.begin()
        act(first, ANN, Asked("twice-a", "start"), NOON, RULES)
        with engine.begin() as second:
            act(second, ANN, Asked("twice-b", "start"), NOON, RULES)
        with engine.begin() as connection:
            assert outbox.publish(connection, NOON) == 0, "the second waits for the first"
        with engine.begin() as later:
            act(later, ANN, Asked("twice-b", "note", reason="called"), NOON, RULES)
        begun.commit()
        with engine.connect() as other:
            still = other.begin()  # who begins to write afterwards holds up nobody
            act(other, ANN, Asked("twice-b", "note", reason="wrote"), NOON, RULES)
            with engine.begin() as connection:
                assert outbox.publish(connection, NOON) == 2
            still.commit()
    with engine.begin() as connection:
        assert outbox.publish(connection, NOON) == 2
    assert sent == ["twice-a", "twice-b", "twice-b", "twice-b"]
    engine.dispose()
