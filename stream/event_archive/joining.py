"""Several archives' manifests of one partition as one: which offsets are read from which of them. Pure.

Archives may overlap: each offset is read from one of them, the one that is being read until its segment ends, and from
one that has its record rather than from one that has lost it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stream.event_archive.manifest import Manifest, Segment


class Slice(NamedTuple):
    """Offsets from `begin` up to before `end` of a segment of the manifest of this number."""

    number: int
    segment: Segment
    begin: int
    end: int


@dataclass(frozen=True)
class JoinedManifests:
    """What archives hold of one partition together: `slices` in the order of offsets, without an overlap."""

    manifests: tuple[Manifest, ...]
    slices: tuple[Slice, ...]

    @classmethod
    def of(cls, manifests: Sequence[Manifest]) -> JoinedManifests:
        """Of one manifest at least, all of the same partition of the same topic."""
        return cls(tuple(manifests), tuple(_slices(manifests)))

    @property
    def topic(self) -> str:
        return self.manifests[0].topic

    @property
    def partition(self) -> int:
        return self.manifests[0].partition

    @property
    def topic_id(self) -> str:
        """The broker's id of the topic. Of all: who joins them has seen to that."""
        return self.manifests[0].topic_id

    @property
    def start_offset(self) -> int:
        return min(manifest.start_offset for manifest in self._with_offsets)

    @property
    def next_offset(self) -> int:
        return max(manifest.next_offset for manifest in self._with_offsets)

    @property
    def missing(self) -> list[range]:
        """Offsets in between that none of the archives holds."""
        found, reached = [], self.start_offset
        for one in self.slices:
            if one.begin > reached:
                found.append(range(reached, one.begin))
            reached = one.end
        return found

    @property
    def lost(self) -> list[range]:
        """Offsets whose records had left the topic before they were read."""
        return [range(one.begin, one.end) for one in self.slices if one.segment.lost]

    @property
    def _with_offsets(self) -> Sequence[Manifest]:
        """An archive that was begun where there was nothing yet says nothing of where offsets begin."""
        filled = [manifest for manifest in self.manifests if manifest.next_offset > manifest.start_offset]
        return filled or self.manifests[-1:]


def _slices(manifests: Sequence[Manifest]) -> Iterator[Slice]:
    segments = [(number, segment) for number, manifest in enumerate(manifests) for segment in manifest.segments]
    reached = min((segment.start_offset for _, segment in segments), default=0)
    while ahead := [(number, segment) for number, segment in segments if segment.next_offset > reached]:
        here = [(number, segment) for number, segment in ahead if segment.start_offset <= reached]
        if not here:
            reached = min(segment.start_offset for _, segment in ahead)
            continue
        number, segment = min(here, key=lambda one: (one[1].lost, one[0]))
        end = segment.next_offset
        if segment.lost:
            end = min([end, *(other.start_offset for _, other in ahead if other.start_offset > reached)])
        yield Slice(number, segment, reached, end)
        reached = end
