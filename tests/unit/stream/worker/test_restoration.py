"""What is still to come before a worker scores, in words."""

from __future__ import annotations

from stream.worker.restoration import Restoration


def test_it_is_ready_when_every_partition_that_it_has_is_restored() -> None:
    restoration = Restoration()
    assert restoration.unready == "its partitions are being taken over"
    restoration.owned, restoration.remaining = frozenset({1, 3}), {1: 40, 3: 2}
    restoration.restored = frozenset({3})
    assert restoration.unready == "states of partitions [1] are being read, 42 changelog offsets are to come"
    restoration.restored = frozenset({1, 3})
    assert restoration.unready is None
    restoration.begin()
    assert restoration.unready == "its partitions are being taken over"
    restoration.owned = frozenset()
    assert restoration.unready is None, "there are more workers than partitions"
