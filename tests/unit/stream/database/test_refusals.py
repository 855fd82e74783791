"""A batch is narrowed down to what is refused in it. What PostgreSQL refuses is in
`tests/integration/test_foreign_outputs.py`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors as sql_errors

from stream.database.errors import DatabaseUnavailable
from stream.database.refusals import Placed, is_refusal, write_what_fits
from stream.database.writer import DatabaseWriter
from stream.outputs import DeadLetter


def letter(number: int, **changes: Any) -> Placed:
    fields: dict[str, Any] = {
        "dead_letter_id": str(number), "reason": "not_json", "message": "", "topic": "t", "partition": 0,
        "offset": number, "timestamp_ms": 0, **changes,
    }  # fmt: skip
    return Placed(f"dead-letters:0:{number}", DeadLetter(**fields))


class FakeWriter:
    """Refuses any batch with one of the rows in `refused`, as a database does: nothing of it is written."""

    def __init__(self, refused: set[int], fails: Callable[[int], Exception | None] = lambda _call: None) -> None:
        self.refused = refused
        self.fails = fails
        self.calls = 0
        self.written: list[int] = []

    def write(
        self,
        scores: Sequence[Any],
        alerts: Sequence[Any],
        letters: Sequence[DeadLetter],
        contracts: Sequence[Any],
        products: Sequence[Any],
        events: Sequence[Any],
    ) -> None:
        assert not scores
        assert not alerts
        assert not contracts
        assert not products
        assert not events
        self.calls += 1
        error = self.fails(self.calls)
        if error is not None:
            raise error
        offsets = [letter.offset for letter in letters]
        if self.refused & set(offsets):
            raise sql_errors.NumericValueOutOfRange("too much")
        self.written += offsets


def written(writer: FakeWriter, batch: Sequence[Placed]) -> list[str]:
    skipped: list[str] = []
    write_what_fits(cast(DatabaseWriter, writer), batch, lambda placed, _error: skipped.append(placed.place))
    return skipped


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_everything_else_is_written_once_and_in_order(count: int, refused: set[int]) -> None:
    writer = FakeWriter(refused)
    skipped = written(writer, [letter(number) for number in range(count)])
    assert writer.written == [number for number in range(count) if number not in refused]
    assert skipped == [f"dead-letters:0:{number}" for number in range(count) if number in refused]


def test_a_batch_that_fits_is_one_transaction() -> None:
    writer = FakeWriter(set())
    assert written(writer, [letter(number) for number in range(1_000)]) == []
    assert writer.calls == 1


def test_one_culprit_among_many_costs_few_transactions() -> None:
    writer = FakeWriter({700})
    assert written(writer, [letter(number) for number in range(1_024)]) == ["dead-letters:0:700"]
    assert writer.calls <= 2 + 2 * 10


def test_what_cannot_be_converted_is_found_without_the_database() -> None:
    class Converting(FakeWriter):
        def write(
            self,
            scores: Sequence[Any],
            alerts: Sequence[Any],
            letters: Sequence[DeadLetter],
            contracts: Sequence[Any],
            products: Sequence[Any],
            events: Sequence[Any],
        ) -> None:
            if any("\x00" in letter.dead_letter_id + letter.topic for letter in letters):
                raise psycopg.DataError("refused")
            super().write(scores, alerts, letters, contracts, products, events)

    writer = Converting(set())
    batch = [letter(n, **{1: {"dead_letter_id": "a\x00"}, 2: {"topic": "a\x00"}}.get(n % 3, {})) for n in range(3_000)]
    assert len(written(writer, batch)) == 2_000
    assert len(writer.written) == 1_000
    assert writer.calls == 1


@pytest.mark.parametrize("call", [1, 2, 3, 7])
def test_an_unavailable_database_is_no_refusal_at_any_moment(call: int) -> None:
    writer = FakeWriter({5}, lambda number: DatabaseUnavailable("away") if number == call else None)
    with pytest.raises(DatabaseUnavailable):
        written(writer, [letter(number) for number in range(16)])


class Check(sql_errors.CheckViolation):
    """A check violation with the constraint's name, None for a missing partition."""

    def __init__(self, name: str | None) -> None:
        super().__init__("violated")
        self._name = name

    @property
    def diag(self) -> Any:
        return type("Diagnostic", (), {"constraint_name": self._name})


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (sql_errors.NumericValueOutOfRange(), True),
        (sql_errors.UntranslatableCharacter(), True),
        (sql_errors.ProgramLimitExceeded(), True),
        (Check("alerts_score_check"), True),
        (Check(None), False),
        (psycopg.DataError("not from the server"), True),
        (psycopg.OperationalError("gone"), False),
        (sql_errors.DiskFull(), False),
        (sql_errors.InsufficientPrivilege(), False),
        (sql_errors.UniqueViolation(), False),
        (sql_errors.NotNullViolation(), False),
        (ValueError(), True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), True),
        (OverflowError(), True),
        (struct.error(), True),
        (RecursionError(), True),
        (DatabaseUnavailable(), False),
        (MemoryError(), False),
        (TypeError(), False),
    ],
)
def test_what_counts_as_refused_for_its_content(error: Exception, refusal: bool) -> None:
    assert is_refusal(error) is refusal
