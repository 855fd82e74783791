"""Lists as CSV for other programs: fixed names of columns, codes instead of words, times in UTC, points as decimals.

A text that a spreadsheet would take for a formula has an apostrophe before it, since ids and notes come from outside.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Iterator, Sequence

from fastapi.responses import StreamingResponse

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> str:
    """A value as it stands in a cell; nothing where it is not known."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool | int | float):
        return str(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def lines(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """The file piece by piece, so that a long list is never whole in memory."""
    kept = io.StringIO()
    writer = csv.writer(kept)
    writer.writerow(heads)
    for row in rows:
        writer.writerow([cell(value) for value in row])
        if kept.tell() > 1 << 16:
            yield kept.getvalue().encode()
            kept.seek(0)
            kept.truncate()
    yield kept.getvalue().encode()


def sheet(name: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingResponse:
    """A file for the browser to save."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(lines(heads, rows), media_type="text/csv; charset=utf-8", headers=headers)
