"""Sends refused records back to their input topics, each dead letter once.

What is sent, and a record for each letter in the book (the topic `Topics.sent_back`, key = id of the dead letter), are
one Kafka transaction: both count or neither. There is one transactional id for all who send letters back, so whoever
begins ends what another left open, and fences it, before the book is read: a run that was killed, was interrupted, or
runs beside this one has sent a letter exactly when the book says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from events.types import MAX_VALUE_BYTES
from stream.dead_letters.letters import LetterFilter, Letters, StoredLetter
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import topic_states
from stream.kafka.record import Header
from stream.kafka.record_batches import BATCH_BYTES, send_records
from stream.kafka.topic_reader import TopicReader, TopicUnreadable
from stream.outputs import SENT_BACK_HEADER, DeadLetter
from stream.settings import Settings
from stream.topics import DEAD_LETTER_MAX_BYTES

CHUNK_LETTERS, CHUNK_BYTES = 500, 4 * 1024 * 1024
"""What one transaction sends at most. Readers of the inputs wait for its end, so it is short."""

TRANSACTION_TIMEOUT_MS = 15_000
"""After so long the broker ends a transaction of a run that was killed; workers wait for that on the inputs."""

RECORD_ROOM_BYTES = 200
"""Of a record, what is set aside for everything but key, value and headers."""

USUAL_MAX_BYTES = 1_048_588
"""Kafka's default for the largest batch of a topic, for where a client may not see its settings."""


class SendingFailed(RuntimeError):
    """Not all was sent; the message says why, and that the same command goes on."""


class SentBack(msgspec.Struct, frozen=True):
    """Value of a record of the book: where the dead letter stands, where it was sent to, for the how manieth time."""

    letter: str
    topic: str
    partition: int
    sent_back: int


class InputTopic(msgspec.Struct, frozen=True):
    """What is known of an input topic: its number of partitions, and the largest batch that it takes."""

    partitions: int
    max_bytes: int = USUAL_MAX_BYTES


Inputs = Mapping[str, InputTopic]


def why_not(letter: DeadLetter, inputs: Inputs, tombstones_forget_in: str) -> str | None:
    """Why a dead letter cannot be sent back, in words that fit many letters; None for one that can.

    `tombstones_forget_in` is the topic in which a record without a value forgets its user: such a one would be taken
    and not judged.
    """
    if letter.reason == "duplicate_event_id":
        return "it was scored before; a repeat is only known among the user's last events, and could be scored twice"
    if letter.left_out:
        return f"its {' and '.join(sorted(letter.left_out))} was too large for the dead letter and left out of it"
    if letter.key is None and letter.value is None:
        return "it has neither key nor value: there is nothing to send, or it stands for a batch that was not unpacked"
    if letter.topic not in inputs:
        return "its topic is none of the input topics"
    topic = inputs[letter.topic]
    if letter.partition >= topic.partitions:
        return "its partition is not there any more"
    if letter.value is None and letter.topic == tombstones_forget_in:
        return "without a value it would forget a user"
    if letter.value is not None and len(letter.value) > MAX_VALUE_BYTES:
        return f"its value has more than {MAX_VALUE_BYTES} bytes and would be refused again"
    if _size(letter) > topic.max_bytes:
        return "it is larger than its topic takes (max.message.bytes)"
    return None


def _size(letter: DeadLetter) -> int:
    headers = sum(len(name.encode()) + len(content or b"") + 10 for name, content in letter.headers)
    return RECORD_ROOM_BYTES + len(letter.key or b"") + len(letter.value or b"") + headers


def original(letter: DeadLetter) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Key, value and headers of the record to send: those of the refused one, and the header that marks it."""
    return letter.key, letter.value, [*letter.headers, (SENT_BACK_HEADER, str(letter.sent_back + 1).encode())]


@dataclass
class Plan:
    """Which letters would be sent: `to_send` by reason and topic, `already` sent before, `kept_back` by why not, with
    the places of a few. `ends` are the offsets up to which was looked, by partition: what is refused later is not
    meant."""

    to_send: Counter[tuple[str, str]] = field(default_factory=Counter)
    already: int = 0
    kept_back: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def letters(self) -> int:
        return self.to_send.total()


class Sender:
    """Plans and sends. `wanted` says which letters are meant."""

    def __init__(self, settings: Settings, inputs: Inputs, wanted: LetterFilter) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._inputs = inputs
        self._wanted = wanted

    def plan(self, letters: Letters, sent_back: set[str], on_read: Callable[[int], None]) -> Plan:
        """What `send` would do now. Raises `TopicUnreadable`, `NotAllowed`."""
        plan, seen = Plan(), set(sent_back)
        for stored in letters.all(on_read):
            if not self._wanted.takes(stored):
                continue
            letter = stored.letter
            reason = self._why_not(letter)
            if letter.dead_letter_id in seen:
                plan.already += 1
            elif reason is not None:
                plan.kept_back[reason] += 1
                places = plan.examples.setdefault(reason, [])
                if len(places) < 3:
                    places.append(f"{stored.place} ({stored.origin})")
            else:
                plan.to_send[letter.reason, letter.topic] += 1
            seen.add(letter.dead_letter_id)
        plan.ends = letters.ends
        return plan

    async def send(
        self, connection: KafkaConnection, reader: TopicReader, plan: Plan, on_sent: Callable[[int], None]
    ) -> int:
        """Send what is planned and not in the book; returns how many letters were sent.

        Raises `SendingFailed`, `TopicUnreadable`, `NotAllowed`; what was sent until then counts and is in the book.
        """
        producer = aiokafka_producer(
            connection,
            transactional_id=self._topics.sent_back,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=DEAD_LETTER_MAX_BYTES + BATCH_BYTES,
        )
        sent = 0
        try:
            async with started(producer, connection):
                # Whoever sent before is fenced by now, and what it had under way is in the book or was never sent.
                letters, book = Letters(reader, self._settings), book_of(reader, self._topics.sent_back)
                for chunk in _chunks(self._to_send(letters, book, plan.ends)):
                    async with producer.transaction():
                        await self._send(producer, chunk)
                    sent += len(chunk)
                    on_sent(sent)
        except ProducerFenced as error:
            raise SendingFailed(
                f"{sent:,} letters were sent; then another `dead-letters replay` of these topics began, and goes on "
                "with the rest of what it was asked for"
            ) from error
        except KafkaError as error:
            raise SendingFailed(
                f"{sent:,} letters were sent for certain: {type(error).__name__}: {error}. Run the command again: it "
                "sends what was not sent, and nothing twice"
            ) from error
        return sent

    def _why_not(self, letter: DeadLetter) -> str | None:
        return why_not(letter, self._inputs, self._topics.of_kind("profiles"))

    def _to_send(self, letters: Letters, book: set[str], ends: Mapping[int, int]) -> Iterator[StoredLetter]:
        for stored in letters.all(until=ends):
            name = stored.letter.dead_letter_id
            if self._wanted.takes(stored) and name not in book and self._why_not(stored.letter) is None:
                book.add(name)
                yield stored

    async def _send(self, producer: AIOKafkaProducer, chunk: Sequence[StoredLetter]) -> None:
        """Queue a chunk and its records of the book, and wait for the acknowledgements."""
        targets: dict[tuple[str, int], list[tuple[bytes | None, bytes | None, list[Header]]]] = {}
        for stored in chunk:
            letter = stored.letter
            targets.setdefault((letter.topic, letter.partition), []).append(original(letter))
            entry = SentBack(stored.place, letter.topic, letter.partition, letter.sent_back + 1)
            noted = (letter.dead_letter_id.encode(), msgspec.json.encode(entry), list[Header]())
            targets.setdefault((self._topics.sent_back, stored.partition), []).append(noted)
        acks = [
            ack
            for (topic, partition), records in targets.items()
            for ack in await send_records(
                producer,
                topic,
                partition,
                [(key, value) for key, value, _ in records],
                [headers for _, _, headers in records],
            )
        ]
        # All of them are looked at: Python complains of an error that nobody has seen.
        for result in await asyncio.gather(*acks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


def book_of(reader: TopicReader, topic: str) -> set[str]:
    """Ids of the dead letters that were sent back. Raises `TopicUnreadable`, `NotAllowed`."""
    return {
        record.key.decode(errors="replace")
        for partition in range(reader.partitions(topic))
        for record in reader.each(topic, partition)
        if record.key is not None
    }


def sent_back_so_far(reader: TopicReader, topic: str) -> set[str]:
    """As `book_of`, for who only looks: none where the book was never begun."""
    try:
        reader.partitions(topic)
    except TopicUnreadable:
        return set()
    return book_of(reader, topic)


def inputs_of(connection: KafkaConnection, settings: Settings) -> Inputs:
    """The input topics that are there, by name. Raises `ProvisioningError`."""
    return {
        name: InputTopic(state.partitions, int(state.configs.get("max.message.bytes", USUAL_MAX_BYTES)))
        for name, state in topic_states(connection, settings.topics.inputs.__contains__).items()
    }


def _chunks(letters: Iterable[StoredLetter]) -> Iterator[list[StoredLetter]]:
    chunk: list[StoredLetter] = []
    size = 0
    for stored in letters:
        chunk.append(stored)
        size += _size(stored.letter)
        if len(chunk) >= CHUNK_LETTERS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
