"""What people found out about alerts, from the tables of the desk, for training. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg.rows import dict_row

from events.feedback import Feedback
from stream.database.connection import DatabaseConnection
from stream.database.errors import translated

# Cases that nobody touched say nothing: Foreshock closed them when their alert ended by itself. `known_at` is event
# time, as everything that training knows: that of the alert's end, else of the user's latest score.
_FEEDBACK = """
SELECT c.alert_id, c.user_id, c.opened_at, c.closed_as,
    greatest(c.opened_at, coalesce(c.alert_cleared_at, s.occurred_at, c.opened_at)) AS known_at,
    count(p.action_id) FILTER (WHERE p.state = 'kept') AS promises_kept,
    count(p.action_id) FILTER (WHERE p.state = 'broken') AS promises_broken
FROM cases AS c LEFT JOIN user_scores AS s USING (user_id) LEFT JOIN promises AS p ON p.alert_id = c.alert_id
WHERE c.first_touched_at IS NOT NULL
GROUP BY c.alert_id, s.occurred_at
HAVING c.closed_as IS NOT NULL OR count(p.action_id) FILTER (WHERE p.state IN ('kept', 'broken')) > 0
ORDER BY c.opened_at, c.alert_id
"""


def feedback(database: DatabaseConnection) -> Iterator[Feedback]:
    """Feedback on every alert that somebody has worked on and something came of, oldest first. Raises
    `DatabaseError`."""
    with (
        translated(database.address),
        database.connect("foreshock-feedback") as connection,
        connection.transaction(),
        connection.cursor("feedback", row_factory=dict_row) as cursor,
    ):
        cursor.execute(_FEEDBACK)
        for row in cursor:
            yield Feedback(**row)
