"""The tables of cases as SQLAlchemy models: what people do about alerts, and the events that they look at meanwhile.

A case is made and kept in step with its alert by a trigger of the migration, whoever writes alerts. Executes nothing.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from events.types import KINDS, Kind
from stream.case_records import CASE_ACTIONS, CASE_STATUSES, DISPOSITIONS, CaseAction, CaseStatus, Disposition
from stream.database.tables import MOMENT, RISK_LEVEL, Base, one_of
from stream.outputs import Level

PromiseState = Literal["open", "kept", "broken", "withdrawn"]
PROMISE_STATES: tuple[PromiseState, ...] = ("open", "kept", "broken", "withdrawn")

CASE_CHANNEL = "desk_cases"
"""Channel of LISTEN/NOTIFY that tells the `alert_id` of each case whose version changes."""

MOST_NOTIFIED_BYTES = 200
"""Ids of more bytes than this are not told of; no worker makes one."""


class UserEvent(Base):
    """Every input that can be decoded, partitioned by the month of `occurred_at` (see `stream.database.partitions`).

    What a worker refused all the same, a repeat for instance, stands in `dead_letters` at the same place; the view
    `taken_events` leaves it out.
    """

    __tablename__ = "user_events"

    source_topic: Mapped[str] = mapped_column(Text, primary_key=True)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True)
    source_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT, primary_key=True)
    user_id: Mapped[str] = mapped_column(Text)
    event_id: Mapped[str] = mapped_column(Text)
    kind: Mapped[Kind] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)

    __table_args__ = (
        CheckConstraint(one_of("kind", KINDS), name="kind"),
        Index(None, "user_id", "occurred_at"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )


class ForgottenUser(Base):
    """A user who was forgotten, by the SHA-256 of the id: what happened up to `forgotten_at` is not kept again when the
    sink comes to it."""

    __tablename__ = "forgotten_users"

    user_sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    forgotten_at: Mapped[dt.datetime] = mapped_column(MOMENT)


class Case(Base):
    """What is being done about one alert.

    `level`, `highest_level`, `reason_codes`, `opened_at` and `alert_cleared_at` are the alert's, `score`,
    `expected_loss` and `lead_days` those of the user's score of number `sequence`. `rank` is `priority` with what is
    not known last, so that a page of the queue begins where the one before ended by one comparison. `version` grows by
    one with each action; renewing the figures leaves it.
    """

    __tablename__ = "cases"

    alert_id: Mapped[str] = mapped_column(Text, primary_key=True)
    user_id: Mapped[str] = mapped_column(Text)
    status: Mapped[CaseStatus] = mapped_column(Text)
    level: Mapped[Level] = mapped_column(RISK_LEVEL)
    highest_level: Mapped[Level] = mapped_column(RISK_LEVEL)
    product: Mapped[str | None] = mapped_column(Text)
    reason_codes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    sequence: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    expected_loss: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    lead_days: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    priority: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    rank: Mapped[float] = mapped_column(
        DOUBLE_PRECISION, Computed("coalesce(priority, '-Infinity'::double precision)", persisted=True), nullable=False
    )
    assignee: Mapped[str | None] = mapped_column(Text)
    assigned_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    opened_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    alert_cleared_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    first_touched_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    contacted_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    snoozed_until: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    snoozed_from: Mapped[CaseStatus | None] = mapped_column(Text)
    closed_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    closed_as: Mapped[Disposition | None] = mapped_column(Text)
    review_of: Mapped[Disposition | None] = mapped_column(Text)
    review_by: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("status", CASE_STATUSES), name="status"),
        CheckConstraint(f"closed_as IS NULL OR {one_of('closed_as', DISPOSITIONS)}", name="closed_as"),
        CheckConstraint(
            "(closed_at IS NOT NULL) = (status = 'closed') AND (closed_as IS NOT NULL) = (status = 'closed')",
            name="closed",
        ),
        CheckConstraint(
            "(snoozed_until IS NOT NULL) = (status = 'snoozed') AND (snoozed_from IS NOT NULL) = (status = 'snoozed')",
            name="snoozed",
        ),
        CheckConstraint("(review_of IS NULL) = (review_by IS NULL)", name="review"),
        CheckConstraint("(assignee IS NULL) = (assigned_at IS NULL)", name="assigned"),
        CheckConstraint("version >= 1", name="version"),
        Index(
            "cases_queue_idx",
            text("rank DESC"),
            text("score DESC"),
            text("alert_id DESC"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(
            "cases_closed_idx",
            text("closed_at DESC"),
            text("alert_id DESC"),
            postgresql_where=text("closed_at IS NOT NULL"),
        ),
        Index(
            "cases_of_assignee_idx",
            "assignee",
            text("rank DESC"),
            text("score DESC"),
            text("alert_id DESC"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index("cases_snoozed_idx", "snoozed_until", postgresql_where=text("status = 'snoozed'")),
        Index(None, "user_id", "opened_at"),
        Index(None, "opened_at"),
        {"postgresql_with": {"fillfactor": 80}},
    )


class CaseActionRow(Base):
    """Everything that was done about a case; only ever added, but for `published_at`.

    Also the outbox of the topic `alert-actions`: what has no `published_at` is still to be published. `level`,
    `product` and `version` are the case's after the action.
    """

    __tablename__ = "case_actions"

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    action_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    alert_id: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str] = mapped_column(Text)
    action: Mapped[CaseAction] = mapped_column(Text)
    status_from: Mapped[CaseStatus | None] = mapped_column(Text)
    status_to: Mapped[CaseStatus] = mapped_column(Text)
    level: Mapped[Level] = mapped_column(RISK_LEVEL)
    product: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    at: Mapped[dt.datetime] = mapped_column(MOMENT)
    reason: Mapped[str] = mapped_column(Text, server_default=text("''::text"))
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    version: Mapped[int] = mapped_column(Integer)
    published_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        UniqueConstraint("action_id", name="case_actions_action_id_key"),
        UniqueConstraint("alert_id", "version", name="case_actions_alert_id_version_key"),
        CheckConstraint(one_of("action", CASE_ACTIONS), name="action"),
        CheckConstraint(f"status_from IS NULL OR {one_of('status_from', CASE_STATUSES)}", name="status_from"),
        CheckConstraint(one_of("status_to", CASE_STATUSES), name="status_to"),
        CheckConstraint("version >= 1", name="version"),
        Index("case_actions_unpublished_idx", "number", postgresql_where=text("published_at IS NULL")),
        Index(None, "actor", "at"),
        Index(None, "at"),
        Index(None, "user_id"),
    )


class PromiseToPay(Base):
    """A promise to pay, by the action that noted it. `contract_id` null: a payment on any contract counts.

    `paid` is what was paid towards it in time, `settled_at` when it was kept or broken, `paid_late_at` when a broken
    one was paid after all.
    """

    __tablename__ = "promises"

    action_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    alert_id: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str] = mapped_column(Text)
    contract_id: Mapped[str | None] = mapped_column(Text)
    amount: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    currency: Mapped[str | None] = mapped_column(Text)
    due_on: Mapped[dt.date] = mapped_column(Date)
    made_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    made_by: Mapped[str] = mapped_column(Text)
    state: Mapped[PromiseState] = mapped_column(Text, server_default=text("'open'::text"))
    paid: Mapped[float] = mapped_column(DOUBLE_PRECISION, server_default=text("0"))
    settled_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    paid_late_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    checked_at: Mapped[dt.datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint(one_of("state", PROMISE_STATES), name="state"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("(settled_at IS NULL) = (state = 'open')", name="settled"),
        Index(None, "alert_id"),
        Index(None, "user_id"),
        Index("promises_due_idx", "checked_at", postgresql_where=text("state <> 'withdrawn'")),
    )


class SavedView(Base):
    """Filters of the queue that somebody keeps under a name."""

    __tablename__ = "saved_views"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    filters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    saved_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())
