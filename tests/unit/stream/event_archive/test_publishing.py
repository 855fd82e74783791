"""Which topics an archive is imported into, and which would not keep its records as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream.event_archive.archive import Archive, Description
from stream.event_archive.manifest import ArchiveError
from stream.event_archive.publishing import OrderFollower, decode_begun, require_fit, target_of
from stream.kafka.provisioning import DAY_MS, TopicState
from stream.kafka.record import RawRecord
from stream.topics import Topics

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]
NOW_MS = 19_810 * DAY_MS


@pytest.mark.parametrize(
    ("source", "target"),
    [("risk.profiles", "new.profiles"), ("watch-order", "watch2-order"), ("other", "other"), ("risk.x.y", "new.x.y")],
)
def test_topics_take_the_new_prefix_and_application(source: str, target: str) -> None:
    assert target_of(source, Description("risk.", "watch"), Topics("new."), "watch2") == target


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ({"cleanup.policy": "delete", "retention.ms": str(5 * DAY_MS)}, "deletes records 5.0 days after their time"),
        ({"cleanup.policy": "compact,delete", "retention.ms": "1000"}, "oldest are of 2024-03-17"),
        ({"message.timestamp.type": "LogAppendTime"}, "puts times of its own"),
        ({}, ""),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, ""),
        ({"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}, ""),
        ({"cleanup.policy": "delete", "retention.ms": str((1 << 63) - 1)}, ""),
        ({"cleanup.policy": "compact", "retention.ms": "1000"}, ""),
    ],
)
def test_a_topic_must_keep_records_as_they_are(
    make_archive: Make, some_records: Some, configs: dict[str, str], said: str
) -> None:
    manifests = make_archive(some_records(range(5))).manifests()
    state = TopicState("repayments", 1, 1, configs)
    if not said:
        require_fit(state, manifests, NOW_MS)
        return
    with pytest.raises(ArchiveError, match=said):
        require_fit(state, manifests, NOW_MS)


def test_a_topic_must_have_as_many_partitions(make_archive: Make, some_records: Some) -> None:
    manifests = make_archive(some_records(range(5), partition=2)).manifests()
    with pytest.raises(ArchiveError, match="has 4 partitions, the archive 3"):
        require_fit(TopicState("repayments", 4, 1, {}), manifests, NOW_MS)


def test_a_journal_of_offsets_is_valid_where_all_offsets_stay(make_archive: Make, some_records: Some) -> None:
    whole = make_archive([*some_records(range(5), "a"), *some_records(range(3), "b")]).manifests()
    assert OrderFollower("order", ("a", "b")).stays_valid(whole)
    assert not OrderFollower("order", ("a", "c")).stays_valid(whole)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"source":"\xff"}', b'{"source":1}'])
def test_what_is_no_note_of_an_import_is_told(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of msgspec or Python, as the content is
        decode_begun(content)


@pytest.mark.parametrize("offsets", [[1, 2, 3], [0, 1, 3]])
def test_a_journal_of_offsets_is_of_no_use_where_some_are_left_out(
    make_archive: Make, some_records: Some, offsets: list[int]
) -> None:
    assert not OrderFollower("order", ("a",)).stays_valid(make_archive(some_records(offsets, "a")).manifests())
