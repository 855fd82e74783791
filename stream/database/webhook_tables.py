"""The tables of webhooks as SQLAlchemy models: who is told of what, and what each is still to be told.

Migrations must match them. Executes nothing.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql import func

from stream.database.tables import Base

WebhookState = Literal["active", "disabled"]
WEBHOOK_STATES: tuple[WebhookState, ...] = ("active", "disabled")

DeliveryState = Literal["pending", "delivered", "dead"]
DELIVERY_STATES: tuple[DeliveryState, ...] = ("pending", "delivered", "dead")

HIDDEN = ("url", "secret", "former_secret")
"""Columns of `webhooks` that hold a secret, or may do so, and are not for every reader."""

_Moment = DateTime(timezone=True)
_PENDING = text("state = 'pending'")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Webhook(Base):
    """A receiver: where it listens, what it wants to be told, its secrets (encrypted), and how it does.

    A filter that is NULL lets everything pass. `starts` are by topic id the offsets from which on it is told.
    `failures` counts the failed tries since the last that succeeded, as far as they were the receiver's as a whole.
    """

    __tablename__ = "webhooks"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    state: Mapped[WebhookState] = mapped_column(Text, server_default="active")
    levels: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    transitions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    products: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    actions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    starts: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    secret: Mapped[bytes] = mapped_column(BYTEA)
    former_secret: Mapped[bytes | None] = mapped_column(BYTEA)
    former_secret_until: Mapped[dt.datetime | None] = mapped_column(_Moment)
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    paused_until: Mapped[dt.datetime | None] = mapped_column(_Moment)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_Moment, server_default=func.now())
    rotated_at: Mapped[dt.datetime | None] = mapped_column(_Moment)

    __table_args__ = (
        CheckConstraint(_one_of("state", WEBHOOK_STATES), name="state"),
        CheckConstraint("(former_secret IS NULL) = (former_secret_until IS NULL)", name="former_secret"),
        CheckConstraint("failures >= 0", name="failures"),
    )


class WebhookDelivery(Base):
    """One message for one webhook. `number` is the order in which a user's messages are sent.

    A pending one is tried when `due_at` has come and nothing earlier of its user is pending. Who tries it moves
    `due_at` on by a lease and puts a `claim`: should it be killed, the lease ends.
    """

    __tablename__ = "webhook_deliveries"

    webhook: Mapped[str] = mapped_column(Text, ForeignKey("webhooks.name", ondelete="CASCADE"), primary_key=True)
    message_id: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[dt.datetime] = mapped_column(_Moment)
    body: Mapped[bytes] = mapped_column(BYTEA)
    state: Mapped[DeliveryState] = mapped_column(Text, server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    due_at: Mapped[dt.datetime] = mapped_column(_Moment, server_default=func.now())
    claim: Mapped[uuid.UUID | None]
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_Moment, server_default=func.now())
    settled_at: Mapped[dt.datetime | None] = mapped_column(_Moment)

    __table_args__ = (
        CheckConstraint(_one_of("state", DELIVERY_STATES), name="state"),
        CheckConstraint("(settled_at IS NULL) = (state = 'pending')", name="settled"),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("webhook_deliveries_due_idx", "webhook", "due_at", postgresql_where=_PENDING),
        Index("webhook_deliveries_order_idx", "webhook", "user_id", "number", postgresql_where=_PENDING),
        Index(None, "user_id"),
        Index("webhook_deliveries_settled_idx", "settled_at", postgresql_where=text("state <> 'pending'")),
        Index("webhook_deliveries_dead_idx", "webhook", postgresql_where=text("state = 'dead'")),
    )
