"""Arithmetic of deployments: figures worked out by hand, and what must hold for any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling import GIB, Assumptions, Measured, deployment, partitions_for, step

MEASURED = Measured(events_per_second=50_000, recovered_users_per_second=100_000, bytes_per_user=4_000, row_bytes=4_000)
ASSUMED = Assumptions(
    events_per_user_day=8.64,
    peak_factor=10.0,
    busy_share=0.5,
    worker_memory_gib=4_000 * 1_000_000 / GIB,
    state_memory_share=0.5,
    event_bytes=200,
    score_bytes=500,
    replication=2,
    events_kept_days=10,
    scores_kept_days=2,
    changelog_overhead=1.5,
)


def test_by_hand() -> None:
    found = deployment(10_000_000, MEASURED, ASSUMED)
    assert found.average_events_per_second == pytest.approx(1_000)
    assert found.peak_events_per_second == pytest.approx(10_000)
    assert found.workers_for_rate == 1
    assert found.workers_for_memory == 20  # half a million rows in each
    assert found.workers == 20
    assert found.partitions == 64
    assert found.changelog_mb_per_second == pytest.approx(4.0)
    assert found.changelog_tb == pytest.approx(10e6 * 4_000 * 1.5 * 2 / 1e12)
    assert found.events_tb == pytest.approx(86.4e6 * (200 * 10 + 500 * 2) * 2 / 1e12)
    assert found.recovery_s == pytest.approx(5.0)


def test_one_partition_after_another() -> None:
    one, many = step(1, MEASURED, ASSUMED), step(1_000, MEASURED, ASSUMED)
    assert one.events_per_second == 50_000
    assert one.users_in_memory == pytest.approx(500_000)
    assert one.read_mb_per_second == pytest.approx(10.0)
    assert one.written_mb_per_second == pytest.approx(225.0)
    assert many.written_mb_per_second == pytest.approx(1_000 * one.written_mb_per_second)


@given(workers=st.integers(1, 100_000))
def test_there_is_room_to_double_and_no_more_than_needed(workers: int) -> None:
    partitions = partitions_for(workers)
    assert partitions >= max(4, 2 * workers)
    assert partitions & (partitions - 1) == 0
    assert partitions == 4 or partitions < 4 * workers


@given(users=st.floats(1, 1e10), more=st.floats(1, 100))
def test_more_users_never_need_less(users: float, more: float) -> None:
    small, large = deployment(users, MEASURED, Assumptions()), deployment(users * more, MEASURED, Assumptions())
    assert large.workers >= small.workers >= 1
    assert large.partitions >= small.partitions
    assert large.changelog_tb >= small.changelog_tb
