"""What a shadow's comparison with the live outputs says, as figures for people and programs. Pure; the comparison is
`stream.published_outputs`'."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stream.comparison.alerts import PAIR_DAYS
from stream.published_outputs import Comparison


def shadow_report(name: str, found: Comparison) -> dict[str, Any]:
    """JSON-ready figures of the comparison of shadow `name` with the live outputs."""
    scores, alerts = found.scores, found.alerts
    return {
        "shadow": name,
        "from": found.scope.from_at,
        "to": found.scope.to_at,
        "live_models": dict(found.live_models),
        "shadow_models": dict(found.other_models),
        "scores": {
            "compared": scores.scores,
            "identical": scores.identical,
            "mean_absolute_shift": scores.mean_absolute_shift,
            "largest_shift": scores.largest_shift,
            "population_stability": scores.population_stability(),
            "level_changed": scores.level_changed,
            "levels": found.levels(),
            "deciles": [asdict(decile) for decile in scores.deciles()],
            "order_differs": found.order_differs,
        },
        "alerts": {
            "live": sum(alerts.live_levels.values()),
            "shadow": sum(alerts.other_levels.values()),
            "live_levels": dict(alerts.live_levels),
            "shadow_levels": dict(alerts.other_levels),
            **{shift: alerts.counts[shift] for shift in ("same", "earlier", "later", "gained", "lost")},
            "median_days_earlier": alerts.median_lead_days("earlier"),
            "median_days_later": alerts.median_lead_days("later"),
            "pair_days": PAIR_DAYS,
            "examples": [asdict(example) for example in alerts.examples],
        },
        "products": found.products(),
        "segments": found.segments(),
        "not_compared": {what: count for what, count in found.not_compared.items() if count},
    }
