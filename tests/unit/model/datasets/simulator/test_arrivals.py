from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from model.datasets.simulator import Simulator
from model.datasets.simulator.arrivals import LATEST_MS, delivered

HOUR_MS = 3_600_000
TIMES = st.lists(st.integers(0, 40 * 24 * HOUR_MS), max_size=60).map(sorted)
SHARES = st.sampled_from([0.0, 0.3, 1.0])


def records_at(times_ms):
    return [("activity", b"u%d" % (number % 3), b"%d" % number, at_ms) for number, at_ms in enumerate(times_ms)]


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(0, 9), SHARES, SHARES)
def test_nothing_is_lost_and_nothing_comes_before_it_happened_or_much_later(times_ms, seed, late_share, twice_share):
    records = records_at(times_ms)

    arrived = list(delivered(records, seed, late_share, twice_share))

    count = Counter(arrived)
    assert count.keys() == set(records)
    assert max(count.values(), default=1) <= 2
    clock_ms = 0
    for record in arrived:
        clock_ms = max(clock_ms, record[3])
        assert clock_ms - record[3] <= 2 * LATEST_MS
    assert arrived == list(delivered(records, seed, late_share, twice_share))


def test_without_shares_records_arrive_as_they_happened():
    records = records_at(range(0, 90 * HOUR_MS, HOUR_MS))

    assert list(delivered(records, 5, 0.0, 0.0)) == records


def test_a_portfolio_arrives_a_little_out_of_order_and_a_little_too_often():
    simulator = Simulator(users=60, months=4, seed=2)
    records, arrived = list(simulator.keyed_events()), list(simulator.arrivals())

    late = sum(later[3] < earlier[3] for earlier, later in pairwise(arrived))
    assert set(arrived) == set(records)
    assert 0.002 < (len(arrived) - len(records)) / len(records) < 0.01
    assert 0.01 < late / len(records) < 0.035
