"""What a replay would have said differently, beside what it counted: the figures of its last comparison with the live
outputs, which name no borrower."""

from __future__ import annotations

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"

COLUMNS = """
    ALTER TABLE replay_runs
        ADD COLUMN compared_at timestamptz,
        ADD COLUMN diff jsonb,
        ADD CONSTRAINT replay_runs_compared_check CHECK ((compared_at IS NULL) = (diff IS NULL))
    """


def upgrade() -> None:
    op.execute(COLUMNS)


def downgrade() -> None:
    op.execute("ALTER TABLE replay_runs DROP COLUMN compared_at, DROP COLUMN diff")
