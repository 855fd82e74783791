"""The outlook of a portfolio as one report: expected new cases in 30, 60 and 90 days, in all and by segment.

Made from a source and a bundle, or from PostgreSQL. The arithmetic is that of `model.outlook.outlook`; how good past
outlooks were follows from the same data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.evaluation.scored_source import ScoredSource
from model.evaluation.segments import profile_groups
from model.outlook.backtest import track_record
from model.outlook.outlook import (
    OUTLOOK_DAYS,
    Book,
    Judged,
    Outlook,
    TrackRecord,
    book_at,
    dispersion,
    outlook,
    within,
)
from reports.books import read_books
from stream.database.connection import DatabaseConnection

ALL = "all"


class OutlookError(ValueError):
    """No user is at risk; the message says why and what to do."""


@dataclass(frozen=True)
class Portfolio:
    """Outlooks at a moment (event time), the whole book first, then by segment.

    By horizon in days, `origins` counts the past outlooks whose horizon has passed, and `past_ratio` is the number of
    cases that came over the number that those expected.
    """

    model: str
    fingerprint: str
    source: str
    at: dt.datetime
    segmented_by: str | None
    outlooks: list[Outlook]
    origins: dict[int, int]
    past_ratio: dict[int, float | None]


def outlook_of_source(source: ScoredSource, stale_days: float, segment: str | None = None) -> Portfolio:
    """The outlook after the last event of a scored source; `segment` is a category of its profiles.

    Raises `OutlookError` when nobody is at risk, `ValueError` for a segment that profiles lack.
    """
    at_ms = int(source.sequences.times_ms.max()) + 1
    book = book_at(source.sequences, source.probabilities, source.truth, at_ms, stale_days)
    groups = None if segment is None else profile_groups(source.plain, segment)[book.users]
    record = track_record(source, at_ms, stale_days)
    return _portfolio(source.bundle, source.name, book, record, segment, groups)


def outlook_of_database(
    database: DatabaseConnection,
    bundle: Bundle,
    stale_days: float,
    *,
    by_level: bool,
    products: Sequence[str] | None = None,
) -> Portfolio:
    """The outlook after the latest score in PostgreSQL, of all users or of those with contracts of `products`.

    Raises `OutlookError`, `DatabaseError`.
    """
    books = read_books(
        database, bundle.fingerprint_hex, bundle.horizons_days, bundle.manifest.delinquency_days, stale_days, products
    )
    return _portfolio(
        bundle,
        database.address,
        books.now,
        books.record,
        "level" if by_level else None,
        books.levels if by_level else None,
    )


def _portfolio(
    bundle: Bundle,
    source: str,
    book: Book,
    record: TrackRecord,
    segmented_by: str | None,
    groups: NDArray[np.str_] | None,
) -> Portfolio:
    if not len(book.users):
        raise OutlookError(f"{source}: no user at risk has a recent score; raise --stale-days, or look at the data")
    found = []
    past = {days: record.due(days, book.at_ms) for days in OUTLOOK_DAYS}
    chances = record.chances(book)
    names = [] if groups is None else [str(name) for name in np.unique(groups)]
    for segment in (ALL, *names):
        inside = np.ones(len(book.users), bool) if groups is None or segment == ALL else groups == segment
        for days in OUTLOOK_DAYS:
            scores = within(book, bundle.horizons_days, days)
            found.append(outlook(segment, days, scores[inside], chances[days][inside], dispersion(past[days])))
    return Portfolio(
        model=bundle.manifest.name,
        fingerprint=bundle.fingerprint_hex,
        source=source,
        at=dt.datetime.fromtimestamp(book.at_ms / 1000, dt.UTC),
        segmented_by=segmented_by,
        outlooks=found,
        origins={days: len(past[days]) for days in OUTLOOK_DAYS},
        past_ratio={days: _ratio(past[days]) for days in OUTLOOK_DAYS},
    )


def _ratio(past: Sequence[Judged]) -> float | None:
    """Observed over expected cases of past outlooks; None where none was expected."""
    expected = sum(each.expected for each in past)
    return sum(each.observed for each in past) / expected if expected else None
