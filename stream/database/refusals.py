"""Writes a batch without the rows that cannot be stored for what they hold, and says which they are.

Others may write to the output topics, and a single value that no table takes must not keep everything behind it out. An
error of another kind is passed on: an unavailable database, a missing table, a fault of this program. Decodes nothing.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg

from stream.database import staging
from stream.database.kept_events import KeptEvent
from stream.database.partitions import month_of, next_month
from stream.database.products import ContractProduct
from stream.database.writer import DatabaseWriter
from stream.outputs import Alert, BorrowerContracts, DeadLetter, Output, Score

CONTENT_CLASSES = frozenset({"22", "54"})
"""SQLSTATE classes that a value causes: data exception; program limit exceeded, e.g. a key too long for its index."""

CONVERSION_ERRORS = (ValueError, OverflowError, RecursionError, struct.error)
"""What a value that fits into no column raises on its way into a row: a number or a time out of range, no Unicode."""


class Placed(NamedTuple):
    """An output, what a profile says, or an event, with the place of its record, `<topic>:<partition>:<offset>`. A
    tuple, since each score needs one."""

    place: str
    output: Output | ContractProduct | KeptEvent


OnRefused = Callable[[Placed, Exception], None]


def write_what_fits(writer: DatabaseWriter, batch: Sequence[Placed], on_refused: OnRefused) -> None:
    """Write a batch; what its content keeps out is left out, and `on_refused` called for each with the reason.

    As long as nothing is refused, this is one call of `writer.write`. Otherwise rows that cannot be converted are
    sorted out first, and a batch that the database refuses then is halved until the culprits stand alone. Each part is
    a transaction of its own. Raises what `writer.write` raises for another reason than content; the whole batch can be
    written again then.
    """
    if not _refusal_of(writer, batch):
        return
    convertible = []
    for placed in batch:
        error = _fault_of(placed.output)
        if error is None:
            convertible.append(placed)
        else:
            on_refused(placed, error)
    _write_in_halves(writer, convertible, on_refused)


def is_refusal(error: Exception) -> bool:
    """Whether an error of writing is about what the rows hold, so that the same rows will never be written."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, CONVERSION_ERRORS)
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    if isinstance(error, psycopg.errors.CheckViolation):
        return error.diag.constraint_name is not None  # without a name, it is a partition that is missing
    return error.sqlstate[:2] in CONTENT_CLASSES


def reason_of(error: Exception) -> str:
    """Why rows were refused, by the names of errors, tables, columns and constraints: the server's own words repeat
    values."""
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return str(error).partition("\n")[0]
    diag = error.diag
    named = (("table", diag.table_name), ("column", diag.column_name), ("constraint", diag.constraint_name))
    where = "".join(f", {what} {name}" for what, name in named if name)
    return f"{type(error).__name__}, SQLSTATE {error.sqlstate}{where}"


def _write_in_halves(writer: DatabaseWriter, batch: Sequence[Placed], on_refused: OnRefused) -> None:
    error = _refusal_of(writer, batch)
    if error is None:
        return
    if len(batch) == 1:
        on_refused(batch[0], error)
        return
    middle = len(batch) // 2
    _write_in_halves(writer, batch[:middle], on_refused)
    _write_in_halves(writer, batch[middle:], on_refused)


def _refusal_of(writer: DatabaseWriter, batch: Sequence[Placed]) -> Exception | None:
    """Write a batch; returns the error where its content was refused, after which nothing of it is written."""
    by_type: defaultdict[type, list[Any]] = defaultdict(list)
    for placed in batch:
        by_type[type(placed.output)].append(placed.output)
    try:
        writer.write(
            by_type[Score],
            by_type[Alert],
            by_type[DeadLetter],
            by_type[BorrowerContracts],
            by_type[ContractProduct],
            by_type[KeptEvent],
        )
    except Exception as error:
        if not is_refusal(error):
            raise
        return error
    return None


def _fault_of(output: Output | ContractProduct | KeptEvent) -> Exception | None:
    """Why an output cannot become a row. Cheap, where asking the database would take many transactions."""
    try:
        if isinstance(output, (Score, KeptEvent)):
            next_month(month_of(output.occurred_at))
        rows = _rows_of(output)
    except CONVERSION_ERRORS as error:
        return error
    if any(isinstance(cell, str) and "\x00" in cell for row in rows for cell in row):
        return ValueError("U+0000 in an id or a name")
    return None


def _rows_of(output: Output | ContractProduct | KeptEvent) -> Sequence[staging.Row]:
    if isinstance(output, Score):
        return staging.score_rows([output])
    if isinstance(output, BorrowerContracts):
        return staging.contract_rows([output])
    if isinstance(output, ContractProduct):
        return staging.product_rows([output])
    if isinstance(output, KeptEvent):
        return [staging.event_row(output)]
    return [staging.alert_row(output) if isinstance(output, Alert) else staging.dead_letter_row(output)]
