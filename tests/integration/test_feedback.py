"""Feedback out of the tables of the desk, as training reads it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from events.feedback import Feedback, feedback_of
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.writer import DatabaseWriter
from stream.outputs import Alert
from tests import forked
from tests.unit.stream.webhooks.alerts import JANUARY, an_alert

USERS = ("false", "kept", "broken", "open", "untouched")


def alerts() -> list[Alert]:
    """One of each, that of `false` has ended since."""
    opened = [an_alert(f"{user}-2", 0, opened_at=JANUARY) for user in USERS]
    return [*opened, an_alert("false-2", 2, "cleared", opened_at=JANUARY)]


CLOSE = (
    "UPDATE cases SET status = 'closed', closed_at = now(), closed_as = %s, first_touched_at = %s WHERE user_id = %s"
)
PROMISE = """
INSERT INTO promises (action_id, alert_id, user_id, amount, due_on, made_at, made_by, state, settled_at, checked_at)
SELECT gen_random_uuid(), alert_id, user_id, 100, '2026-02-01', now(), 'bea', %s, now(), now() FROM cases
WHERE user_id = %s
"""


def test_what_people_found_out_is_exported(database: DatabaseConnection, tmp_path: Path) -> None:
    migration.upgrade(database)
    with DatabaseWriter(database) as writer:
        writer.write([], alerts(), [])
    with database.connect() as connection:
        connection.execute(CLOSE, ("false_alarm", JANUARY, "false-2"))
        connection.execute(CLOSE, ("cured", None, "untouched-2"))
        for user, state in (("kept-2", "kept"), ("kept-2", "broken"), ("broken-2", "broken")):
            connection.execute(PROMISE, (state, user))
        connection.execute(
            "UPDATE cases SET first_touched_at = now() WHERE user_id IN ('kept-2', 'broken-2', 'open-2')"
        )
    out = tmp_path / "feedback.jsonl"
    environment = {**os.environ, "FORESHOCK_DATABASE_URL": database.url}
    done = forked.run(["feedback", "export", str(out)], environment=environment)
    assert done.returncode == 0, done.stderr
    assert f"3 alerts in {out}: 1 false alarms, 1 others, 1 treated" in done.stdout
    found = {one.user_id: one for one in feedback_of(out.read_bytes())}
    assert found == {
        "false-2": Feedback(
            alert_id="alert-false-2-0", user_id="false-2", opened_at=JANUARY, known_at=JANUARY + dt.timedelta(hours=2),
            closed_as="false_alarm",
        ),
        "kept-2": Feedback(
            alert_id="alert-kept-2-0", user_id="kept-2", opened_at=JANUARY, known_at=JANUARY, promises_kept=1,
            promises_broken=1,
        ),
        "broken-2": Feedback(
            alert_id="alert-broken-2-0", user_id="broken-2", opened_at=JANUARY, known_at=JANUARY, promises_broken=1,
        ),
    }  # fmt: skip
