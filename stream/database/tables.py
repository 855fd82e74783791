"""The tables of what the stream says, as SQLAlchemy models. Migrations must match them, and queries use them; all
tables together are `stream.database.schema`. Executes nothing.

Ids are the strings of the topics, so a row and its Kafka record can be joined without a cast. A score's source topic,
partition and offset are its `score_id`, so they are not stored a second time.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from events.contracts import STATUSES, Status
from stream.outputs import ALERT_KINDS, LEVELS, AlertKind, Level

RISK_LEVEL = Enum(*LEVELS, name="risk_level")
"""A PostgreSQL enum, so that levels sort by severity: LOW < MEDIUM < HIGH."""

ReplayStatus = Literal["running", "finished", "failed"]
REPLAY_STATUSES: tuple[ReplayStatus, ...] = ("running", "finished", "failed")

ModelStatus = Literal["registered", "approved", "retired"]
MODEL_STATUSES: tuple[ModelStatus, ...] = ("registered", "approved", "retired")

ModelAlias = Literal["champion", "challenger"]
MODEL_ALIASES: tuple[ModelAlias, ...] = ("champion", "challenger")

SignatureState = Literal["valid", "unchecked", "none"]
SIGNATURE_STATES: tuple[SignatureState, ...] = ("valid", "unchecked", "none")

ModelDecision = Literal["registered", "updated", "approved", "named", "unnamed", "retired"]
MODEL_DECISIONS: tuple[ModelDecision, ...] = ("registered", "updated", "approved", "named", "unnamed", "retired")

MOMENT = DateTime(timezone=True)


def one_of(column: str, values: tuple[str, ...]) -> str:
    """SQL of a check that a column holds one of these."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )


class ScoreColumns:
    """What `user_scores` and `score_history` keep of a score; of one that release 0.1 wrote, nothing of contracts."""

    event_id: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    horizons: Mapped[dict[str, float]] = mapped_column(JSONB)
    level: Mapped[Level] = mapped_column(RISK_LEVEL)
    baseline: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    delta: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    days_past_due: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    model: Mapped[str] = mapped_column(Text)
    status: Mapped[Status | None] = mapped_column(Text)
    contracts: Mapped[int | None] = mapped_column(Integer)
    exposure: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    amount_overdue: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    expected_loss: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)


class UserScore(ScoreColumns, Base):
    """The latest score of each user, by `sequence`."""

    __tablename__ = "user_scores"

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    score_id: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    updated_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint("score >= 0 AND score <= 1", name="score"),
        CheckConstraint("sequence >= 1", name="sequence"),
        # Rows change all the time and no index covers what changes: room on the page keeps updates in place (HOT).
        {"postgresql_with": {"fillfactor": 80}},
    )


class ScoreHistory(ScoreColumns, Base):
    """Every score, partitioned by the month of `occurred_at` (see `stream.database.partitions`)."""

    __tablename__ = "score_history"

    score_id: Mapped[str] = mapped_column(Text, primary_key=True)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT, primary_key=True)
    user_id: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("score >= 0 AND score <= 1", name="score"),
        CheckConstraint("sequence >= 1", name="sequence"),
        Index(None, "user_id", "occurred_at"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )


class AlertColumns:
    """What `alerts` and `alert_events` keep of an alert's transition."""

    alert_id: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str] = mapped_column(Text)
    kind: Mapped[AlertKind] = mapped_column(Text)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    opened_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    score: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    baseline: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    delta: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    reference_pd: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    days_past_due: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    triggers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    reasons: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    weighed_most: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    sequence: Mapped[int] = mapped_column(BigInteger)
    policy: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    status: Mapped[Status | None] = mapped_column(Text)
    exposure: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    amount_overdue: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    expected_loss: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    contracts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)


class AlertEvent(AlertColumns, Base):
    """Every transition of every alert; rows are only ever added."""

    __tablename__ = "alert_events"

    transition_id: Mapped[str] = mapped_column(Text, primary_key=True)
    level_from: Mapped[Level] = mapped_column(RISK_LEVEL)
    level_to: Mapped[Level] = mapped_column(RISK_LEVEL)
    source_topic: Mapped[str] = mapped_column(Text)
    source_partition: Mapped[int] = mapped_column(Integer)
    source_offset: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("kind", ALERT_KINDS), name="kind"),
        CheckConstraint("score >= 0 AND score <= 1", name="score"),
        CheckConstraint("sequence >= 1", name="sequence"),
        Index(None, "alert_id", "sequence"),
        Index(None, "user_id", "occurred_at"),
    )


class AlertState(AlertColumns, Base):
    """Each alert as it stands, derived from `alert_events`.

    `kind`, `level`, `score` and the like are those of the latest transition; `triggers`, `reasons` and `weighed_most`
    those of the latest that raised it, so that a cleared alert still says why it was open. Open means `cleared_at` is
    null.
    """

    __tablename__ = "alerts"

    alert_id: Mapped[str] = mapped_column(Text, primary_key=True)
    transition_id: Mapped[str] = mapped_column(Text)
    level: Mapped[Level] = mapped_column(RISK_LEVEL)
    highest_level: Mapped[Level] = mapped_column(RISK_LEVEL)
    escalated_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    cleared_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    updated_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("kind", ALERT_KINDS), name="kind"),
        CheckConstraint("score >= 0 AND score <= 1", name="score"),
        CheckConstraint("sequence >= 1", name="sequence"),
        Index("alerts_open_idx", text("level DESC"), text("score DESC"), postgresql_where=text("cleared_at IS NULL")),
        Index(None, "user_id", "opened_at"),
    )


class ContractState(Base):
    """Each contract of each borrower as it stands, up to `occurred_at`; those that a worker no longer keeps are gone.

    `contract_id` is empty for the unnamed contract. All contracts of a borrower have the same `sequence`.
    """

    __tablename__ = "contracts"

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    contract_id: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[Status] = mapped_column(Text)
    days_past_due: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    amount_overdue: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    exposure: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    credit_limit: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    currency: Mapped[str | None] = mapped_column(Text)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    sequence: Mapped[int] = mapped_column(BigInteger)
    source_partition: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("status", STATUSES), name="status"),
        CheckConstraint("sequence >= 1", name="sequence"),
        {"postgresql_with": {"fillfactor": 80}},  # as user_scores
    )


class StatedProduct(Base):
    """The product of a contract, as the latest profile that names the contract states it.

    `contract_id` is empty for the unnamed contract.
    """

    __tablename__ = "contract_products"

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    contract_id: Mapped[str] = mapped_column(Text, primary_key=True)
    product: Mapped[str | None] = mapped_column(Text)
    occurred_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    source_partition: Mapped[int] = mapped_column(Integer)
    source_offset: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())


class RefusedInput(Base):
    """Every input that was not used, with its original bytes."""

    __tablename__ = "dead_letters"

    dead_letter_id: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    topic: Mapped[str] = mapped_column(Text)
    partition: Mapped[int] = mapped_column(Integer)
    offset: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    """The Kafka record's own timestamp; null where it has none or one that no calendar holds."""
    key: Mapped[bytes | None] = mapped_column(BYTEA)
    value: Mapped[bytes | None] = mapped_column(BYTEA)
    received_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (Index(None, "reason", "received_at"), Index(None, "topic", "partition", "offset"))


class ModelVersion(Base):
    """Every model that has scored here. `manifest` stays null until someone who holds the bundle registers it."""

    __tablename__ = "model_versions"

    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    first_seen: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())
    manifest: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class RegisteredModel(Base):
    """Every model of the registry: where its bundle was found, what vouches for it, and how it stands.

    `signature` is that of the manifest when it was registered last: `valid` by the key `signed_by`, `unchecked` where
    no key was set, `none` where there was none. Triggers of the migration refuse what is not legal, and note each
    change in `model_decisions`.
    """

    __tablename__ = "registered_models"

    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    bundle: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[str] = mapped_column(Text)
    signature: Mapped[SignatureState] = mapped_column(Text)
    signed_by: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSONB)
    card: Mapped[str | None] = mapped_column(Text)
    card_sha256: Mapped[str | None] = mapped_column(Text)
    status: Mapped[ModelStatus] = mapped_column(Text, server_default="registered")
    alias: Mapped[ModelAlias | None] = mapped_column(Text)
    registered_by: Mapped[str] = mapped_column(Text)
    registered_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        UniqueConstraint("alias", name="registered_models_alias_key"),
        CheckConstraint(
            "manifest_sha256 ~ '^[0-9a-f]{64}$' AND fingerprint = left(manifest_sha256, 16)", name="fingerprint"
        ),
        CheckConstraint(one_of("signature", SIGNATURE_STATES), name="signature"),
        CheckConstraint("(signed_by IS NOT NULL) = (signature = 'valid')", name="signed_by"),
        CheckConstraint("(card IS NULL) = (card_sha256 IS NULL)", name="card"),
        CheckConstraint(one_of("status", MODEL_STATUSES), name="status"),
        CheckConstraint(f"alias IS NULL OR {one_of('alias', MODEL_ALIASES)} AND status = 'approved'", name="alias"),
    )


class NotedDecision(Base):
    """Every decision about a model of the registry; rows are only ever added, by a trigger, and nobody changes them.

    `actor` is who decided as the command was told, `database_user` who was connected, as the server knows it.
    """

    __tablename__ = "model_decisions"

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text, ForeignKey("registered_models.fingerprint"))
    decision: Mapped[ModelDecision] = mapped_column(Text)
    alias: Mapped[ModelAlias | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    database_user: Mapped[str] = mapped_column(Text)
    approval: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("decision", MODEL_DECISIONS), name="decision"),
        Index(None, "fingerprint", "number"),
    )


class ReplayRun(Base):
    """Every replay by name: its range of event time, its users (none named is all), its model, the alert policy and
    rules of counting it goes by (null where that is not on record), how it ended and what it counted; and what its last
    comparison with the live outputs found, without the borrowers (`diff`)."""

    __tablename__ = "replay_runs"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    from_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    to_at: Mapped[dt.datetime] = mapped_column(MOMENT)
    users: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'::text[]"))
    model: Mapped[str] = mapped_column(Text)
    rules: Mapped[str | None] = mapped_column(Text)
    status: Mapped[ReplayStatus] = mapped_column(Text)
    started_at: Mapped[dt.datetime] = mapped_column(MOMENT, server_default=func.now())
    finished_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    counts: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    compared_at: Mapped[dt.datetime | None] = mapped_column(MOMENT)
    diff: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    __table_args__ = (
        CheckConstraint("(compared_at IS NULL) = (diff IS NULL)", name="compared"),
        CheckConstraint(one_of("status", REPLAY_STATUSES), name="status"),
        CheckConstraint("from_at <= to_at", name="range"),
        CheckConstraint("(finished_at IS NULL) = (status = 'running')", name="finished"),
    )
