"""Keys go where Java's clients put them."""

from __future__ import annotations

import pytest
from kafka.partitioner.default import murmur2

from stream.kafka.publisher import partition_of


@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_partitions_are_those_of_another_client(partitions: int) -> None:
    for number in range(200):
        key = b"u%07d" % number
        assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
