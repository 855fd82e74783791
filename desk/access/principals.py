"""Who asks: an account or a token, with its role and the products that it sees. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from desk.access.roles import Permission, may
from stream.case_records import TOKEN_ACTOR
from stream.database.access_tables import PrincipalKind
from stream.desk_roles import DeskRole


@dataclass(frozen=True)
class Principal:
    """An account or a token that was let in. `products` are those whose cases it sees, None for all.

    `key` is unique among accounts and tokens; `name` is what people call it.
    """

    name: str
    kind: PrincipalKind
    role: DeskRole
    products: frozenset[str] | None = None
    token_id: str | None = None

    @property
    def key(self) -> str:
        """`account:ann` or `token:` and the token's id: what limits, idempotent requests and the audit go by."""
        return f"{self.kind}:{self.token_id or self.name}"

    @property
    def actor(self) -> str:
        """What stands in the records of what was done: the account's name, or `token:` and the token's name."""
        return self.name if self.kind == "account" else f"{TOKEN_ACTOR}{self.name}"

    def may(self, permission: Permission) -> bool:
        """Whether the role has a permission."""
        return may(self.role, permission)

    def sees(self, products: Iterable[str | None]) -> bool:
        """Whether a user with contracts of these products is in the scope: one that is seen is enough."""
        return self.products is None or any(product in self.products for product in products)
