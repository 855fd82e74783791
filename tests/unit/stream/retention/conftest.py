"""Topics of a deployment as a broker would describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stream.kafka.provisioning import DAY_MS, TopicState, specifications
from stream.kafka.topic_sizes import GroupLag, TopicSize
from stream.retention.rules import Facts
from stream.settings import Settings

NOW_MS = 1_000 * DAY_MS


def size(name: str, **fields: Any) -> TopicSize:
    base: dict[str, Any] = {
        "records": 1_000,
        "removed": 0,
        "size_bytes": 5_000,
        "replicated_bytes": 15_000,
        "oldest_ms": NOW_MS - 10 * DAY_MS,
        "newest_ms": NOW_MS,
        "per_day": 100.0,
    }
    return TopicSize(name, **(base | fields))


def make_facts(
    settings: Settings,
    configs: Mapping[str, Mapping[str, str]] | None = None,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    lags: tuple[GroupLag, ...] = (),
    offsets_retention_ms: int | None = 7 * DAY_MS,
    free_bytes: int | None = None,
) -> Facts:
    """All topics as `topics create` makes them, with `configs` changed; topics that are only in `configs` are there,
    too."""
    changed = configs or {}
    states = {
        topic.name: TopicState(topic.name, topic.partitions, 1, {**topic.configs, **changed.get(topic.name, {})})
        for topic in specifications(settings)
    }
    states |= {name: TopicState(name, 4, 1, config) for name, config in changed.items() if name not in states}
    held = {name: size(name, **(sizes or {}).get(name, {})) for name in states}
    return Facts(NOW_MS, states, held, lags, offsets_retention_ms, free_bytes)


@pytest.fixture
def facts_of() -> Callable[..., Facts]:
    return make_facts
