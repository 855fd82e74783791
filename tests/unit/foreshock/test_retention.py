"""How `retention` words what it found."""

from __future__ import annotations

import pytest

from foreshock.retention import _kept, _words
from stream.kafka.provisioning import DAY_MS, ConfigChange
from stream.retention.rules import Kept


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, "(not to be seen)"),
        (Kept(None), "without limit"),
        (Kept(None, True), "the last of each key"),
        (Kept(2 * DAY_MS), "2.0 days"),
        (Kept(2 * DAY_MS, True), "the last of each key, at most 2.0 days"),
        (Kept(None, False, 5_000), "without limit, at most 5.0 kB per partition"),
    ],
)
def test_how_long_records_are_kept(kept: Kept | None, words: str) -> None:
    assert _kept(kept) == words


@pytest.mark.parametrize(
    ("key", "found", "wanted", "words"),
    [
        ("retention.ms", "-1", str(30 * DAY_MS), "t: retention.ms without limit → 30.0 days"),
        ("retention.bytes", "500", "-1", "t: retention.bytes 500 → without limit"),
        ("cleanup.policy", "delete", "compact", "t: cleanup.policy delete → compact"),
    ],
)
def test_a_change_in_words(key: str, found: str, wanted: str, words: str) -> None:
    assert _words(ConfigChange("t", key, found, wanted)) == words
