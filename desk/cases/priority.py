"""Which case comes first: by the part of the expected loss that acting now can still prevent.

The formula, once in Python for whoever explains a priority, and once in the database (`case_lead` of the migration),
where every case has its own; a test compares the two. `renew` brings cases up to their users' latest scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, text

RENEWED_AT_ONCE = 2_000
"""Cases that `renew` changes in one transaction."""


@dataclass(frozen=True)
class Lead:
    """How far ahead a default is on average, given that there is one: days, and their share of the longest horizon."""

    days: float
    share: float


def lead(horizons: Mapping[str, float]) -> Lead | None:
    """Of the probabilities of default within so many days each; None where there are none, or all are 0.

    The probability of each step between two horizons counts at the middle of its days.
    """
    within = [(0.0, 0.0), *sorted((float(days), probability) for days, probability in horizons.items())]
    longest, total = within[-1][0], max(probability for _, probability in within)
    if total <= 0:
        return None
    highest, moment = 0.0, 0.0
    for (days, _), (next_days, probability) in pairwise(within):
        rise = max(probability - highest, 0.0)
        highest += rise
        moment += rise * (days + next_days) / 2
    return Lead(moment / total, moment / total / longest)


def priority(expected_loss: float | None, horizons: Mapping[str, float]) -> float | None:
    """Expected loss × lead days / longest horizon; None where one of them is not known."""
    ahead = lead(horizons)
    return None if expected_loss is None or ahead is None else expected_loss * ahead.share


# A case follows its user's scores by their number, so that none is missed whatever the clocks say. What is being
# changed by somebody else is left for the next time.
_RENEW = text("""
WITH behind AS MATERIALIZED (
    SELECT cases.alert_id FROM cases JOIN user_scores USING (user_id)
    WHERE cases.closed_at IS NULL AND user_scores.sequence > cases.sequence LIMIT :most
),
locked AS (
    SELECT alert_id FROM cases WHERE alert_id IN (SELECT alert_id FROM behind) FOR UPDATE SKIP LOCKED
)
UPDATE cases SET sequence = user_scores.sequence, score = user_scores.score, expected_loss = user_scores.expected_loss,
    lead_days = ahead.lead_days, priority = user_scores.expected_loss * ahead.lead_share
FROM locked JOIN alerts USING (alert_id) JOIN user_scores USING (user_id)
CROSS JOIN LATERAL case_lead(user_scores.horizons) AS ahead
WHERE cases.alert_id = locked.alert_id
""")

_FIND_PRODUCTS = text("""
WITH without AS MATERIALIZED (
    SELECT alert_id FROM cases WHERE closed_at IS NULL AND product IS NULL
        AND EXISTS (SELECT FROM contract_products AS stated
            WHERE stated.user_id = cases.user_id AND stated.product IS NOT NULL) LIMIT :most
),
locked AS (
    SELECT alert_id FROM cases WHERE alert_id IN (SELECT alert_id FROM without) FOR UPDATE SKIP LOCKED
)
UPDATE cases SET product = case_product(alerts.user_id, alerts.contracts)
FROM locked JOIN alerts USING (alert_id) WHERE cases.alert_id = locked.alert_id
""")


def renew(connection: Connection, *, most: int = RENEWED_AT_ONCE) -> int:
    """Bring up to `most` open cases up to their users' latest scores, and up to as many to a product that has become
    known; returns how many were changed. Versions stay: nothing was done about the cases."""
    return sum(connection.execute(statement, {"most": most}).rowcount for statement in (_RENEW, _FIND_PRODUCTS))
