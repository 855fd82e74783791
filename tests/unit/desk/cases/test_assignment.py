"""Cases given out: fairly, within caps and products."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from desk.cases.assignment import Collector, Waiting, distribute

CASES = st.lists(st.sampled_from(["card", "loan", None]), max_size=30).map(
    lambda products: [Waiting(f"a{number}", product) for number, product in enumerate(products)]
)
SCOPES = st.sampled_from([None, frozenset({"card"}), frozenset({"loan"}), frozenset({"card", "loan"})])
COLLECTORS = st.lists(st.tuples(SCOPES, st.integers(0, 9), st.none() | st.integers(0, 6)), max_size=4).map(
    lambda rows: [Collector(f"c{number}", *row) for number, row in enumerate(rows)]
)


@given(CASES, COLLECTORS)
def test_everybody_gets_what_they_may_have_and_nobody_more(cases: list[Waiting], collectors: list[Collector]) -> None:
    given_out = distribute(cases, collectors)
    by_name = {one.name: one for one in collectors}
    assert len({case.alert_id for case, _ in given_out}) == len(given_out)
    counts = Counter(name for _, name in given_out)
    for case, name in given_out:
        assert by_name[name].products is None or case.product in (by_name[name].products or ())
    for name, count in counts.items():
        room = by_name[name].room
        assert room is None or count <= room
    left = {case.alert_id for case in cases} - {case.alert_id for case, _ in given_out}
    for case in cases:
        if case.alert_id in left:
            able = [one for one in collectors if one.products is None or case.product in one.products]
            assert all(one.room is not None and counts[one.name] == one.room for one in able)


@given(CASES, st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_loads_become_even(cases: list[Waiting], loads: list[int]) -> None:
    collectors = [Collector(f"c{number}", None, load, None) for number, load in enumerate(loads)]
    counts = Counter(name for _, name in distribute(cases, collectors))
    after = [one.load + counts[one.name] for one in collectors]
    assert sum(counts.values()) == len(cases)
    given_to = [load for one, load in zip(collectors, after, strict=True) if counts[one.name]]
    assert not given_to or max(given_to) <= min(after) + 1


def test_the_first_of_the_queue_goes_to_who_has_fewest_then_by_name() -> None:
    collectors = [Collector("zoe", None, 1, None), Collector("ann", None, 1, 1), Collector("bob", None, 5, None)]
    given_out = distribute([Waiting(name, None) for name in "xyz"], collectors)
    assert [(case.alert_id, name) for case, name in given_out] == [("x", "ann"), ("y", "zoe"), ("z", "zoe")]
