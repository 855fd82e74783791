"""The list of webhooks and the table of deliveries on a real server: order, claims, leases, replays, secrets."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from stream.database import migration, person
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.outputs import encode_output
from stream.settings import load_settings
from stream.webhooks import deliverer, deliveries, receivers
from stream.webhooks.addresses import AddressRules
from stream.webhooks.deliverer import Deliverer
from stream.webhooks.deliveries import Claimed, DeliveryTable, Told
from stream.webhooks.figures import WebhookFigures
from stream.webhooks.messages import Filter, Message, alert_message
from stream.webhooks.receivers import Webhook, WebhookError
from stream.webhooks.schedule import Answer, Outcome
from stream.webhooks.sealing import SealError, SealingKeys
from stream.webhooks.sender import Sender
from tests.receiver import receiving
from tests.unit.stream.webhooks.alerts import an_alert

KEYS = SealingKeys.from_hex("11" * 32)
HOOK = "https://hook.example.com/hooks/path"


def a_message(user: str, number: int) -> Message:
    return alert_message(encode_output(an_alert(user, number)))


def add_webhook(database: DatabaseConnection, name: str) -> bytes:
    return receivers.add(database, KEYS, name, HOOK, Filter(), {"topic": [5, 7]}, "ann")


def add_messages(table: DeliveryTable, messages: Sequence[Message], *names: str, again: bool = False) -> int:
    return table.add(lambda _webhooks, _connection: [Told(each, names) for each in messages], again=again)


@pytest.fixture
def table(database: DatabaseConnection) -> Iterator[DeliveryTable]:
    migration.upgrade(database)
    add_webhook(database, "crm")
    made = DeliveryTable(database)
    yield made
    made.close()


def test_processes_share_the_work_and_keep_the_order_of_each_user(
    table: DeliveryTable, database: DatabaseConnection
) -> None:
    """Some tries fail, some claims are lost as those of a process that was killed."""
    messages = [a_message(f"user-{user}", number) for number in range(6) for user in range(5)]
    add_messages(table, messages, "crm")
    add_messages(table, messages, "crm")
    taken: dict[str, list[str]] = defaultdict(list)
    lock = threading.Lock()

    def deliver(seed: int) -> None:
        chance, own = random.Random(seed), DeliveryTable(database)
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s and own.standings()[0].pending:
            for claimed in own.claim("crm", 3, lease_s=0.2):
                fate = chance.random()
                if fate < 0.2:
                    continue
                if fate < 0.4:
                    own.release(claimed)
                    continue
                with lock:
                    taken[claimed.message_id.rpartition("-")[0]].append(claimed.message_id)
                own.settle(claimed, Answer(204), 10, 0.5)
        own.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(deliver, range(3)))
    for user in range(5):
        told = taken[f"transition-user-{user}"]
        assert list(dict.fromkeys(told)) == [f"transition-user-{user}-{number}" for number in range(6)]
    assert table.standings()[0].pending == 0


def test_a_message_that_is_not_taken_waits_dies_and_lets_the_next_pass(table: DeliveryTable) -> None:
    add_messages(table, [a_message("user-1", 0), a_message("user-1", 1)], "crm")
    (first,) = table.claim("crm", 10, lease_s=60)
    assert table.claim("crm", 10, lease_s=60) == [], "it is another's, and the next one waits for it"
    assert table.settle(first, Answer(400), most_attempts=2, chance=0.0) is Outcome.REFUSED
    assert table.claim("crm", 10, lease_s=60) == [], "it pauses"
    assert table.replay("crm", [first.message_id]) == 1
    for attempt in (1, 2):
        (again,) = table.claim("crm", 10, lease_s=60)
        assert (again.message_id, again.attempts) == (first.message_id, attempt)
        table.settle(again, Answer(400, wait_s=0.0), most_attempts=2, chance=0.0)
        if attempt == 1:
            _make_due(table)
    (second,) = table.claim("crm", 10, lease_s=60)
    assert second.message_id == "transition-user-1-1"
    (row,) = table.listed("crm", "dead", 10)
    assert (row.message_id, row.last_status, row.last_error) == (first.message_id, 400, "status 400")
    assert table.replay("crm", [], dead=True) == 1


def _make_due(table: DeliveryTable) -> None:
    table._do(lambda connection: connection.execute("UPDATE webhook_deliveries SET due_at = now()"))


def _claims(table: DeliveryTable, count: int) -> list[Claimed]:
    _make_due(table)
    return table.claim("crm", count, lease_s=60)


def test_a_receiver_that_is_away_is_left_alone_and_caught_up_with(table: DeliveryTable) -> None:
    add_messages(table, [a_message(f"user-{user}", 0) for user in range(4)], "crm")
    for claimed in _claims(table, 3):
        table.settle(claimed, Answer(None, "cannot be reached"), 10, 1.0)
    (webhook,) = table.webhooks()
    assert (webhook.failures, webhook.last_error) == (3, "cannot be reached")
    assert webhook.paused_until is not None
    (last,) = table.claim("crm", 10, lease_s=60)
    table._do(lambda connection: connection.execute("UPDATE webhooks SET paused_until = now()"))
    assert table.settle(last, Answer(200), 10, 1.0) is Outcome.DELIVERED
    (webhook,) = table.webhooks()
    assert (webhook.failures, webhook.last_error, webhook.paused_until) == (0, None, None)
    assert len(table.claim("crm", 10, lease_s=60)) == 3, "what failed for its sake is due again"


def test_who_is_gone_is_disabled_and_keeps_what_it_is_to_be_told(
    table: DeliveryTable, database: DatabaseConnection
) -> None:
    add_messages(table, [a_message("user-1", 0)], "crm")
    (claimed,) = table.claim("crm", 1, lease_s=60)
    assert table.settle(claimed, Answer(410), 1, 0.5) is Outcome.GONE
    assert [webhook.state for webhook in table.webhooks()] == ["disabled"]
    assert table.standings()[0].pending == 1
    receivers.set_state(database, "crm", "active")
    assert [webhook.state for webhook in table.webhooks()] == ["active"]


def test_who_has_lost_a_claim_settles_nothing(table: DeliveryTable) -> None:
    add_messages(table, [a_message("user-1", 0)], "crm")
    (lost,) = table.claim("crm", 1, lease_s=0)
    (held,) = table.claim("crm", 1, lease_s=60)
    assert table.settle(lost, Answer(204), 10, 0.5) is None
    assert table.standings()[0].pending == 1
    assert table.settle(held, Answer(204), 10, 0.5) is Outcome.DELIVERED
    table.release(lost)
    assert table.standings()[0].pending == 0


def test_what_is_told_again_comes_in_order(table: DeliveryTable) -> None:
    messages = [a_message("user-1", number) for number in range(3)]
    add_messages(table, messages[1:], "crm")
    while claimed := table.claim("crm", 1, lease_s=60):
        table.settle(claimed[0], Answer(204), 10, 0.5)
    add_messages(table, messages, "crm", again=True)
    told = []
    while claimed := table.claim("crm", 1, lease_s=60):
        told.append(claimed[0].message_id)
        table.settle(claimed[0], Answer(204), 10, 0.5)
    assert told == [message.message_id for message in messages]


def told_in_order(table: DeliveryTable) -> list[str]:
    told = []
    while claimed := table.claim("crm", 10, lease_s=60):
        for one in claimed:
            told.append(one.message_id)
            table.settle(one, Answer(204), 10, 0.5)
    return told


def test_what_is_pending_keeps_its_place_when_it_is_told_again(table: DeliveryTable) -> None:
    """Of a time that ends before the last message: it would else overtake those before it."""
    messages = [a_message("user-1", number) for number in range(3)]
    add_messages(table, messages, "crm")
    add_messages(table, messages[:2], "crm", again=True)
    assert told_in_order(table) == [message.message_id for message in messages]


@pytest.mark.parametrize("by_id", [True, False])
def test_what_is_under_way_is_not_sent_a_second_time_meanwhile(table: DeliveryTable, by_id: bool) -> None:
    messages = [a_message("user-1", number) for number in range(2)]
    add_messages(table, messages, "crm")
    (under_way,) = table.claim("crm", 10, lease_s=60)
    if by_id:
        table.replay("crm", [under_way.message_id])
    else:
        add_messages(table, messages, "crm", again=True)
    assert table.claim("crm", 10, lease_s=60) == []
    assert table.settle(under_way, Answer(204), 10, 0.5) is Outcome.DELIVERED
    assert told_in_order(table) == [messages[1].message_id]


def test_what_is_older_is_put_before_what_is_there_already(table: DeliveryTable) -> None:
    messages = [a_message("user-1", number) for number in range(4)]
    add_messages(table, messages[2:], "crm")
    places = {message.message_id: number - 3 for number, message in enumerate(messages[:3])}
    told = [Told(message, ("crm",)) for message in messages[:3]]
    assert table.add_before(lambda _webhooks, _connection: told, places) == 3
    add_messages(table, messages, "crm")
    assert told_in_order(table) == [message.message_id for message in messages]


def test_a_pause_that_is_asked_for_outlasts_what_was_under_way(table: DeliveryTable) -> None:
    """Of a receiver that takes so many a minute, and takes one more while it refuses the next."""
    add_messages(table, [a_message(f"user-{user}", 0) for user in range(2)], "crm")
    first, second = table.claim("crm", 10, lease_s=60)
    table.settle(first, Answer(429, wait_s=60.0), 10, 0.5)
    assert table.settle(second, Answer(204), 10, 0.5) is Outcome.DELIVERED
    (webhook,) = table.webhooks()
    assert webhook.failures == 0
    assert webhook.paused_until is not None
    assert webhook.paused_until - webhook.created_at > dt.timedelta(seconds=30)


class Faulty(DeliveryTable):
    """A table whose list of webhooks cannot be read the second time."""

    looks = 0

    def webhooks(self) -> list[Webhook]:
        self.looks += 1
        if self.looks == 2:
            raise DatabaseUnavailable("away")
        return super().webhooks()


def a_deliverer(table: DeliveryTable, sender: Sender) -> Deliverer:
    settings = load_settings(webhook_networks="127.0.0.0/8", webhook_timeout_s=2)
    return Deliverer(settings, table, KEYS, sender, WebhookFigures())


async def test_a_database_that_goes_away_when_a_receiver_is_gone_ends_nothing(
    table: DeliveryTable, database: DatabaseConnection
) -> None:
    with receiving(lambda _: 410) as receiver:
        receivers.add(database, KEYS, "gone", receiver.address(), Filter(), {}, "ann")
        add_messages(table, [a_message("user-1", 0)], "gone")
        faulty, stopping = Faulty(database), asyncio.Event()
        async with Sender(AddressRules.parse("127.0.0.0/8"), 2) as sender:
            running = asyncio.create_task(a_deliverer(faulty, sender).run(stopping))
            async with asyncio.timeout(20):
                while faulty.looks < 4:
                    await asyncio.sleep(0.05)
            stopping.set()
            await running
        faulty.close()
    assert len(receiver.requests) == 1
    assert [webhook.state for webhook in table.webhooks() if webhook.name == "gone"] == ["disabled"]


async def test_a_message_that_was_not_tried_in_time_has_not_been_tried(table: DeliveryTable) -> None:
    add_messages(table, [a_message("user-1", 0)], "crm")
    (webhook,), (claimed,) = table.webhooks(), table.claim("crm", 1, lease_s=60)
    async with Sender(AddressRules(), 2) as sender:
        deliverer = a_deliverer(table, sender)
        await deliverer._deliver(webhook, claimed, time.monotonic() - 60)
    (again,) = table.claim("crm", 1, lease_s=60)
    assert (again.message_id, again.attempts) == (claimed.message_id, 1)


def test_what_is_old_and_who_is_forgotten_is_cleared_away(table: DeliveryTable, database: DatabaseConnection) -> None:
    add_messages(table, [a_message(f"user-{user}", 0) for user in range(3)], "crm")
    (claimed,) = table.claim("crm", 1, lease_s=60)
    table.settle(claimed, Answer(204), 10, 0.5)
    assert table.prune(keep_days=1) == 0
    assert table.prune(keep_days=0) == 1
    table.add(lambda _webhooks, _connection: [], forgotten={"user-1"})
    assert {row.user_id for row in table.listed("crm", None, 10)} == {"user-2"}
    assert person.count(database, "user-2") == {"webhook_deliveries": 1}
    person.forget(database, "user-2")
    assert table.listed(None, None, 10) == []


async def test_what_was_settled_long_ago_is_cleared_away_meanwhile_in_parts(
    table: DeliveryTable, database: DatabaseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is still to be told stays, however old it is, and so does what was settled of late."""
    for module in (deliveries, deliverer):
        monkeypatch.setattr(module, "PRUNED_AT_ONCE", 2)
    monkeypatch.setattr(deliverer, "LOOK_EVERY_S", 0.01)
    add_messages(table, [a_message(f"user-{user}", 0) for user in range(5)], "crm")
    *settled, pending = table.claim("crm", 5, lease_s=60)
    for number, claimed in enumerate(settled):
        answer = Answer(204) if number < 3 else Answer(400)
        assert table.settle(claimed, answer, most_attempts=1, chance=0.5) in (Outcome.DELIVERED, Outcome.REFUSED)
    kept = {settled[0].message_id, pending.message_id}
    receivers.set_state(database, "crm", "disabled")

    def age(*message_ids: str) -> None:
        older = "UPDATE webhook_deliveries SET created_at = created_at - interval '31 days', "
        older += "settled_at = settled_at - interval '31 days' WHERE message_id = ANY(%s)"
        table._do(lambda connection: connection.execute(older.encode(), (list(message_ids),)))

    def left() -> set[str]:
        return {row.message_id for row in table.listed("crm", None, 10)}

    age(*(one.message_id for one in settled[1:]), pending.message_id)
    now_s, own, stopping = [1_000.0], DeliveryTable(database), asyncio.Event()
    async with Sender(AddressRules(), 2) as sender:
        made = Deliverer(load_settings(), own, KEYS, sender, WebhookFigures(), monotonic=lambda: now_s[0])
        running = asyncio.create_task(made.run(stopping))

        async def wait_for(expected: set[str]) -> None:
            async with asyncio.timeout(20):
                while await asyncio.to_thread(left) != expected:
                    await asyncio.sleep(0.01)

        await wait_for(kept)
        # Then it looks again after a while only.
        age(settled[0].message_id)
        looked = made._figures.waiting
        now_s[0] += deliverer.FIGURES_EVERY_S
        async with asyncio.timeout(20):
            while made._figures.waiting is looked:
                await asyncio.sleep(0.01)
        assert left() == kept
        now_s[0] += deliverer.PRUNE_EVERY_S
        await wait_for({pending.message_id})
        stopping.set()
        await running
    own.close()


def test_secrets_are_kept_encrypted_rotated_and_sealed_anew(table: DeliveryTable, database: DatabaseConnection) -> None:
    now = table.webhooks()[0].created_at
    secret = add_webhook(database, "other")
    with pytest.raises(WebhookError, match="already"):
        add_webhook(database, "other")
    with pytest.raises(WebhookError, match="no name"):
        add_webhook(database, "Ä B")
    found = receivers.find(database, "other")
    assert found.secrets(KEYS, now) == [secret]
    assert secret not in found.secret
    assert secret.hex() not in repr(found)
    assert HOOK not in repr(found)
    new = receivers.rotate(database, KEYS, "other", overlap_s=3600)
    found = receivers.find(database, "other")
    assert found.former_secret_until is not None
    assert found.secrets(KEYS, now) == [new, secret]
    assert found.secrets(KEYS, found.former_secret_until) == [new]
    with pytest.raises(SealError):
        found.secrets(SealingKeys.from_hex("22" * 32), now)
    both = SealingKeys.from_hex("22" * 32 + "," + "11" * 32)
    assert (receivers.reseal(database, both), receivers.reseal(database, both)) == (2, 0)
    assert receivers.find(database, "other").secrets(SealingKeys.from_hex("22" * 32), now) == [new, secret]
    assert (found.begins("topic", 1), found.begins("topic", 2), found.begins("another", 0)) == (7, 0, 0)
    add_messages(table, [a_message("user-1", 0)], "other")
    assert receivers.remove(database, "other") == 1
    with pytest.raises(WebhookError, match="there is no webhook 'other'"):
        receivers.remove(database, "other")
