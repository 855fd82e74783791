"""All tables together: what migrations must come to, and what roles have rights on. Executes nothing."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import MetaData

from stream.database import access_tables, case_tables, tables, webhook_tables
from stream.database.partitions import ByMonth

METADATA: MetaData = tables.Base.metadata

# The modules are imported for what they add to the metadata.
TABLE_MODULES = (tables, case_tables, access_tables, webhook_tables)

BY_MONTH: tuple[ByMonth, ...] = get_args(ByMonth)


def is_managed(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether a table is made by a migration: all are but the month partitions. In the form of Alembic's
    `include_name`.
    """
    return not (kind == "table" and name is not None and name.startswith(tuple(f"{table}_" for table in BY_MONTH)))
