"""Polls and blocks of changelogs go through Faust's schema untouched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from stream.kafka.poll import Poll, PollSchema


def test_key_and_value_are_passed_on_unchanged() -> None:
    key, value = object(), Poll(epoch=3)
    message: Any = SimpleNamespace(key=key, value=value)
    schema = PollSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    assert schema.loads_key(None, message) is key
    assert schema.loads_value(None, message) is value
