"""First tables: scores, alerts, dead letters, model versions, replay runs."""

from __future__ import annotations

from alembic import op

revision: str = "0001"
down_revision: str | None = None

UPGRADE = (
    "CREATE TYPE risk_level AS ENUM ('LOW', 'MEDIUM', 'HIGH')",
    """
    CREATE TABLE user_scores (
        user_id text NOT NULL,
        score_id text NOT NULL,
        event_id text NOT NULL,
        occurred_at timestamptz NOT NULL,
        sequence bigint NOT NULL,
        score double precision NOT NULL,
        horizons jsonb NOT NULL,
        level risk_level NOT NULL,
        baseline double precision NOT NULL,
        delta double precision NOT NULL,
        days_past_due double precision,
        model text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT user_scores_pkey PRIMARY KEY (user_id),
        CONSTRAINT user_scores_score_check CHECK (score >= 0 AND score <= 1),
        CONSTRAINT user_scores_sequence_check CHECK (sequence >= 1)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE score_history (
        score_id text NOT NULL,
        occurred_at timestamptz NOT NULL,
        user_id text NOT NULL,
        event_id text NOT NULL,
        sequence bigint NOT NULL,
        score double precision NOT NULL,
        horizons jsonb NOT NULL,
        level risk_level NOT NULL,
        baseline double precision NOT NULL,
        delta double precision NOT NULL,
        days_past_due double precision,
        model text NOT NULL,
        CONSTRAINT score_history_pkey PRIMARY KEY (score_id, occurred_at),
        CONSTRAINT score_history_score_check CHECK (score >= 0 AND score <= 1),
        CONSTRAINT score_history_sequence_check CHECK (sequence >= 1)
    ) PARTITION BY RANGE (occurred_at)
    """,
    "CREATE INDEX score_history_user_id_occurred_at_idx ON score_history (user_id, occurred_at)",
    "CREATE TABLE score_history_default PARTITION OF score_history DEFAULT",
    """
    CREATE TABLE alerts (
        alert_id text NOT NULL,
        user_id text NOT NULL,
        transition_id text NOT NULL,
        kind text NOT NULL,
        level risk_level NOT NULL,
        highest_level risk_level NOT NULL,
        occurred_at timestamptz NOT NULL,
        opened_at timestamptz NOT NULL,
        escalated_at timestamptz,
        cleared_at timestamptz,
        score double precision NOT NULL,
        baseline double precision NOT NULL,
        delta double precision NOT NULL,
        reference_pd double precision,
        days_past_due double precision,
        triggers text[] NOT NULL,
        reasons jsonb NOT NULL,
        weighed_most jsonb NOT NULL,
        sequence bigint NOT NULL,
        policy text NOT NULL,
        model text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT alerts_pkey PRIMARY KEY (alert_id),
        CONSTRAINT alerts_kind_check CHECK (kind IN ('opened', 'escalated', 'cleared')),
        CONSTRAINT alerts_score_check CHECK (score >= 0 AND score <= 1),
        CONSTRAINT alerts_sequence_check CHECK (sequence >= 1)
    )
    """,
    "CREATE INDEX alerts_open_idx ON alerts (level DESC, score DESC) WHERE cleared_at IS NULL",
    "CREATE INDEX alerts_user_id_opened_at_idx ON alerts (user_id, opened_at)",
    """
    CREATE TABLE alert_events (
        transition_id text NOT NULL,
        alert_id text NOT NULL,
        user_id text NOT NULL,
        kind text NOT NULL,
        occurred_at timestamptz NOT NULL,
        opened_at timestamptz NOT NULL,
        level_from risk_level NOT NULL,
        level_to risk_level NOT NULL,
        score double precision NOT NULL,
        baseline double precision NOT NULL,
        delta double precision NOT NULL,
        reference_pd double precision,
        days_past_due double precision,
        triggers text[] NOT NULL,
        reasons jsonb NOT NULL,
        weighed_most jsonb NOT NULL,
        sequence bigint NOT NULL,
        source_topic text NOT NULL,
        source_partition integer NOT NULL,
        source_offset bigint NOT NULL,
        policy text NOT NULL,
        model text NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT alert_events_pkey PRIMARY KEY (transition_id),
        CONSTRAINT alert_events_kind_check CHECK (kind IN ('opened', 'escalated', 'cleared')),
        CONSTRAINT alert_events_score_check CHECK (score >= 0 AND score <= 1),
        CONSTRAINT alert_events_sequence_check CHECK (sequence >= 1)
    )
    """,
    "CREATE INDEX alert_events_alert_id_sequence_idx ON alert_events (alert_id, sequence)",
    "CREATE INDEX alert_events_user_id_occurred_at_idx ON alert_events (user_id, occurred_at)",
    """
    CREATE TABLE dead_letters (
        dead_letter_id text NOT NULL,
        reason text NOT NULL,
        message text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        recorded_at timestamptz,
        key bytea,
        value bytea,
        received_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id)
    )
    """,
    "CREATE INDEX dead_letters_reason_received_at_idx ON dead_letters (reason, received_at)",
    'CREATE INDEX dead_letters_topic_partition_offset_idx ON dead_letters (topic, partition, "offset")',
    """
    CREATE TABLE model_versions (
        fingerprint text NOT NULL,
        first_seen timestamptz NOT NULL DEFAULT now(),
        manifest jsonb,
        CONSTRAINT model_versions_pkey PRIMARY KEY (fingerprint)
    )
    """,
    """
    CREATE TABLE replay_runs (
        name text NOT NULL,
        from_at timestamptz NOT NULL,
        to_at timestamptz NOT NULL,
        users text[] NOT NULL DEFAULT '{}'::text[],
        model text NOT NULL,
        status text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        counts jsonb NOT NULL DEFAULT '{}'::jsonb,
        CONSTRAINT replay_runs_pkey PRIMARY KEY (name),
        CONSTRAINT replay_runs_status_check CHECK (status IN ('running', 'finished', 'failed')),
        CONSTRAINT replay_runs_range_check CHECK (from_at <= to_at),
        CONSTRAINT replay_runs_finished_check CHECK ((finished_at IS NULL) = (status = 'running'))
    )
    """,
)

DOWNGRADE = (
    "DROP TABLE replay_runs, model_versions, dead_letters, alert_events, alerts, score_history, user_scores",
    "DROP TYPE risk_level",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
