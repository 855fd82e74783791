from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stream.comparison.alerts import DAY_MS, EXAMPLES, AlertShifts, Opening, ShiftedAlert, paired

days = st.lists(st.integers(0, 400), max_size=6)


def openings(on_days: list[int]) -> list[Opening]:
    return [Opening(day * DAY_MS, "MEDIUM") for day in sorted(on_days)]


@given(days, days)
def test_every_opening_is_in_one_shift_and_pairs_are_near_and_in_order(live: list[int], other: list[int]) -> None:
    found = list(paired(openings(live), openings(other)))
    assert sorted(one.live for one in found if one.live) == openings(live)
    assert sorted(one.other for one in found if one.other) == openings(other)
    assert sum(one.shift == "same" for one in found) == (Counter(live) & Counter(other)).total()
    for one in found:
        lead = one.lead_days
        assert (lead is None) == (one.shift in ("gained", "lost"))
        if lead is not None:
            assert abs(lead) <= 90
            assert one.shift == ("same" if lead == 0 else "earlier" if lead > 0 else "later")


@given(days, days)
def test_the_sides_are_alike(live: list[int], other: list[int]) -> None:
    turned = {"same": "same", "earlier": "later", "later": "earlier", "gained": "lost", "lost": "gained"}
    there = [one.shift for one in paired(openings(live), openings(other))]
    back = [one.shift for one in paired(openings(other), openings(live))]
    assert sorted(turned[shift] for shift in there) == sorted(back)


def test_examples() -> None:
    for live, other, shifts in (
        ([10], [10], ["same"]), ([10], [3], ["earlier"]), ([10], [20], ["later"]), ([10], [], ["lost"]),
        ([], [10], ["gained"]), ([10], [101], ["lost", "gained"]), ([200], [10], ["gained", "lost"]),
        ([10, 300], [12], ["later", "lost"]), ([10, 300], [299], ["lost", "earlier"]),
        ([10, 20], [20], ["lost", "same"]), ([10, 40], [10, 30], ["same", "earlier"]),
    ):  # fmt: skip
        assert [one.shift for one in paired(openings(live), openings(other))] == shifts


def test_shifts_are_counted_in_all_and_by_segment() -> None:
    shifts = AlertShifts()
    shifts.add("ann", {"product": "loan", "region": "north"}, paired(openings([10, 200]), openings([3])))
    shifts.add("bob", {"product": "card", "region": "north"}, paired(openings([10]), openings([10])))
    shifts.add("cid", {"product": "loan", "region": "south"}, paired(openings([50, 300]), openings([47, 250])))
    assert shifts.counts == {"earlier": 3, "lost": 1, "same": 1}
    assert shifts.by_segment == {
        ("product", "loan"): {"earlier": 3, "lost": 1},
        ("product", "card"): {"same": 1},
        ("region", "north"): {"earlier": 1, "lost": 1, "same": 1},
        ("region", "south"): {"earlier": 2},
    }
    assert (shifts.live_levels, shifts.other_levels) == ({"MEDIUM": 5}, {"MEDIUM": 4})
    assert (shifts.median_lead_days("earlier"), shifts.median_lead_days("later")) == (7.0, None)
    assert [(one.user_id, one.shift, one.lead_days) for one in shifts.examples] == [
        ("ann", "earlier", 7.0), ("ann", "lost", None), ("cid", "earlier", 3.0), ("cid", "earlier", 50.0),
    ]  # fmt: skip


def test_examples_are_few() -> None:
    shifts = AlertShifts()
    for number in range(100):
        shifts.add(f"u{number}", {"product": "loan"}, [ShiftedAlert("lost", Opening(0, "HIGH"), None)])
    assert len(shifts.examples) == EXAMPLES
    assert shifts.counts["lost"] == 100
