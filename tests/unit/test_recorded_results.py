"""What a seeded simulation comes to, against what was recorded: a change of structure must not change a result.

Records of all four topics, some late, some twice and some that are no events, go through intake, merge, watchdog and
scorer as a worker takes them. Floating point differs in the last bits between kinds of processor, so what is recorded
leaves floats out, but for their sums, which are compared within a tolerance. To compare two commits byte for byte on
one machine, run this file as a program on both: it prints a digest of every byte.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from events.types import KINDS, Kind, encode_event
from foreshock.schemas import LETTER_HEADERS_NAME, published_schemas
from model.bundle import Bundle
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from stream.kafka.publisher import partition_of
from stream.kafka.record import RawRecord
from stream.outputs import DeadLetter
from stream.scoring.contract_records import contract_records
from stream.scoring.intake import Intake
from stream.scoring.merge import PartitionMerge
from stream.scoring.scorer import Scored, Scorer
from stream.scoring.watchdog import Watermark, missed_now
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from tests.unit.foreshock.test_schemas import validator

RECORDED = Path(__file__).with_name("recorded_results.json")
PARTITIONS = 2
POLL_RECORDS = 700
NOW_MS = 1_767_225_600_000
"""The clock of the intake: 2026-01-01, after the whole simulation."""

BAD_EVERY = 97


@dataclass
class Results:
    """Everything that a worker would have published and kept, keys and values in order."""

    scores: list[tuple[bytes, bytes]] = field(default_factory=list)
    alerts: list[tuple[bytes, bytes]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    missed: list[bytes] = field(default_factory=list)
    rows: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    row_dtype: np.dtype[np.void] = field(default_factory=lambda: np.dtype([("none", "u8")]))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, scored: Scored) -> None:
        for mine, found in ((self.scores, scored.scores), (self.alerts, scored.alerts)):
            for _, values in sorted(found.items()):
                mine += values
        self.dead_letters += scored.dead_letters
        self.counts.update(scored.counts)


def bad_values(user_id: str, at: dt.datetime) -> Iterator[tuple[Kind, bytes | None, bytes | None]]:
    """Records that are to be refused, one of each sort, over and over."""
    key = user_id.encode()
    event: dict[str, Any] = {"event_id": "bad", "user_id": user_id, "occurred_at": at.isoformat(), "amount": 5}
    while True:
        yield "transactions", key, b"{"
        yield "transactions", key, json.dumps(event | {"amount": "much"}).encode()
        yield "transactions", key, json.dumps({"event_id": "x", "user_id": user_id}).encode()
        yield "activity", key, json.dumps(event | {"kind": "dance"}).encode()
        yield "repayments", key, json.dumps(event | {"kind": "paid", "amount_paid": -1}).encode()
        yield "transactions", None, json.dumps(event).encode()
        yield "transactions", b"\xff\xfe", json.dumps(event).encode()
        yield "transactions", b"someone-else", json.dumps(event).encode()
        yield "repayments", key, None
        yield "transactions", key, b" " * 70_000
        yield "transactions", key, json.dumps(event | {"occurred_at": "1969-12-31T00:00:00Z"}).encode()
        yield "transactions", key, json.dumps(event | {"occurred_at": "2999-01-01T00:00:00Z"}).encode()


def records() -> Iterator[tuple[Kind, bytes | None, bytes | None, int]]:
    """What producers sent, in the order of arrival."""
    dataset = open_dataset("simulator", users=80, months=14, seed=20_240)
    bad = bad_values("u0000007", dt.datetime(2023, 5, 1, tzinfo=dt.UTC))
    for number, (kind, key, value, at_ms) in enumerate(arrivals_of(dataset, late_share=0.03, twice_share=0.01, seed=5)):
        yield kind, key, value, at_ms
        if number % BAD_EVERY == 0:
            yield *next(bad), at_ms


@cache
def results() -> Results:
    bundle, settings = Bundle.load(PRETRAINED_BUNDLE), load_settings()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics)
    found = Results(row_dtype=slab.dtype)
    intakes = {kind: Intake(kind) for kind in KINDS}
    merges = [PartitionMerge() for _ in range(PARTITIONS)]
    watermarks = [Watermark() for _ in range(PARTITIONS)]
    offsets: Counter[tuple[Kind, int]] = Counter()
    announced: set[str] = set()

    def receive(sent: Iterable[tuple[Kind, bytes | None, bytes | None, int]]) -> None:
        for kind, key, value, at_ms in sent:
            partition = partition_of(key or b"", PARTITIONS)
            record = RawRecord(kind, partition, offsets[kind, partition], at_ms, key, value)
            offsets[kind, partition] += 1
            good, refused = intakes[kind].take_all([record], NOW_MS)
            merges[partition].push(KINDS.index(kind), good)
            found.dead_letters += refused

    def score() -> None:
        for merge, watermark in zip(merges, watermarks, strict=True):
            ready = merge.release()
            found.add(scorer.score(ready))
            watermark.observe([taken.occurred_ms for taken in ready])

    def watch() -> None:
        for partition, watermark in enumerate(watermarks):
            missed = missed_now(slab, partition, watermark.clock_ms, settings.grace_days)
            news = [event for event in missed if event.event_id not in announced]
            announced.update(event.event_id for event in news)
            values = [encode_event(event) for event in news]
            found.missed += values
            receive(
                ("repayments", event.user_id.encode(), value, watermark.clock_ms)
                for event, value in zip(news, values, strict=True)
            )

    waiting = list(records())
    for start in range(0, len(waiting), POLL_RECORDS):
        receive(waiting[start : start + POLL_RECORDS])
        score()
        watch()
    score()
    found.rows = sorted(slab.items())
    return found


def without_floats(value: Any) -> Any:
    """A JSON value of which every float is left out."""
    if isinstance(value, dict):
        return {name: without_floats(part) for name, part in value.items() if not isinstance(part, float)}
    return [without_floats(part) for part in value] if isinstance(value, list) else value


def float_sums(values: Iterable[bytes]) -> dict[str, float]:
    """The sum of every float at the top of JSON objects, by name."""
    sums: Counter[str] = Counter()
    for value in values:
        for name, part in msgspec.json.decode(value).items():
            if isinstance(part, float):
                sums[name] += part
    return dict(sorted(sums.items()))


def whole_numbers(row: bytes, dtype: np.dtype[np.void]) -> bytes:
    """The bytes of a row's fields that hold no floats."""

    def parts(values: Any) -> Iterator[bytes]:
        if values.dtype.names:
            for name in values.dtype.names:
                yield from parts(values[name])
        elif values.dtype.kind != "f":
            yield np.ascontiguousarray(values).tobytes()

    return b"".join(parts(np.frombuffer(row, dtype=dtype)))


def digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def letter_parts(letters: Iterable[DeadLetter]) -> Iterator[bytes]:
    """Key, value and headers of dead letters as published; what is null differs from what is empty."""
    for letter in letters:
        for part in (letter.key, letter.value, *(part for header in letter.record_headers() for part in header)):
            yield b"null" if part is None else b"=" + (part.encode() if isinstance(part, str) else part)


def exact_digests() -> dict[str, str]:
    """Digests of every byte, the same for two commits on one machine."""
    found = results()
    return {
        "scores": digest(part for pair in found.scores for part in pair),
        "alerts": digest(part for pair in found.alerts for part in pair),
        "dead_letters": digest(letter_parts(found.dead_letters)),
        "missed": digest(found.missed),
        "rows": digest(part for partition, key, row in found.rows for part in (bytes([partition]), key, row)),
    }


def portable_results() -> dict[str, Any]:
    """What does not depend on the processor: counts, digests without floats, sums of floats."""
    found = results()

    def plain(values: Iterable[bytes]) -> str:
        return digest(msgspec.json.encode(without_floats(msgspec.json.decode(value))) for value in values)

    scores, alerts = [value for _, value in found.scores], [value for _, value in found.alerts]
    return {
        "counts": dict(sorted(found.counts.items()))
        | {"dead_letters": len(found.dead_letters), "missed": len(found.missed), "rows": len(found.rows)},
        "digests": {
            "scores": plain(scores),
            "alerts": plain(alerts),
            "dead_letters": digest(letter_parts(found.dead_letters)),
            "missed": digest(found.missed),
            "rows": digest(whole_numbers(row, found.row_dtype) for _, _, row in found.rows),
        },
        "sums": {"scores": float_sums(scores), "alerts": float_sums(alerts)},
    }


def test_the_simulation_covers_what_a_worker_meets() -> None:
    found = results()
    refusals = {letter.reason for letter in found.dead_letters}
    assert refusals >= {"not_json", "duplicate_event_id", "null_key", "null_value", "key_mismatch", "in_the_future"}
    assert len(refusals) >= 12
    assert min(found.counts[name] for name in ("alerts_opened", "alerts_cleared", "late")) > 0
    assert found.missed
    assert {msgspec.json.decode(value)["source_topic"] for _, value in found.scores} == set(KINDS)


def values_by_format() -> dict[str, list[Any]]:
    """What was published, and each borrower's contracts at the end, by the name of the format."""
    found, rules = results(), load_settings().portfolio_rules()
    contracts = [
        value
        for partition, key, row in found.rows
        for _, value in contract_records(partition, [key], np.frombuffer(row, found.row_dtype), rules, told=True)
    ]
    published = {
        "scores": [value for _, value in found.scores],
        "alerts": [value for _, value in found.alerts],
        "repayments": found.missed,
        "contracts": contracts,
    }
    headers = [
        {name: (content or b"").decode() for name, content in letter.record_headers()} for letter in found.dead_letters
    ]
    return {name: [json.loads(value) for value in values] for name, values in published.items()} | {
        LETTER_HEADERS_NAME: headers
    }


def test_all_that_is_published_is_valid_against_its_schema() -> None:
    schemas = published_schemas()
    for name, values in values_by_format().items():
        known = validator(schemas[name])
        assert values
        for value in values:
            known.validate(value)


@pytest.mark.parametrize("part", ["counts", "digests"])
def test_results_are_as_recorded(part: str) -> None:
    assert portable_results()[part] == json.loads(RECORDED.read_text())[part]


@pytest.mark.parametrize("topic", ["scores", "alerts"])
def test_probabilities_are_as_recorded(topic: str) -> None:
    recorded = json.loads(RECORDED.read_text())["sums"][topic]
    assert portable_results()["sums"][topic] == pytest.approx(recorded, rel=1e-4, abs=1e-3)


if __name__ == "__main__":
    print(json.dumps({"exact": exact_digests(), "portable": portable_results()}, indent=2))
