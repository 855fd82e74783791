"""The sample records are valid, complete, and the same on every processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foreshock.sample_records import DIGITS, Sample, published, rounded, sample_records
from foreshock.schemas import RECORD_TYPES as TYPES
from stream.kafka.record import RawRecord
from stream.outputs import DeadLetter
from tests.unit.foreshock.test_schemas import validator

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "schemas"
ALL_SAMPLES = sample_records()
SAMPLES = [sample for sample in ALL_SAMPLES if sample.topic in TYPES]


def name(sample: Sample) -> str:
    return f"{sample.topic}: {sample.title[:30]}"


def test_every_topic_and_every_kind_of_repayment_has_a_sample() -> None:
    assert {sample.topic for sample in ALL_SAMPLES} == {*TYPES, "dead-letters"}
    kinds = {msgspec.json.decode(sample.value)["kind"] for sample in SAMPLES if sample.topic == "repayments"}
    schema = json.loads((SCHEMAS / "repayments.json").read_text())
    assert kinds == set(schema["properties"]["kind"]["enum"])


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_a_sample_is_valid_against_the_published_schema(sample: Sample) -> None:
    schema = json.loads((SCHEMAS / f"{sample.topic}.json").read_text())
    validator(schema).validate(json.loads(sample.value))


@pytest.mark.parametrize("topic", TYPES)
def test_samples_of_a_topic_have_every_field_and_a_value_in_each(topic: str) -> None:
    fields = TYPES[topic].__struct_encode_fields__
    values = [msgspec.json.decode(sample.value) for sample in SAMPLES if sample.topic == topic]
    assert {field for value in values for field in value} == set(fields)
    for value in values:
        assert list(value) == [field for field in fields if field in value], "in the order of the schema"
        assert [field for field, part in value.items() if part is None or part in ([], {})] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_the_decoder_takes_a_sample(sample: Sample) -> None:
    decoded = msgspec.json.decode(sample.value, type=TYPES[sample.topic])
    assert msgspec.json.decode(msgspec.json.encode(decoded)) == msgspec.json.decode(sample.value)


def test_the_dead_letter_is_one() -> None:
    (sample,) = [sample for sample in ALL_SAMPLES if sample.topic == "dead-letters"]
    shown = msgspec.json.decode(sample.value)
    headers = [(name, text.encode()) for name, text in shown["headers"].items()]
    letter = DeadLetter.from_record(
        RawRecord("dead-letters", 3, 0, 0, shown["key"].encode(), shown["value"].encode(), headers)
    )
    assert letter.record_headers() == headers
    assert (letter.reason, letter.left_out) == ("not_json", {})
    assert letter.headers
    validator(json.loads((SCHEMAS / "dead-letter-headers.json").read_text())).validate(shown["headers"])


def floats(part: Any) -> list[float]:
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        return [value for each in part for value in floats(each)]
    return [part] if isinstance(part, float) else []


def test_no_published_number_is_so_near_a_rounding_edge_that_another_processor_would_round_it_otherwise() -> None:
    for _, _, value in published():
        for number in floats(msgspec.json.decode(value)):
            scaled = abs(number) * 10**DIGITS
            assert abs(scaled - int(scaled) - 0.5) > 0.01, number


def test_every_float_is_rounded_and_nothing_else_changes() -> None:
    value = msgspec.json.encode({"a": 0.12345, "b": [1, 0.9999], "c": {"d": "0.12345", "e": None}})
    assert msgspec.json.decode(rounded(value)) == {"a": 0.123, "b": [1, 1.0], "c": {"d": "0.12345", "e": None}}
