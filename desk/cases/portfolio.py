"""Figures of the cases as a whole: how many, how old, what became of them, and whether alerts were right. Reads only.

All are of the products that the asker sees, and of the alerts that opened since a moment, but for what is open now.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from desk.access.principals import Principal

AGES_DAYS = (7, 30, 90)
"""Ages of open cases are told in groups: up to each of these, and above."""

MOST_LOOKED_AT = 2_000
"""Of so many of the latest alerts it is looked up whether a default followed."""

_SCOPE = "(CAST(:products AS text[]) IS NULL OR product = ANY(:products))"

_OPEN = text(f"""
SELECT count(*) AS cases, count(*) FILTER (WHERE level = 'HIGH') AS high, sum(expected_loss) AS expected_loss,
    count(*) FILTER (WHERE expected_loss IS NULL) AS without_amount,
    count(*) FILTER (WHERE opened_at > CAST(:now AS timestamptz) - interval '{AGES_DAYS[0]} days') AS age_0,
    count(*) FILTER (WHERE opened_at > CAST(:now AS timestamptz) - interval '{AGES_DAYS[1]} days') AS age_1,
    count(*) FILTER (WHERE opened_at > CAST(:now AS timestamptz) - interval '{AGES_DAYS[2]} days') AS age_2
FROM cases WHERE closed_at IS NULL AND {_SCOPE}
""")

_PER_DAY = text(f"""
SELECT CAST(opened_at AT TIME ZONE :zone AS date) AS day, CAST(highest_level AS text) AS level, count(*) AS alerts
FROM cases WHERE opened_at >= :since AND opened_at <= :until AND {_SCOPE} GROUP BY 1, 2
""")

_FUNNEL = text(f"""
SELECT count(*) AS opened, count(first_touched_at) AS touched, count(contacted_at) AS contacted,
    count(*) FILTER (WHERE EXISTS (SELECT FROM promises WHERE promises.alert_id = cases.alert_id)) AS promised,
    count(*) FILTER (WHERE closed_as IN ('cured', 'paid', 'restructured')) AS cured,
    count(*) FILTER (WHERE closed_as = 'false_alarm') AS false_alarms,
    count(*) FILTER (WHERE first_touched_at IS NOT NULL AND closed_as NOT IN ('false_alarm', 'handed_over'))
        AS confirmed,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY first_touched_at - opened_at) AS usual_wait,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY first_touched_at - opened_at) AS long_wait
FROM cases WHERE opened_at >= :since AND opened_at <= :until AND {_SCOPE}
""")

_LATEST = text(f"SELECT max(opened_at) FROM cases WHERE opened_at <= :now AND {_SCOPE}")

_LEAD = text(f"""
WITH latest AS MATERIALIZED (
    SELECT user_id, opened_at FROM cases WHERE opened_at >= :since AND opened_at <= :until AND {_SCOPE}
    ORDER BY opened_at DESC LIMIT :most
)
SELECT count(*) AS defaults, percentile_cont(0.5) WITHIN GROUP (ORDER BY late.occurred_at - latest.opened_at) AS usual
FROM latest CROSS JOIN LATERAL (
    SELECT occurred_at, days_past_due FROM score_history
    WHERE score_history.user_id = latest.user_id AND score_history.occurred_at >= latest.opened_at
        AND score_history.occurred_at <= :now AND days_past_due >= :serious_days
    ORDER BY occurred_at LIMIT 1
) AS late WHERE late.occurred_at > latest.opened_at
""")


@dataclass(frozen=True)
class Figures:
    """The cases as a whole. `expected_loss` is None where no open case has one; spans are None where there is no case.

    `ages` counts open cases by age: up to each of `AGES_DAYS`, and above. `confirmed` of `judged` alerts that people
    have closed with a verdict were no false alarms. `defaults` alerted borrowers became serious after the alert, and
    half of them at least `lead` later.
    """

    open: int
    open_high: int
    expected_loss: float | None
    without_amount: int
    ages: tuple[int, ...]
    opened: int
    touched: int
    contacted: int
    promised: int
    cured: int
    judged: int
    confirmed: int
    usual_wait: dt.timedelta | None
    long_wait: dt.timedelta | None
    defaults: int
    lead: dt.timedelta | None
    days: list[dt.date]
    per_day: Mapping[str, list[int]]


def figures(
    connection: Connection,
    principal: Principal,
    since: dt.datetime,
    now: dt.datetime,
    *,
    zone: str,
    serious_days: float,
    until: dt.datetime | None = None,
) -> Figures:
    """The figures at `now`, of alerts that opened from `since` to `until` (`now` unless given); days are those of the
    time zone `zone`."""
    asked: dict[str, Any] = {
        "products": _scope(principal),
        "now": now,
        "since": since,
        "until": until or now,
    }
    is_open = connection.execute(_OPEN, {"products": asked["products"], "now": now}).mappings().one()
    funnel = connection.execute(_FUNNEL, asked).mappings().one()
    lead = connection.execute(_LEAD, {**asked, "most": MOST_LOOKED_AT, "serious_days": serious_days}).mappings().one()
    days, per_day = _per_day(connection, asked, zone)
    counted = [is_open["age_0"], is_open["age_1"], is_open["age_2"], is_open["cases"]]
    return Figures(
        open=is_open["cases"],
        open_high=is_open["high"],
        expected_loss=is_open["expected_loss"],
        without_amount=is_open["without_amount"],
        ages=tuple(after - before for before, after in zip([0, *counted], counted, strict=False)),
        judged=funnel["confirmed"] + funnel["false_alarms"],
        defaults=lead["defaults"],
        lead=lead["usual"],
        days=days,
        per_day=per_day,
        **{
            name: funnel[name]
            for name in ("opened", "touched", "contacted", "promised", "cured", "confirmed", "usual_wait", "long_wait")
        },
    )


def latest_opening(connection: Connection, principal: Principal, now: dt.datetime) -> dt.datetime | None:
    """When the last alert opened; None where there is none."""
    found: dt.datetime | None = connection.execute(
        _LATEST, {"products": _scope(principal), "now": now}
    ).scalar_one_or_none()
    return found


def _scope(principal: Principal) -> list[str] | None:
    return None if principal.products is None else sorted(principal.products)


def _per_day(connection: Connection, asked: Mapping[str, Any], zone: str) -> tuple[list[dt.date], dict[str, list[int]]]:
    """Every day from the first to the last, and by level the alerts of each."""
    found = {(row.day, row.level): row.alerts for row in connection.execute(_PER_DAY, {**asked, "zone": zone})}
    local_day = text("SELECT CAST(CAST(:at AS timestamptz) AT TIME ZONE :zone AS date)")
    first, last = (
        connection.execute(local_day, {"at": at, "zone": zone}).scalar_one() for at in (asked["since"], asked["until"])
    )
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    return days, {level: [found.get((day, level), 0) for day in days] for level in ("MEDIUM", "HIGH")}
