"""Which dead letters are meant, and how they are counted."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stream.dead_letters.letters import EXAMPLES, LetterCounts, LetterFilter, StoredLetter
from tests.examples import dead_letter

DAY_MS = 86_400_000


def stored(offset: int = 0, refused_ms: int = 0, **fields: Any) -> StoredLetter:
    return StoredLetter(1, offset, refused_ms, dead_letter(**fields))


def test_no_filter_takes_everything() -> None:
    assert LetterFilter().takes(stored())


def test_each_part_of_a_filter_leaves_out_what_it_does_not_name() -> None:
    letter = stored(refused_ms=100)
    for wanted, other in (
        (LetterFilter(reasons=frozenset({"not_json"})), stored(refused_ms=100, reason="null_key")),
        (LetterFilter(topics=frozenset({"activity"})), stored(refused_ms=100, topic="profiles")),
        (LetterFilter(since_ms=100), stored(refused_ms=99)),
        (LetterFilter(until_ms=101), stored(refused_ms=101)),
        (LetterFilter(user_id="u"), stored(refused_ms=100, key=b"v")),
    ):
        assert wanted.takes(letter)
        assert not wanted.takes(other)


def test_a_user_is_found_by_the_key_and_by_the_value() -> None:
    wanted = LetterFilter(user_id="ann")
    assert wanted.takes(stored(key=b"ann", value=None))
    assert wanted.takes(stored(key=None, value=b'{"user_id":"ann"}'))
    assert not wanted.takes(stored(key=None, value=b'{"note":"ann"}'))
    assert not wanted.takes(stored(key=b"\xff", value=b"\xff"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["not_json", "null_key"]),
            st.sampled_from(["activity", "profiles"]),
            st.integers(0, 3 * DAY_MS - 1),
        )
    )
)
def test_groups_count_every_letter_once(letters: list[tuple[str, str, int]]) -> None:
    sent = {str(number) for number in range(0, len(letters), 2)}
    counts = LetterCounts(sent)
    for number, (reason, topic, at_ms) in enumerate(letters):
        counts.add(stored(number, at_ms, reason=reason, topic=topic, dead_letter_id=str(number)))
    groups = counts.groups
    epoch = dt.date(1970, 1, 1)
    expected = Counter((reason, topic, epoch + dt.timedelta(at_ms // DAY_MS)) for reason, topic, at_ms in letters)
    assert {(group.reason, group.topic, group.day): group.letters for group in groups} == expected
    assert counts.letters == len(letters)
    assert sum(group.sent_back for group in groups) == len(sent)
    assert all(len(group.examples) == min(group.letters, EXAMPLES) for group in groups)
    assert [(g.reason, g.topic) for g in groups] == sorted((g.reason, g.topic) for g in groups)


def test_places_name_the_letter_and_the_record() -> None:
    assert (stored(7).place, stored(7).origin) == ("1:7", "activity:3:42")
