"""What each role may do: one table, from which every route, page and command decides. Pure."""

from __future__ import annotations

from enum import StrEnum

from stream.desk_roles import DESK_ROLES, DeskRole


class Permission(StrEnum):
    """Something that a route does. The value is what messages and documents call it."""

    OWN = "sign in, and change what is one's own"
    SEE_USERS = "see scores, alerts, cases and events of users"
    SCORE = "score a history that is posted"
    SEE_PORTFOLIO = "see figures of the portfolio"
    WORK_CASES = "work cases: take, act, note, promise, close"
    LEAD_CASES = "assign cases of others, confirm reviews, reopen"
    EXPORT = "export lists and evidence"
    OPERATE = "look after webhooks, models and hand-overs"


_READER = frozenset({Permission.OWN, Permission.SEE_USERS, Permission.SCORE, Permission.SEE_PORTFOLIO})
_COLLECTOR = _READER | {Permission.WORK_CASES}
_LEAD = _COLLECTOR | {Permission.LEAD_CASES, Permission.EXPORT}

GRANTED: dict[DeskRole, frozenset[Permission]] = {
    "reader": _READER,
    "collector": _COLLECTOR,
    "lead": _LEAD,
    # Looks after the machinery and sees no borrower: whoever needs both has two accounts.
    "operator": frozenset({Permission.OWN, Permission.SEE_PORTFOLIO, Permission.OPERATE}),
}
"""The permissions of each role."""

OF_USERS = frozenset(
    {Permission.SEE_USERS, Permission.SCORE, Permission.WORK_CASES, Permission.LEAD_CASES, Permission.EXPORT}
)
"""What shows single users: never granted to an operator."""


def may(role: DeskRole, permission: Permission) -> bool:
    """Whether a role has a permission."""
    return permission in GRANTED[role]


def roles_with(permission: Permission) -> tuple[DeskRole, ...]:
    """The roles that have a permission, in the order of `DESK_ROLES`."""
    return tuple(role for role in DESK_ROLES if may(role, permission))


def strongest(roles: frozenset[DeskRole]) -> DeskRole | None:
    """Of several roles the one that may do most: lead before collector before reader; operator only alone.

    None for no role, and where an operator is also something else: the two are not to be one person's by accident.
    """
    if "operator" in roles:
        return "operator" if len(roles) == 1 else None
    return next((role for role in ("lead", "collector", "reader") if role in roles), None)
