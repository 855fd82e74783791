"""Why somebody is not let in. The API answers each with a problem, the pages with a page."""

from __future__ import annotations

from desk.access.roles import Permission, roles_with
from stream.desk_roles import DeskRole


class Refusal(Exception):
    """Somebody is not let in; the message says why and what to do, and holds no secret."""


class NotSignedIn(Refusal):
    """There is no valid token, or no session."""


class Forbidden(Refusal):
    """The role lacks the permission."""

    def __init__(self, role: DeskRole, permission: Permission) -> None:
        needed = " or ".join(roles_with(permission))
        super().__init__(f"the role {role} may not {permission.value}; it takes {needed}")
        self.permission = permission


class ForeignForm(Refusal):
    """A form was sent that no page of this session has shown."""


class SignInRefused(Refusal):
    """A sign-in failed."""


class TooManyRequests(Refusal):
    """The limit of a caller is used up; `retry_after_s` is when there is room again."""

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(f"more than {limit} requests within a minute; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
