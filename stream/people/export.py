"""Everything that is held about one user, as one JSON document, written record by record: memory is bounded.

Records are found by their key; of the dead letters, also by the `user_id` in their bytes. Reads all topics from their
beginning, in the state in which readers of committed records see them. Publishes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from events.contracts import NO_CONTRACT, PHASES, contract_id_of, currency_of
from events.instalments import unpaid_instalments
from events.types import KINDS
from model.bundle import Bundle
from stream.alerts.facts import FACTS, REPAYMENT_FACTS
from stream.database.connection import DatabaseConnection
from stream.database.person import is_about, rows_of
from stream.event_archive.reader import ArchiveReader
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import LEVELS, DeadLetter, ForeignRecord, moment_of
from stream.people.places import places
from stream.settings import Settings
from stream.state.row import NO_TIME, row_dtype
from stream.topics import Topics

OnProgress = Callable[[int, int], None]

NOT_HELD_HERE = (
    "Reports and exports in files, replays under another prefix, backups of broker, database and disks, and what other "
    "readers of the topics keep are not part of this. Logs hold no events above the level debug."
)


def export(
    out: BinaryIO,
    user_id: str,
    settings: Settings,
    kafka: KafkaConnection,
    database: DatabaseConnection | None,
    bundle: Bundle | None,
    archive: Path | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Counter[str]:
    """Write the document; returns how many records and rows it has, by topic and table.

    Without `bundle` the state stands there as its size only. `archive` is the folder of an archive of topics. Raises
    `TopicUnreadable`, `ProvisioningError`, `DatabaseError` and `ArchiveError`.
    """
    counts: Counter[str] = Counter()
    at = dt.datetime.now(dt.UTC)
    out.write(b'{"user_id":%s,"exported_at":%s,' % (_json(user_id), _json(at)))
    out.write(b'"not_held_here":%s,"topics":{' % _json(NOT_HELD_HERE))
    held = places(kafka, settings)
    changelog = settings.topics.changelog(settings.application_id)
    of_states = settings.topics.changelog("")
    states: dict[int, bytes | None] = {}
    with TopicReader(kafka) as reader:
        sizes = {place.topic: reader.size([place.topic]) for place in held}
        total, done = sum(sizes.values()), 0
        for number, place in enumerate(held):
            found = _found(reader, place.topic, user_id, settings, partial(_tell, on_progress, done, total))
            out.write(b"%s%s:{" % (b"," if number else b"", _json(place.topic)))
            out.write(b'"kept":%s,"records":[' % _json(place.until))
            for record in found:
                if place.topic == changelog:
                    states[record.partition] = record.value
                out.write(
                    (b"," if counts[place.topic] else b"")
                    + _json(_as_json(record, not place.topic.endswith(of_states)))
                )
                counts[place.topic] += 1
            out.write(b"]}")
            done += sizes[place.topic]
    out.write(b"}")
    if archive is not None:
        counts["archive"] = _write_archived(out, archive, user_id)
    out.write(b',"states":%s,"database":' % _json([described(row, bundle) for row in states.values() if row]))
    out.write(b"null" if database is None else b"[")
    for number, (table, row) in enumerate(rows_of(database, user_id) if database is not None else ()):
        out.write((b"," if number else b"") + _json({"table": table, **row}))
        counts[table] += 1
    out.write(b"}\n" if database is None else b"]}\n")
    return counts


def _write_archived(out: BinaryIO, folder: Path, user_id: str) -> int:
    """Write what an archive holds of a user, by topic; returns how many records. Raises `ArchiveError`."""
    count = 0
    with ArchiveReader(folder, accepts_loss=True) as archived:
        letters = Topics(archived.archives[0].description.topic_prefix).dead_letters
        out.write(b',"archive":{')
        for number, topic in enumerate(archived.topics):
            out.write(b'%s%s:{"records":[' % (b"," if number else b"", _json(topic)))
            before = count
            for partition in range(archived.partitions(topic)):
                for record in archived.each(topic, partition):
                    if record.key == user_id.encode() or (topic == letters and letter_is_about(record, user_id)):
                        out.write((b"," if count > before else b"") + _json(_as_json(record, True)))
                        count += 1
            out.write(b"]}")
        out.write(b"}")
    return count


def _tell(on_progress: OnProgress, done: int, total: int, read: int) -> None:
    on_progress(done + read, total)


def _found(
    reader: TopicReader, topic: str, user_id: str, settings: Settings, on_read: Callable[[int], None]
) -> Iterator[Any]:
    """A topic's records about the user, partition by partition: a lender may have another partitioner than ours."""
    key, read = user_id.encode(), 0
    is_letters = topic == settings.topics.dead_letters
    for partition in range(reader.partitions(topic)):
        for found, _ in reader.records([topic], partition):
            records = found.get(topic, [])
            for record in records:
                if record.key == key or (is_letters and letter_is_about(record, user_id)):
                    yield record
            read += len(records)
            on_read(read)


def letter_is_about(record: Any, user_id: str) -> bool:
    """Whether a record of the topic of dead letters is about a user, in the form of this or an earlier release."""
    try:
        letter = DeadLetter.from_record(record)
    except ForeignRecord:
        return is_about(record.value, user_id)
    return letter.key == user_id.encode() or is_about(letter.value, user_id)


def _as_json(record: Any, with_value: bool) -> dict[str, Any]:
    written: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "recorded_at": moment_of(record.timestamp) if record.timestamp >= 0 else None,
    }
    if record.headers:
        written["headers"] = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    if not with_value:
        return written | {"bytes": None if record.value is None else len(record.value)}
    try:
        return written | {"value": None if record.value is None else msgspec.json.decode(record.value)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return written | {"value_base64": record.value}


def described(row: bytes, bundle: Bundle | None) -> dict[str, Any]:
    """A state's fields by name. The network's numbers are counted: they mean nothing alone.

    Only `bytes`, the size, where the bundle is not the one that wrote the row.
    """
    dtype = None if bundle is None else row_dtype(bundle.state_width)
    if bundle is None or dtype is None or len(row) != dtype.itemsize:
        return {"bytes": len(row)}
    one: Any = np.frombuffer(row, dtype=dtype)[0]
    if int(one["model"]) != bundle.fingerprint:
        return {"bytes": len(row)}
    weighed = one["weighed"][one["weighed"]["occurred_ms"] != NO_TIME]
    return {
        "model": f"{bundle.fingerprint:016x}",
        "scored_events": int(one["sequence"]),
        "latest_event": {
            kind: _time(one["latest_ms"][number]) for number, kind in enumerate(KINDS) if one["latest_ms"][number] >= 0
        },
        "hashes_of_recent_event_ids": int(np.count_nonzero(one["recent_ids"])),
        "events_that_weighed_most": [
            {"kind": KINDS[int(event["kind"])], "occurred_at": _time(event["occurred_ms"])} for event in weighed
        ],
        "contracts": _contracts(one["standing"]),
        "unpaid_instalments": [
            msgspec.to_builtins(entry) for entry in unpaid_instalments(one["standing"], one["ledger"])
        ],
        "reference_pd": _number(one["reference_pd"]),
        "alert": _alert(one["alert"]),
        "facts": _fields(one["facts"], [name for name in FACTS.names or () if name != "repayments"]),
        "facts_of_contracts": [_fields(facts, REPAYMENT_FACTS.names or ()) for facts in one["facts"]["repayments"]],
        "numbers_of_the_network": bundle.state_width,
    }


def _contracts(standing: Any) -> list[dict[str, Any]]:
    return [
        {
            "contract_id": contract_id_of(standing["contract_id"][place]),
            "currency": currency_of(int(standing["currency"][place])),
            **{name: _number(standing[name][place]) for name in ("balance", "credit_limit", "reported_days")},
            "phase": PHASES[int(standing["phase"][place])],
        }
        for place in np.flatnonzero(standing["phase"] != NO_CONTRACT).tolist()
    ]


def _alert(state: Any) -> dict[str, Any]:
    found = _fields(state, state.dtype.names)
    return found | {"level": LEVELS[int(state["level"])]} if "level" in found else found


def _fields(record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _number(record[name]) for name in names}


def _number(value: Any) -> Any:
    """A numpy value as JSON has it; NaN, which stands for unknown, as null."""
    if isinstance(value, np.ndarray):
        return [_number(each) for each in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain != plain else plain


def _time(ms: Any) -> str:
    return moment_of(int(ms)).isoformat()


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
