"""Month partitions of `score_history` are made by a function, so that a sink needs no right to make or change tables.

It runs with the rights of whoever owns the tables, and makes nothing but such partitions. Nobody else may call it until
they are allowed to (`foreshock db roles`).
"""

from __future__ import annotations

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"

# The schema is fixed, and temporary objects come last: whoever calls cannot put a table of their own in between.
# Attaching, unlike CREATE TABLE … PARTITION OF, leaves writers to the other months undisturbed; it does lock the
# default partition, which is taken first so that no row slips in between the move and the attachment.
FUNCTION = """
CREATE FUNCTION make_score_history_month(month date, lock_timeout text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $function$
DECLARE
    child text := 'score_history_' || to_char(month, 'YYYY_MM');
    begins text := to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00';
    ends text := to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00';
BEGIN
    IF month <> date_trunc('month', month)::date THEN
        RAISE EXCEPTION 'make_score_history_month: % is not the first day of a month', month;
    END IF;
    PERFORM set_config('lock_timeout', lock_timeout, true);
    PERFORM pg_advisory_xact_lock({lock});
    -- By a join, which sees what has been committed. `to_regclass` would answer from the session's cache of names,
    -- which after waiting for the lock may not yet know the table that another sink has just made.
    IF EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'score_history'::regclass AND relname = child
    ) THEN
        RETURN;
    END IF;
    LOCK TABLE score_history_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE score_history INCLUDING ALL)', child);
    EXECUTE format(
        'WITH moved AS (DELETE FROM score_history_default WHERE occurred_at >= %L AND occurred_at < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', begins, ends, child
    );
    EXECUTE format(
        'ALTER TABLE score_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', child, begins, ends
    );
END
$function$
"""
LOCK_KEY = 0x666F_7265_0001
"""Advisory lock that makers of partitions take in turn."""

SIGNATURE = "make_score_history_month(date, text)"


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(FUNCTION.format(schema=schema, lock=LOCK_KEY))
    op.execute(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
