"""The task that a contender gets, and the record that it publishes per event."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from events.types import EVENT_TYPES, KINDS, Event, Kind


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Where a contender reads and writes. `inputs` are the topics in the order of `KINDS`."""

    bootstrap_servers: str
    inputs: list[str]
    output: str
    partitions: int
    group: str
    bundle: str
    window_model: str | None
    folder: str

    @classmethod
    def from_command_line(cls) -> Task:
        return msgspec.json.decode(sys.argv[1], type=cls)

    @property
    def kind_of(self) -> dict[str, Kind]:
        """Kind by topic."""
        return dict(zip(self.inputs, KINDS, strict=True))

    @property
    def decoders(self) -> dict[str, Callable[[bytes], Event]]:
        """By topic, the function that decodes a record's value to its event."""
        return {topic: msgspec.json.Decoder(EVENT_TYPES[kind]).decode for topic, kind in self.kind_of.items()}


class PeerScore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One score. It has fewer fields than the worker's `Score`, so publishing is no disadvantage for a contender."""

    score_id: str
    event_id: str
    user_id: str
    score: float
    horizons: list[float]


_ENCODER = msgspec.json.Encoder()


def score_bytes(event: Event, topic: str, partition: int, offset: int, horizons: list[float]) -> bytes:
    """A score as published; `score` is the headline of four horizons, the third."""
    return _ENCODER.encode(
        PeerScore(
            score_id=f"{topic}:{partition}:{offset}",
            event_id=event.event_id,
            user_id=event.user_id,
            score=horizons[2],
            horizons=horizons,
        )
    )
