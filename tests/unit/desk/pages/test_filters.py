"""The filters of the queue in an address."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.cases.queue import QueueFilters
from desk.pages.filters import ME, NAMES, NOBODY, Asked, asked, asked_of
from desk.pages.queue import READY
from events.reasons import CATALOGUE
from stream.case_records import CASE_STATUSES

SOUND = st.builds(
    Asked,
    user=st.none() | st.text(min_size=1, max_size=20).map(str.strip).filter(lambda text: text and "\x00" not in text),
    level=st.none() | st.sampled_from(("MEDIUM", "HIGH")),
    status=st.none() | st.sampled_from(CASE_STATUSES),
    product=st.none() | st.just("card"),
    assignee=st.none() | st.sampled_from((ME, NOBODY, "ann")),
    reason=st.none() | st.sampled_from(sorted(CATALOGUE)),
    age=st.none() | st.integers(0, 36_500),
    review=st.booleans(),
)


@given(SOUND)
def test_an_address_says_what_was_asked(wanted: Asked) -> None:
    assert asked(dict(parse_qsl(wanted.query))) == wanted


@given(SOUND)
def test_kept_filters_show_what_was_asked(wanted: Asked) -> None:
    kept = wanted.filters("me")
    again = asked_of(kept, "me")
    assert again.filters("me") == kept


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=300)))
def test_any_address_is_read(query: dict[str, str]) -> None:
    found = asked(query)
    assert isinstance(found.filters("ann"), QueueFilters)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [({"level": "BAD"}, "level=BAD"), ({"age": "-1"}, "age=-1"), ({"age": "99999999"}, "age=99999999"),
     ({"status": "done"}, "status=done"), ({"reason": "x"}, "reason=x"), ({"user": "a\x00"}, "user=a\x00")],
)  # fmt: skip
def test_what_is_no_filter_is_named(query: dict[str, str], wrong: str) -> None:
    found = asked(query)
    assert found.wrong == (wrong,)
    assert found.query == ""


def test_who_me_is_depends_on_who_asks() -> None:
    assert Asked(assignee=ME).filters("ann").assignee == "ann"
    assert Asked(assignee=NOBODY).filters("ann").unassigned


@pytest.mark.parametrize("name", READY)
def test_views_that_are_there_come_back_from_their_address(name: str) -> None:
    assert asked(dict(parse_qsl(READY[name].query))) == READY[name]
