import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.database.partitions import month_of, next_month, partition_name

MOMENTS = st.datetimes(
    min_value=dt.datetime(1970, 1, 2),
    max_value=dt.datetime(2200, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes))),
)


@given(MOMENTS)
def test_a_moment_lies_in_its_utc_month(moment: dt.datetime) -> None:
    first = month_of(moment)
    start, end = (dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) for day in (first, next_month(first)))

    assert first.day == 1
    assert start <= moment < end
    assert dt.timedelta(days=28) <= end - start <= dt.timedelta(days=31)


@given(MOMENTS, MOMENTS)
def test_months_have_one_name_each(one: dt.datetime, other: dt.datetime) -> None:
    assert (month_of(one) == month_of(other)) == (
        partition_name("user_events", month_of(one)) == partition_name("user_events", month_of(other))
    )


@pytest.mark.parametrize(
    ("month", "after"), [((2023, 1), (2023, 2)), ((2023, 11), (2023, 12)), ((2023, 12), (2024, 1))]
)
def test_next_month(month: tuple[int, int], after: tuple[int, int]) -> None:
    assert next_month(dt.date(*month, 1)) == dt.date(*after, 1)


def test_partition_name() -> None:
    assert partition_name("score_history", dt.date(2023, 4, 1)) == "score_history_2023_04"
