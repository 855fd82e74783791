"""The audit of reads of personal data: who saw what about which user, and when.

A row is written in the transaction that reads, before anything is answered: what was answered is on record, whatever
ends right after. Rows are only ever added (`stream.database.access_tables.PersonalDataRead`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Select, Text, bindparam, insert, literal, select

from desk.access.principals import Principal
from stream.database.access_tables import PersonalDataRead
from stream.database.tables import MOMENT

What: TypeAlias = Literal["score", "alerts", "events", "case", "queue", "export", "evidence", "prediction"]
"""What was seen of a user."""


def noted(wanted: Select[Any], what: What) -> Select[Any]:
    """A query of rows with a `user_id` that notes in the same statement that they are seen.

    To be made once, and executed with what `read_by` gives among its parameters.
    """
    seen = wanted.cte("seen")
    read = select(
        bindparam("read_at", type_=MOMENT), bindparam("read_by", type_=Text), bindparam("read_as", type_=Text),
        literal(what), seen.c.user_id,
    ).distinct()  # fmt: skip
    note = insert(PersonalDataRead).from_select(["read_at", "principal", "kind", "what", "user_id"], read)
    return select(seen).add_cte(note.cte("noted"))


def read_by(principal: Principal, now: dt.datetime) -> dict[str, Any]:
    """The parameters of a query of `noted`."""
    return {"read_at": now, "read_by": principal.key, "read_as": principal.kind}


def note_reads(
    connection: Connection, principal: Principal, what: What, user_ids: Iterable[str], now: dt.datetime
) -> None:
    """Note that a principal sees `what` of these users, once each, in the transaction of `connection`."""
    rows = [
        {"read_at": now, "principal": principal.key, "kind": principal.kind, "what": what, "user_id": user_id}
        for user_id in dict.fromkeys(user_ids)
    ]
    if rows:
        # Inline: of one row the number would be asked back, and the desk may not read the audit.
        connection.execute(insert(PersonalDataRead).inline(), rows)
