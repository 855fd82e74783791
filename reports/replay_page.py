"""A replay's diff as one page of HTML. Only chooses and draws; the figures are `stream.replay.diff`'s."""

from __future__ import annotations

import datetime as dt
from typing import Any

from markupsafe import Markup

from model.presentation.charts import columns
from reports.pages import render
from stream.replay.diff import AlertShift, ReplayDiff

MOST_ALERTS = 50
"""Most alerts of each kind of shift that the page names."""

SHIFTS = {
    "gained": "opened in the replay alone",
    "lost": "opened live alone",
    "earlier": "opened earlier in the replay",
    "later": "opened later in the replay",
}


def page(name: str, from_at: dt.datetime, to_at: dt.datetime, result: ReplayDiff) -> str:
    """The whole page."""
    figures = result.as_report()
    return render(
        "replay",
        title=f"Replay {name}",
        from_at=from_at,
        to_at=to_at,
        figures=figures,
        by_field={
            name.replace("_", " "): segments
            for name, segments in {"product": figures["products"], **figures["segments"]}.items()
        },
        live_models=", ".join(result.found.live_models) or "none",
        replayed_models=", ".join(result.found.other_models) or "none",
        deciles=_deciles(figures["deciles"]),
        shifts=[(kind, told, _alerts(result, kind)) for kind, told in SHIFTS.items()],
        most=MOST_ALERTS,
        sides=[
            (side, figures[f"{key}_alerts"], figures[f"{key}_alerts_per_1000_borrowers_and_30_days"],
             figures[f"{key}_outcomes"])
            for side, key in (("live", "live"), ("replayed", "replayed"))
        ],
    )  # fmt: skip


def _alerts(result: ReplayDiff, kind: str) -> list[AlertShift]:
    found: list[AlertShift] = getattr(result, f"alerts_{kind}")
    return found


def _deciles(deciles: list[dict[str, Any]]) -> Markup | None:
    if not deciles:
        return None
    labels = [str(one["decile"]) for one in deciles]
    series = {"live": [one["mean_live"] for one in deciles], "replayed": [one["mean_other"] for one in deciles]}
    return Markup(columns("Mean score by decile of the live score", labels, series))
