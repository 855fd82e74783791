"""Contracts: their current state and product, what scores and alerts say of them, and views by status and product."""

from __future__ import annotations

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"

STATUSES = "'closed', 'performing', 'restructured', 'past_due', 'serious', 'written_off'"

AMOUNTS = ("exposure", "amount_overdue", "expected_loss")
ADDED = {
    "user_scores": {"contracts": "integer"},
    "score_history": {"contracts": "integer"},
    "alert_events": {"contracts": "jsonb"},
    "alerts": {"contracts": "jsonb"},
}

CONTRACTS = f"""
    CREATE TABLE contracts (
        user_id text NOT NULL,
        contract_id text NOT NULL,
        status text NOT NULL,
        days_past_due double precision,
        amount_overdue double precision,
        exposure double precision,
        credit_limit double precision,
        currency text,
        occurred_at timestamptz NOT NULL,
        sequence bigint NOT NULL,
        source_partition integer NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT contracts_pkey PRIMARY KEY (user_id, contract_id),
        CONSTRAINT contracts_status_check CHECK (status IN ({STATUSES})),
        CONSTRAINT contracts_sequence_check CHECK (sequence >= 1)
    ) WITH (fillfactor = 80)
    """

PRODUCTS = """
    CREATE TABLE contract_products (
        user_id text NOT NULL,
        contract_id text NOT NULL,
        product text,
        occurred_at timestamptz NOT NULL,
        source_partition integer NOT NULL,
        source_offset bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT contract_products_pkey PRIMARY KEY (user_id, contract_id)
    )
    """

# Of the contracts of which both are known. A limit of 0 counts, too.
UTILISATION = """sum(credit_limit) AS credit_limit,
            sum(exposure) FILTER (WHERE credit_limit IS NOT NULL)
                / nullif(sum(credit_limit) FILTER (WHERE exposure IS NOT NULL), 0) AS utilisation"""

VIEWS = {
    # Amounts are in the contracts' own currencies, so they are not added across these.
    "contracts_by_status": f"""
        SELECT status, currency, count(*) AS contracts, count(DISTINCT user_id) AS borrowers, sum(exposure) AS exposure,
            sum(amount_overdue) AS amount_overdue, max(days_past_due) AS days_past_due, {UTILISATION}
        FROM contracts GROUP BY status, currency ORDER BY array_position(ARRAY[{STATUSES}], status), currency
        """,
    "contracts_by_product": f"""
        SELECT product, status, currency, count(*) AS contracts, count(DISTINCT user_id) AS borrowers,
            sum(exposure) AS exposure, sum(amount_overdue) AS amount_overdue, max(days_past_due) AS days_past_due,
            {UTILISATION}
        FROM contracts LEFT JOIN contract_products USING (user_id, contract_id) GROUP BY product, status, currency
        ORDER BY product, array_position(ARRAY[{STATUSES}], status), currency
        """,
    "borrowers_by_status": f"""
        SELECT status, level, count(*) AS borrowers, sum(contracts) AS contracts, sum(exposure) AS exposure,
            sum(amount_overdue) AS amount_overdue, sum(expected_loss) AS expected_loss,
            count(*) FILTER (WHERE contracts > 0 AND exposure IS NULL) AS without_amounts
        FROM user_scores GROUP BY status, level ORDER BY array_position(ARRAY[{STATUSES}], status), level
        """,
}


def columns(table: str) -> dict[str, str]:
    return {"status": "text", **dict.fromkeys(AMOUNTS, "double precision"), **ADDED[table]}


def upgrade() -> None:
    for table in ADDED:
        added = ", ".join(f"ADD COLUMN {name} {sql_type}" for name, sql_type in columns(table).items())
        op.execute(f"ALTER TABLE {table} {added}")
    op.execute(CONTRACTS)
    op.execute(PRODUCTS)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP TABLE contracts, contract_products")
    for table in ADDED:
        op.execute(f"ALTER TABLE {table} {', '.join(f'DROP COLUMN {name}' for name in columns(table))}")
