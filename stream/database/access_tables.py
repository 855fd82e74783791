"""The tables of who may use the desk, as SQLAlchemy models: accounts, tokens, sessions, and what they read.

Secrets are kept as hashes alone: of passwords Argon2id, of tokens and sessions, which are random, SHA-256. Migrations
must match these models. Executes nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from stream.database.tables import MOMENT, Base, one_of
from stream.desk_roles import DESK_ROLES, DeskRole

PrincipalKind = Literal["account", "token"]
PRINCIPAL_KINDS: tuple[PrincipalKind, ...] = ("account", "token")


class Account(Base):
    """A person who may sign in: by a password, by the identity provider (issuer and subject), or by either.

    `products` are those whose cases they see, null for all. `failed_sign_ins` counts those since the last that
    succeeded; until `locked_until` none is taken.
    """

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    role: Mapped[DeskRole] = mapped_column(Text)
    products: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    password_hash: Mapped[str | None] = mapped_column(Text)
    oidc_issuer: Mapped[str | None] = mapped_column(Text)
    oidc_subject: Mapped[str | None] = mapped_column(Text)
    daily_cap: Mapped[int | None] = mapped_column(Integer)
    language: Mapped[str | None] = mapped_column(Text)
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    failed_sign_ins: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    locked_until: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    created_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    created_by: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("oidc_issuer", "oidc_subject", name="accounts_oidc_key"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint(one_of("role", DESK_ROLES), name="role"),
        CheckConstraint("(oidc_issuer IS NULL) = (oidc_subject IS NULL)", name="oidc"),
        CheckConstraint("daily_cap >= 0", name="daily_cap"),
        CheckConstraint("products <> '{}'::text[]", name="products"),
    )


class AccessToken(Base):
    """A token of a service; `token_id` is the part of it that is no secret."""

    __tablename__ = "access_tokens"

    token_id: Mapped[str] = mapped_column(Text, primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(BYTEA)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[DeskRole] = mapped_column(Text)
    products: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    created_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    revoked_by: Mapped[str | None] = mapped_column(Text)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    """To the hour: a row that each request changes would make requests wait for one another."""

    __table_args__ = (
        CheckConstraint("octet_length(secret_sha256) = 32", name="secret_sha256"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint(one_of("role", DESK_ROLES), name="role"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked"),
        CheckConstraint("products <> '{}'::text[]", name="products"),
        {"postgresql_with": {"fillfactor": 80}},
    )


class DeskSession(Base):
    """A browser that is signed in. Its cookie is random, `csrf_token` stands in the forms of its pages."""

    __tablename__ = "sessions"

    session_sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    account: Mapped[str] = mapped_column(Text, ForeignKey("accounts.name", ondelete="CASCADE"))
    csrf_token: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    last_seen_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    expires_at: Mapped[dt.datetime] = mapped_column(MOMENT)

    __table_args__ = (Index(None, "account"), Index(None, "expires_at"), {"postgresql_with": {"fillfactor": 80}})


class OidcSignIn(Base):
    """A sign-in that is under way at the identity provider, for a few minutes, and used once."""

    __tablename__ = "oidc_sign_ins"

    browser_sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    nonce: Mapped[str] = mapped_column(Text)
    code_verifier: Mapped[str] = mapped_column(Text)
    go_on_to: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[dt.datetime] = mapped_column(MOMENT)

    __table_args__ = (Index(None, "expires_at"),)


class IdempotentRequest(Base):
    """A request with an `Idempotency-Key` that was done, and its answer, which a repeat of it gets.

    `user_id` is whom the answer tells of.
    """

    __tablename__ = "idempotent_requests"

    principal: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_sha256: Mapped[bytes] = mapped_column(BYTEA)
    user_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    response: Mapped[bytes] = mapped_column(BYTEA)
    created_at: Mapped[dt.datetime] = mapped_column(MOMENT)

    __table_args__ = (Index(None, "created_at"),)


class PersonalDataRead(Base):
    """Who saw what about which user, and when; a trigger keeps the rows as they are.

    `number` has gaps: a read that failed leaves one. `database_user` is who was connected, as the server knows it.
    """

    __tablename__ = "personal_data_reads"

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    read_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    principal: Mapped[str] = mapped_column(Text)
    kind: Mapped[PrincipalKind] = mapped_column(Text)
    what: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str] = mapped_column(Text)
    database_user: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(one_of("kind", PRINCIPAL_KINDS), name="kind"),
        Index(None, "user_id", "read_at"),
        Index(None, "principal", "read_at"),
        Index(None, "read_at", postgresql_using="brin"),
    )


class RequestCount(Base):
    """How many requests a caller has taken of a window of time. Not logged: after a crash of the server it is empty."""

    __tablename__ = "request_counts"

    caller: Mapped[str] = mapped_column(Text, primary_key=True)
    window_start: Mapped[dt.datetime] = mapped_column(MOMENT, primary_key=True)
    taken: Mapped[int] = mapped_column(Integer)

    __table_args__ = (
        Index(None, "window_start"),
        {"prefixes": ["UNLOGGED"], "postgresql_with": {"fillfactor": 80}},
    )
