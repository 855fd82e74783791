"""What is fuzzed: each target takes any bytes, and says what became of them, or fails.

A target knows good inputs to begin with, and what must hold whatever the bytes are: one of the documented outcomes,
never another exception, and nothing taken that is not what was sent. No engine here: `bench.fuzzing.run` calls targets
with mutated inputs, `bench.fuzzing.guided` with those that a coverage-guided engine makes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, get_args

import google_crc32c
import msgspec
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust.types import TP

from bench.fuzzing.mutation import BYTES, JSON, JSON_VALUES, Grammar
from events.calendar import DAY_MS
from events.columns import categorical_columns, numeric_inputs
from events.contracts import contract_days, initial_ledger, initial_standing
from events.dates import FUTURE_TOLERANCE_MS
from events.repayments import apply_repayments, repayment_columns
from events.types import AMOUNT_LIMIT, EVENT_TYPES, KINDS, Event, Forgetting, Kind, encode_event
from model.bundle import Bundle, BundleError, decode_manifest, graph_file, open_graph
from model.signature import SignatureError, new_keys, sign, verify
from stream.kafka.changelog import Unreadable, cut, message_set_of
from stream.kafka.record import RawRecord
from stream.outputs import (
    OUTPUT_TYPES,
    SENT_BACK_HEADER,
    DeadLetter,
    ForeignRecord,
    OutputDecoder,
    RefusalCode,
    encode_output,
)
from stream.scoring.dead_letters import HEADER_BYTES, DeadLetters
from stream.scoring.intake import Intake, Taken
from stream.settings import PRETRAINED_BUNDLE, SettingsError, load_settings
from stream.state.row import StateMismatch, blank_row, row_dtype
from stream.state.slab import Slab
from stream.structured import Columns
from stream.topics import DEAD_LETTER_MAX_BYTES

NOW_MS = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)

Check = Callable[[bytes], str]
"""Takes one input and returns its outcome, with details after a colon; raises where something does not hold."""


def unchanged(content: bytes, random: Random) -> bytes:  # noqa: ARG001
    """For targets whose inputs need no repair."""
    return content


@dataclass(frozen=True)
class Target:
    """`prepare` gives the check, with whatever it needs, once for a process. `repair` makes a mutated input pass the
    first checks, checksums for instance, often enough for what is behind them to be reached."""

    name: str
    about: str
    seeds: Callable[[], list[bytes]]
    prepare: Callable[[], Check]
    grammar: Grammar = BYTES
    largest: int = 4_096
    repair: Callable[[bytes, Random], bytes] = unchanged


def require(holds: bool, what: str) -> None:
    """Fail, also under `python -O`, where something does not hold."""
    if not holds:
        raise AssertionError(what)


# Events

EVENTS: dict[Kind, bytes] = {
    "repayments": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"due",'
    b'"amount_due":120.5,"amount_paid":0,"days_past_due":-3,"balance":900.25,"instalment_no":7,"due_date":"2025-05-04",'
    b'"contract_id":"loan-2","currency":"EUR"}',
    "transactions": b'{"event_id":"e2","user_id":"u1","occurred_at":"2025-05-01T10:11:12.345678+02:00","amount":-5.5,'
    b'"category":"cash","channel":"atm","balance_after":1e3,"credit_limit":2000,"counterparty_type":"merchant"}',
    "activity": b'{"event_id":"e3","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"session","count":2,'
    b'"duration_s":61.5}',
    "profiles": b'{"event_id":"e4","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","age_band":"30-39",'
    b'"sex":"female","income":2500,"employment":"employed","region":"region_01","tenure_months":12,"credit_limit":5000,'
    b'"origination_pd":0.02,"bureau_score":650,"interest_rate":0.1,"payment_to_income":0.2,"loan_to_value":0.8,'
    b'"term_months":36}',
}


def _event_seeds() -> list[bytes]:
    seeds = [bytes([number | key << 2]) + EVENTS[kind] for number, kind in enumerate(KINDS) for key in range(2)]
    return [*seeds, bytes([KINDS.index("profiles") | 32])]


def _events() -> Check:
    intakes = {kind: Intake(kind) for kind in KINDS}
    vocabularies = Bundle.load(PRETRAINED_BUNDLE).vocabularies

    def check(content: bytes) -> str:
        head, value = content[:1], content[1:]
        kind = KINDS[head[0] & 3] if head else "repayments"
        headers = ((value[:4].decode("latin-1"), value[4:8]),) if head and head[0] & 16 else ()
        tombstone = bool(head) and bool(head[0] & 32)
        record = RawRecord(kind, 0, 5, NOW_MS, _key_of(head, value), None if tombstone else value, headers)
        outcome = intakes[kind].take(record, NOW_MS)
        again = intakes[kind].take_all([record], NOW_MS)
        require(
            again == (([outcome], []) if isinstance(outcome, Taken) else ([], [outcome])), "take_all differs from take"
        )
        if isinstance(outcome, DeadLetter):
            require(outcome.reason in get_args(RefusalCode), f"no refusal code: {outcome.reason}")
            _check_letter(outcome)
            return f"{outcome.reason}: {outcome.message[:30]}"
        if isinstance(outcome.event, Forgetting):
            require(tombstone and kind == "profiles", "a user is forgotten without a tombstone")
            require(outcome.event.user_id.encode() == outcome.key, "another user is forgotten")
            return "forgotten"
        _check_taken(outcome, intakes[kind], vocabularies)
        return "taken"

    return check


def _check_letter(letter: DeadLetter) -> None:
    headers = letter.record_headers()
    size = len(letter.key or b"") + len(letter.value or b"")
    size += sum(len(name.encode()) + len(content or b"") + HEADER_BYTES for name, content in headers)
    require(size <= DEAD_LETTER_MAX_BYTES, "the dead letter does not fit into its topic")
    read = DeadLetter.from_record(RawRecord("dead-letters", 0, 1, 0, letter.key, letter.value, headers))
    message = letter.message.encode(errors="backslashreplace").decode()
    require(read == msgspec.structs.replace(letter, message=message), "the dead letter is another when it is read")


def _key_of(head: bytes, value: bytes) -> bytes | None:
    """Mostly what the event's user is, or else the key would refuse all that is not the usual user's."""
    mode = (head[0] >> 2 & 3) if head else 0
    if mode == 1:
        try:
            return str(msgspec.json.decode(value)["user_id"]).encode()
        except Exception:
            return b"u1"
    return (b"u1", None, value[:8], None)[mode] if mode != 3 else b""


def _check_taken(taken: Taken, intake: Intake, vocabularies: Any) -> None:
    event: Event = taken.event
    encoded = encode_event(event)
    same = intake.take(RawRecord(taken.kind, 0, 5, NOW_MS, taken.key, encoded), NOW_MS)
    if not isinstance(same, Taken):
        raise AssertionError(f"what was taken is refused when it is written again: {same.message}")
    require(same.event == event, "what was taken is another when it is written again")
    require(same.occurred_ms == taken.occurred_ms, "what was taken is of another time when it is written again")
    require(type(event) is EVENT_TYPES[taken.kind], "an event of another kind")
    require(event.user_id.encode() == taken.key, "another user's key")
    require(0 <= taken.occurred_ms <= NOW_MS + FUTURE_TOLERANCE_MS, "a time that is not taken")
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, float):
            require(math.isfinite(value) and abs(value) <= AMOUNT_LIMIT, f"{name} is {value}")
        elif isinstance(value, str):
            require(len(value.encode()) <= 4 * 128, f"{name} is long")
    times = np.array([taken.occurred_ms], dtype=np.int64)
    columns = numeric_inputs(taken.kind, [event], times)
    require(not np.isinf(columns).any(), "an input of the model is infinite")
    codes = categorical_columns(taken.kind, [event], vocabularies[taken.kind])
    most = max((len(codes) for codes in vocabularies[taken.kind].values()), default=0) + 2
    require(bool(((codes >= 0) & (codes < most)).all()), "a category has a code of its own")
    if taken.kind == "repayments":
        times_ms = np.array([taken.occurred_ms], dtype=np.int64)
        standing, ledger = initial_standing(1), initial_ledger(1)
        apply_repayments(standing, ledger, repayment_columns([event], times_ms), times_ms // DAY_MS, times_ms // DAY_MS)
        days = contract_days(standing, times_ms // DAY_MS)
        require(bool((np.isnan(days) | (np.isfinite(days) & (days >= 0))).all()), "days past due are no number of days")


# Outputs that others may have written

_OUTPUTS = {
    "scores": b'{"score_id":"repayments:0:1","event_id":"e","user_id":"u","occurred_at":"2025-05-01T00:00:00Z",'
    b'"sequence":1,"score":0.1,"horizons":{"30":0.05,"90":0.1},"level":"LOW","baseline":0.1,"delta":0.0,"days_past_due":null,'
    b'"source_topic":"repayments","source_partition":0,"source_offset":1,"model":"0123456789abcdef","status":"past_due",'
    b'"contracts":2,"exposure":900.5,"amount_overdue":120.5,"expected_loss":40.5}',
    "alerts": b'{"transition_id":"t","alert_id":"a","user_id":"u","kind":"opened","occurred_at":"2025-05-01T00:00:00Z",'
    b'"opened_at":"2025-05-01T00:00:00Z","level_from":"LOW","level_to":"HIGH","score":0.6,"baseline":0.1,"delta":0.5,'
    b'"reference_pd":0.02,"days_past_due":12.0,"triggers":["level"],"reasons":[{"code":"overdue","text":"12 days",'
    b'"contribution":0.8}],"weighed_most":[{"topic":"repayments","partition":0,"offset":1,"occurred_at":'
    b'"2025-05-01T00:00:00Z","weight":0.4}],"sequence":9,"source_topic":"repayments","source_partition":0,'
    b'"source_offset":1,"policy":"0123456789ab","model":"0123456789abcdef"}',
    "contracts": b'{"user_id":"u","sequence":9,"occurred_at":"2025-05-01T00:00:00Z","source_partition":0,"contracts":'
    b'[{"contract_id":"loan-2","status":"past_due","days_past_due":12.0,"amount_overdue":120.5,"exposure":900.5,'
    b'"credit_limit":2000.0,"currency":"EUR"}]}',
}


_LETTER_OF_0_1 = (
    b'{"dead_letter_id":"d","reason":"not_json","message":"m","topic":"repayments","partition":0,"offset":1,'
    b'"timestamp_ms":1700000000000,"key_base64":"dTE=","value_base64":"aGVsbG8="}'
)
_BETWEEN, _WITHIN = b"\x1e", b"\x1f"
"""Between key, value and headers of a record of dead letters, and within a header, as these inputs are written."""

_TEXT = Grammar(
    (*JSON_VALUES, _BETWEEN, _WITHIN, b"foreshock.", b"foreshock.version\x1f1\x1e", b"left_out"), b":", b",}]"
)


def _output_seeds() -> list[bytes]:
    refused = RawRecord("repayments", 0, 5, NOW_MS, b"u1", b"hello", (("trace", b"1"), ("none", None)))
    large = RawRecord("repayments", 0, 5, NOW_MS, b"u1", bytes(DEAD_LETTER_MAX_BYTES))
    again = RawRecord("repayments", 0, 6, NOW_MS, b"u1", b"hello", ((SENT_BACK_HEADER, b"2"),))
    letters = [DeadLetters("foreshock").of(record, "not_json", "no JSON") for record in (refused, large, again)]
    plain = [bytes([number]) + _OUTPUTS[name] for number, name in enumerate(OUTPUT_TYPES)]
    dead = bytes([len(OUTPUT_TYPES)])
    return [*plain, dead + _BETWEEN + _LETTER_OF_0_1, *(dead + _written(letter) for letter in letters)]


def _written(letter: DeadLetter) -> bytes:
    headers = [name.encode() + _WITHIN + (content or b"") for name, content in letter.record_headers()]
    return _BETWEEN.join([letter.key or b"", letter.value or b"", *headers])


def _record_of(content: bytes) -> RawRecord:
    key, _, rest = content.partition(_BETWEEN)
    value, *headers = rest.split(_BETWEEN)
    pairs = [header.partition(_WITHIN) for header in headers]
    named = tuple((name.decode("latin-1"), part if mark else None) for name, mark, part in pairs)
    return RawRecord("dead-letters", 0, 1, 0, key or None, value or None, named)


def _outputs() -> Check:
    decoders = [OutputDecoder(kind) for kind in OUTPUT_TYPES.values()]

    def check(content: bytes) -> str:
        kind = (content[0] if content else 0) % (len(decoders) + 1)
        try:
            if kind == len(decoders):
                found: Any = DeadLetter.from_record(_record_of(content[1:]))
            else:
                found = decoders[kind](content[1:])
        except ForeignRecord as error:
            require(len(str(error)) <= 5_000, "a message of any length")
            return f"foreign: {str(error)[:25]}"
        if isinstance(found, DeadLetter):
            _check_letter(found)
        else:
            require(decoders[kind](encode_output(found)) == found, "an output is another when it is written again")
        return type(found).__name__

    return check


# Changelogs, as a broker sends them

TAIL = TP("changelog", 0)
_HEAD = struct.Struct(">iiih9siihqqi")  # up to the number of aborted transactions
_PLACES = {"length": 8, "magic": 16, "checksum": 17, "checked": 21, "size": 61}
_KEPT_BYTES = 1 << 20


def record_batch(pairs: Sequence[tuple[bytes | None, bytes | None]], start: int = 0, compression: int = 0) -> bytes:
    """A record batch as a producer makes it, at an offset."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0, producer_id=7, producer_epoch=0, base_sequence=0,
        batch_size=1 << 20,
    )  # fmt: skip
    for number, (key, value) in enumerate(pairs):
        builder.append(number, 1_000 + number, key, value, [])
    content = bytearray(builder.build())
    struct.pack_into(">q", content, 0, start)
    return bytes(content)


def fetch_response(message_set: bytes, aborted: Sequence[tuple[int, int]] = ()) -> bytes:
    """The answer to a fetch of `TAIL`."""
    head = _HEAD.pack(0, 0, 1, 9, b"changelog", 1, 0, 0, 10**6, 10**6, len(aborted))
    return (
        head
        + b"".join(struct.pack(">qq", *each) for each in aborted)
        + struct.pack(">i", len(message_set))
        + message_set
    )


def _changelog_seeds() -> list[bytes]:
    rows = [(b"user-%d" % number, bytes([number]) * 40) for number in range(20)]
    mixed = [(b"a", b"1"), (b"b", None), (None, b"3"), *rows[:9], (b"", b"")]
    batches = [record_batch(rows), *(record_batch(mixed, compression=codec) for codec in range(5))]
    two = record_batch(rows) + record_batch(mixed, start=20)
    return [fetch_response(each) for each in (*batches, two, two[:-5], b"")] + [fetch_response(two, [(7, 0), (8, 3)])]


def sealed(content: bytes, random: Random) -> bytes:
    """A mutated response whose sizes and checksums are mostly right again."""
    if random.random() < 0.1:
        return content
    data = bytearray(content)
    data[: _HEAD.size - 4] = _HEAD.pack(0, 0, 1, 9, b"changelog", 1, 0, 0, 10**6, 10**6, 0)[:-4]
    if len(data) < _HEAD.size:
        return bytes(data)
    (aborted,) = struct.unpack_from(">i", data, _HEAD.size - 4)
    start = _HEAD.size + 16 * min(max(aborted, 0), 4)
    struct.pack_into(">i", data, _HEAD.size - 4, min(max(aborted, 0), 4))
    if len(data) < start + 4:
        return bytes(data)
    start += 4
    struct.pack_into(">i", data, start - 4, len(data) - start)
    while len(data) - start >= _PLACES["size"]:
        (length,) = struct.unpack_from(">i", data, start + _PLACES["length"])
        end = start + 12 + length
        if not start + _PLACES["size"] <= end <= len(data) and random.random() < 0.9:
            end = len(data)
            struct.pack_into(">i", data, start + _PLACES["length"], end - start - 12)
        elif end <= start or end > len(data):
            break
        data[start + _PLACES["magic"]] = 2
        checked = bytes(data[start + _PLACES["checked"] : end])
        struct.pack_into(">I", data, start + _PLACES["checksum"], google_crc32c.value(checked))
        start = end
    return bytes(data)


def _changelog() -> Check:
    def check(content: bytes) -> str:
        try:
            message_set, _, aborted = message_set_of(memoryview(content), TAIL)
            columns, next_offset = cut(message_set, aborted)
        except Unreadable as error:
            return f"unreadable: {str(error)[-40:]}"
        require(next_offset is None or next_offset > 0, "the reader would go back")
        for keys, values in columns:
            if values is None:  # deletions
                continue
            require(values.ndim == 2 and len(keys) == len(values), "keys without values")
            require(values.size <= _KEPT_BYTES * 64, "more values than can be in so short an input")
        if not aborted:
            _compare(message_set, columns)
        return f"records: {sum(len(keys) for keys, _ in columns)} in {len(columns)} runs"

    return check


def _compare(message_set: memoryview, columns: Sequence[Columns]) -> None:
    """The ordinary consumer's reader gives the same pairs wherever it gives any."""
    expected: list[tuple[bytes, bytes | None]] = []
    start = 0
    try:
        while len(message_set) - start >= _PLACES["size"]:
            end = start + 12 + struct.unpack_from(">i", message_set, start + _PLACES["length"])[0]
            if end > len(message_set):
                break
            batch = DefaultRecordBatch(message_set[start:end])
            start = end
            if not batch.is_control_batch:
                expected += [(each.key, each.value) for each in batch if each.key is not None]
    except Exception:
        return
    pairs = [
        (key, None if value is None else value.tobytes())
        for keys, values in columns
        for key, value in zip(keys, [None] * len(keys) if values is None else values, strict=True)
    ]
    require(pairs == expected, "other records than the ordinary consumer reads")


# Rows of users, as a changelog or a disk gives them

_WIDTH, _MODEL = 3, 0x0123456789ABCDEF


def _row_seeds() -> list[bytes]:
    row = blank_row(row_dtype(_WIDTH), _MODEL).tobytes()
    return [row, row + row, row[:-1], b""]


def _rows() -> Check:
    blank = blank_row(row_dtype(_WIDTH), _MODEL)
    slab = Slab(blank)

    def check(content: bytes) -> str:
        slab.clear()
        size = blank.dtype.itemsize
        try:
            slab.put(1, [(b"u", content)])
            count = max(len(content) // size, 1)
            values = np.frombuffer(content[: count * size], dtype=np.uint8).reshape(count, -1)
            slab.restore(2, [([b"%d" % number for number in range(count)], values)], 9)
        except StateMismatch:
            return "mismatch"
        require(slab.get(1, b"u") == content, "a row has other bytes than were put")
        return "rows"

    return check


# Bundles


def _manifest_seeds() -> list[bytes]:
    return [(PRETRAINED_BUNDLE / "manifest.json").read_bytes()]


def _manifests() -> Check:
    where = Path("manifest.json")

    def check(content: bytes) -> str:
        try:
            manifest = decode_manifest(where, content)
        except BundleError as error:
            require(
                str(error).startswith("manifest.json") and len(str(error)) < 5_000, "a message without place or end"
            )
            return f"refused: {str(error)[:40]}"
        width = sum(manifest.state_widths.values())
        require(0 <= width <= 1_000_000, f"a state of {width} floats")
        require(all(kind in manifest.vocabularies for kind in KINDS), "a kind without vocabularies")
        return "manifest"

    return check


def _graph_seeds() -> list[bytes]:
    return [(PRETRAINED_BUNDLE / graph_file(kind)).read_bytes() for kind in ("profiles", "activity")]


def _graphs() -> Check:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    inputs, outputs = bundle.interface("profiles")

    def check(content: bytes) -> str:
        try:
            open_graph(Path("profiles.onnx"), content, inputs, outputs)
        except BundleError as error:
            return f"refused: {str(error)[15:45]}"
        return "graph"

    return check


def _signature_seeds() -> list[bytes]:
    private, public = new_keys()
    return [sign(b"manifest", private) + public, bytes(64) + public + public, private + public]


def _signatures() -> Check:
    def check(content: bytes) -> str:
        try:
            verify(b"manifest" + hashlib.sha256(content).digest(), content[:64], content[64:])
        except SignatureError as error:
            return f"refused: {str(error)[:25]}"
        raise AssertionError("a signature of what was never signed")

    return check


# Settings

_TOML = Grammar(
    (*JSON_VALUES, b"'", b'"""', b"[a]\n", b"[[a]]\n", b"\xef\xbb\xbf", b"\xff\xfe", b"1979-05-27T07:32:00Z", b"0x1F",
     b"inf", b"nan", b"1_000", b'"localhost:9092"', b'"SSL"', b"bundle", b"partitions", b"log_level", b"= ", b"\n",
     b"\r"),
    b"=", b"\n",
)  # fmt: skip


def _settings_seeds() -> list[bytes]:
    return [
        b'bootstrap_servers = "localhost:9092"\npartitions = 4\ncommit_interval_s = 0.5\nwatchdog = true\n',
        b'bundle = "model"\nstate_dir = "rows"\nresident_users = 10\nlog_level = "debug"\n[more]\na = [1, 2]\n',
    ]


def _settings() -> Check:
    path = Path(tempfile.mkdtemp(prefix="foreshock-fuzz-")) / "foreshock.toml"

    def check(content: bytes) -> str:
        path.write_bytes(content)
        try:
            load_settings(path)
        except SettingsError as error:
            return f"refused: {str(error).rpartition(':')[2][:20]}"
        return "settings"

    return check


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("events", "records of the four input topics, through the intake", _event_seeds, _events, JSON),
        Target("outputs", "records of the output topics, as sink and replay read them", _output_seeds, _outputs, _TEXT),
        Target(
            "changelog", "a broker's responses, cut into rows at recovery", _changelog_seeds, _changelog, repair=sealed
        ),
        Target("rows", "users' rows, as they come from a changelog", _row_seeds, _rows),
        Target("manifests", "manifests of bundles", _manifest_seeds, _manifests, JSON, largest=32_768),
        Target("graphs", "ONNX graphs of bundles, opened", _graph_seeds, _graphs, largest=65_536),
        Target("signatures", "signatures and public keys of bundles", _signature_seeds, _signatures),
        Target("settings", "foreshock.toml", _settings_seeds, _settings, _TOML),
    )
}
"""Every target by its name."""
