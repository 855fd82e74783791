"""The shipped bundle, and events to put through it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bench.workload import Workload
from events.types import EVENT_TYPES, Event
from model.bundle import Bundle
from stream.settings import PRETRAINED_BUNDLE


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    return PRETRAINED_BUNDLE


@pytest.fixture(scope="session")
def simulated() -> Sequence[Event]:
    workload = Workload.simulated(600, 12)
    return [msgspec.json.decode(value, type=EVENT_TYPES[kind]) for kind, _, value, _ in workload.records]
