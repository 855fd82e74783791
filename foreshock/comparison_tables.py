"""What a shadow's report and a replay's diff have in common: an option, and tables from their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from foreshock.tables import Column, Table
from stream.published_outputs import SEGMENT_FIELDS


def _field(name: str) -> str:
    if name not in SEGMENT_FIELDS:
        raise typer.BadParameter(f"use {', '.join(SEGMENT_FIELDS)}; products are shown in any case")
    return name


Segments = Annotated[
    list[str] | None,
    typer.Option(
        "--segment",
        metavar="FIELD",
        parser=_field,
        help=f"Also by this field of profiles, once for each of several: {', '.join(SEGMENT_FIELDS)}.",
        show_default=False,
    ),
]
SHIFTS = ("earlier", "later", "gained", "lost")
EXAMPLES = 5


def deciles_table(deciles: Sequence[dict[str, Any]], other: str) -> Table:
    """How scores shift by tenths of the live ones; `other` is the word for the other side."""
    headings = ("scores", "live from", "to", "mean live", f"mean {other}", "shift", "higher", "lower")
    table = Table(Column("decile", numeric=True), *(Column(heading, numeric=True) for heading in headings))
    for one in deciles:
        numbers = (f"{one[key]:.4f}" for key in ("live_from", "live_to", "mean_live", "mean_other"))
        shares = (f"{one[key]:.0%}" for key in ("up", "down"))
        table.add_row(f"{one['decile']}", f"{one['scores']:,}", *numbers, f"{one['mean_shift']:+.4f}", *shares)
    return table


def segments_tables(figures: dict[str, Any], other: str) -> Iterator[Table]:
    """How scores and alerts shift by product, and by each field of profiles that was asked for."""
    for name, segments in {"product": figures["products"], **figures["segments"]}.items():
        yield _segments_table(name.replace("_", " "), segments, other)


def _segments_table(heading: str, segments: Sequence[dict[str, Any]], other: str) -> Table:
    headings = ("scores", "mean live", f"mean {other}", "shift", "level changed", *SHIFTS)
    table = Table(heading, *(Column(heading, numeric=True) for heading in headings))
    for one in segments:
        numbers = (f"{one[key]:.4f}" for key in ("mean_live", "mean_other"))
        alerts = (f"{one['alerts'].get(shift, 0):,}" for shift in SHIFTS)
        table.add_row(
            one["segment"], f"{one['scores']:,}", *numbers, f"{one['mean_shift']:+.4f}", f"{one['level_changed']:,}",
            *alerts,
        )  # fmt: skip
    return table


def facts_of(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of a replay's diff in a few lines."""
    yield "scores compared", f"{figures['compared_scores']:,}"
    yield "identical, byte for byte", f"{figures['identical_scores']:,}"
    moves = f"mean {figures['mean_move']:.2e}, largest {figures['largest_move']:.2e}"
    yield "moved", f"{figures['moved']:,} ({moves})"
    yield "population stability index", f"{figures['population_stability']:.4f}"
    yield "level changed", f"{figures['level_changed']:,}"
    yield "only live / only replayed", f"{figures['only_live']:,} / {figures['only_replayed']:,}"
    if figures["live_expired"]:
        yield "live scores expired", f"{figures['live_expired']:,}"
    yield "alerts live / replayed", f"{figures['live_alerts']:,} / {figures['replayed_alerts']:,}"
    budgets = [figures[f"{side}_alerts_per_1000_borrowers_and_30_days"] for side in ("live", "replayed")]
    yield (
        "per 1,000 borrowers and 30 days",
        " / ".join("–" if budget is None else f"{budget:.1f}" for budget in budgets),
    )
    for shift in ("gained", "lost", "earlier", "later"):
        yield shift, _examples(figures[f"alerts_{shift}"], figures.get(f"median_days_{shift}"))
    for side in ("live", "replayed"):
        if figures[f"{side}_outcomes"] is not None:
            yield f"what came true, {side}", _outcomes(figures[f"{side}_outcomes"])


def _examples(shifts: Sequence[dict[str, Any]], median_days: float | None) -> str:
    names = ", ".join(shift["user_id"] for shift in shifts[:EXAMPLES])
    days = "" if median_days is None else f", median {median_days:.1f} days"
    return f"{len(shifts):,}{days}" + (f" ({names}{', …' if len(shifts) > EXAMPLES else ''})" if shifts else "")


def _outcomes(found: dict[str, float | None]) -> str:
    lead = "" if found["median_lead_days"] is None else f", {found['median_lead_days']:.0f} days before (median)"
    return (
        f"{found['warned']:,} of {found['defaults']:,} defaults were warned of{lead}; alerts {found['right']:,} right, "
        f"{found['wrong']:,} wrong, {found['after_default']:,} after the default, {found['not_known']:,} not known yet"
    )
