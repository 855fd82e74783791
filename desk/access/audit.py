"""The audit of reads of personal data: who saw what about which user, and when.

A row is written in the transaction that reads, before anything is answered: what was answered is on record, whatever
ends right after. Rows are only ever added (`stream.database.access_tables.PersonalDataRead`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal, TypeAlias

from sqlalchemy import Connection, insert

from desk.access.principals import Principal
from stream.database.access_tables import PersonalDataRead

What: TypeAlias = Literal["score", "alerts", "events", "case", "queue", "export", "evidence", "prediction"]
"""What was seen of a user."""


def note_reads(
    connection: Connection, principal: Principal, what: What, user_ids: Iterable[str], now: dt.datetime
) -> None:
    """Note that a principal sees `what` of these users, once each, in the transaction of `connection`."""
    rows = [
        {"read_at": now, "principal": principal.key, "kind": principal.kind, "what": what, "user_id": user_id}
        for user_id in dict.fromkeys(user_ids)
    ]
    if rows:
        connection.execute(insert(PersonalDataRead), rows)
