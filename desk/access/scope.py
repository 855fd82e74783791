"""Which users a principal sees, as SQL: products are looked at where rows are chosen, not afterwards.

A user is seen by who sees all products, or one of those that profiles state of the user's contracts. Cases have a
product of their own (`desk.cases.queue.in_scope`).
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, true
from sqlalchemy.orm import InstrumentedAttribute

from desk.access.principals import Principal
from stream.database.tables import StatedProduct


def sees_user(principal: Principal, user_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Whether the user of a row is seen."""
    if principal.products is None:
        return true()
    return exists().where(StatedProduct.user_id == user_id, StatedProduct.product.in_(sorted(principal.products)))
