"""Archives' manifests of one partition as one: every offset once, from an archive that has its record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.event_archive.joining import JoinedManifests
from stream.event_archive.manifest import Manifest, Segment


def manifest(start: int, *segments: tuple[int, bool]) -> Manifest:
    """Segments of these lengths, lost or not, one after the other."""
    found = Manifest("repayments", "id", 0, start, start)
    for length, lost in segments:
        found = found.with_segment(
            Segment(found.next_offset, found.next_offset + length, 0 if lost else 1, (), 0, lost)
        )
    return found


MANIFESTS = st.lists(
    st.builds(
        lambda start, segments: manifest(start, *segments),
        st.integers(0, 30),
        st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=5),
    ),
    min_size=1,
    max_size=4,
)


@given(MANIFESTS)
def test_every_offset_is_read_once_from_one_that_has_it(manifests: list[Manifest]) -> None:
    joined = JoinedManifests.of(manifests)
    held: set[int] = set()
    has: set[int] = set()
    for each in manifests:
        for segment in each.segments:
            offsets = range(segment.start_offset, segment.next_offset)
            held.update(offsets)
            has.update(() if segment.lost else offsets)
    read: list[int] = []
    for one in joined.slices:
        assert one.segment in manifests[one.number].segments
        assert one.segment.start_offset <= one.begin < one.end <= one.segment.next_offset
        assert one.segment.lost or one.end == one.segment.next_offset, "a file is read to its end"
        read += range(one.begin, one.end)
    assert read == sorted(held)
    assert {offset for offsets in joined.lost for offset in offsets} == held - has
    if held:
        assert (joined.start_offset, joined.next_offset) == (min(held), max(held) + 1)
        missing = {offset for offsets in joined.missing for offset in offsets}
        assert missing == set(range(min(held), max(held) + 1)) - held


def test_one_manifest_is_read_as_it_is() -> None:
    one = manifest(4, (3, False), (2, True), (5, False))
    joined = JoinedManifests.of([one])
    assert [one.segment for one in joined.slices] == list(one.segments)
    assert (joined.start_offset, joined.next_offset, joined.lost, joined.missing) == (4, 14, one.lost, [])
    empty = JoinedManifests.of([manifest(7)])
    assert (empty.start_offset, empty.next_offset, empty.slices) == (7, 7, ())
