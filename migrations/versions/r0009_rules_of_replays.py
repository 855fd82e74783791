"""By which alert policy and rules of counting a replay goes, in a column of its own. It stood among the counts before,
where `counts` has the key `rules`."""

from __future__ import annotations

from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"

MOVED_OUT = """
    UPDATE replay_runs SET rules = counts ->> 'rules', counts = counts - 'rules' WHERE counts ? 'rules'
    """
MOVED_BACK = """
    UPDATE replay_runs SET counts = counts || jsonb_build_object('rules', rules) WHERE rules IS NOT NULL
    """


def upgrade() -> None:
    op.execute("ALTER TABLE replay_runs ADD COLUMN rules text")
    op.execute(MOVED_OUT)


def downgrade() -> None:
    op.execute(MOVED_BACK)
    op.execute("ALTER TABLE replay_runs DROP COLUMN rules")
