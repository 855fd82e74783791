"""The roles of people and services at the desk, by name. What each may do is said by `desk.access.roles`."""

from __future__ import annotations

from typing import Literal, TypeAlias

DeskRole: TypeAlias = Literal["reader", "collector", "lead", "operator"]
DESK_ROLES: tuple[DeskRole, ...] = ("reader", "collector", "lead", "operator")
