"""Who may use the desk: accounts, tokens, sessions, requests that may be repeated, and the audit of reads.

The audit is append-only by a trigger, for whoever writes: rows are added, the id of a user who was forgotten is
replaced, and rows older than `KEPT_DAYS` may go. Who wrote a row is what the server knows, whatever the desk says.
"""

from __future__ import annotations

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"

KEPT_DAYS = 365

ACCOUNTS = """
    CREATE TABLE accounts (
        name text NOT NULL,
        display_name text NOT NULL,
        role text NOT NULL,
        products text[],
        password_hash text,
        oidc_issuer text,
        oidc_subject text,
        daily_cap integer,
        language text,
        active boolean NOT NULL DEFAULT true,
        failed_sign_ins integer NOT NULL DEFAULT 0,
        locked_until timestamptz,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        CONSTRAINT accounts_pkey PRIMARY KEY (name),
        CONSTRAINT accounts_oidc_key UNIQUE (oidc_issuer, oidc_subject),
        CONSTRAINT accounts_name_check CHECK (name <> ''),
        CONSTRAINT accounts_role_check CHECK (role IN ('reader', 'collector', 'lead', 'operator')),
        CONSTRAINT accounts_oidc_check CHECK ((oidc_issuer IS NULL) = (oidc_subject IS NULL)),
        CONSTRAINT accounts_daily_cap_check CHECK (daily_cap >= 0),
        CONSTRAINT accounts_products_check CHECK (products <> '{}'::text[])
    )
    """

TOKENS = """
    CREATE TABLE access_tokens (
        token_id text NOT NULL,
        secret_sha256 bytea NOT NULL,
        name text NOT NULL,
        role text NOT NULL,
        products text[],
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        revoked_by text,
        last_used_at timestamptz,
        CONSTRAINT access_tokens_pkey PRIMARY KEY (token_id),
        CONSTRAINT access_tokens_secret_sha256_check CHECK (octet_length(secret_sha256) = 32),
        CONSTRAINT access_tokens_name_check CHECK (name <> ''),
        CONSTRAINT access_tokens_role_check CHECK (role IN ('reader', 'collector', 'lead', 'operator')),
        CONSTRAINT access_tokens_revoked_check CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
        CONSTRAINT access_tokens_products_check CHECK (products <> '{}'::text[])
    ) WITH (fillfactor = 80)
    """

SESSIONS = """
    CREATE TABLE sessions (
        session_sha256 bytea NOT NULL,
        account text NOT NULL,
        csrf_token text NOT NULL,
        created_at timestamptz NOT NULL,
        last_seen_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT sessions_pkey PRIMARY KEY (session_sha256),
        CONSTRAINT sessions_account_fkey FOREIGN KEY (account) REFERENCES accounts (name) ON DELETE CASCADE
    ) WITH (fillfactor = 80)
    """

OIDC_SIGN_INS = """
    CREATE TABLE oidc_sign_ins (
        browser_sha256 bytea NOT NULL,
        state text NOT NULL,
        nonce text NOT NULL,
        code_verifier text NOT NULL,
        go_on_to text NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT oidc_sign_ins_pkey PRIMARY KEY (browser_sha256)
    )
    """

IDEMPOTENT_REQUESTS = """
    CREATE TABLE idempotent_requests (
        principal text NOT NULL,
        key text NOT NULL,
        request_sha256 bytea NOT NULL,
        user_id text,
        status integer NOT NULL,
        response bytea NOT NULL,
        created_at timestamptz NOT NULL,
        CONSTRAINT idempotent_requests_pkey PRIMARY KEY (principal, key)
    )
    """

PERSONAL_DATA_READS = """
    CREATE TABLE personal_data_reads (
        number bigint GENERATED ALWAYS AS IDENTITY,
        read_at timestamptz NOT NULL,
        principal text NOT NULL,
        kind text NOT NULL,
        what text NOT NULL,
        user_id text NOT NULL,
        database_user text NOT NULL,
        CONSTRAINT personal_data_reads_pkey PRIMARY KEY (number),
        CONSTRAINT personal_data_reads_kind_check CHECK (kind IN ('account', 'token'))
    )
    """

REQUEST_COUNTS = """
    CREATE UNLOGGED TABLE request_counts (
        caller text NOT NULL,
        window_start timestamptz NOT NULL,
        taken integer NOT NULL,
        CONSTRAINT request_counts_pkey PRIMARY KEY (caller, window_start)
    ) WITH (fillfactor = 80)
    """

INDICES = (
    "CREATE INDEX sessions_account_idx ON sessions (account)",
    "CREATE INDEX sessions_expires_at_idx ON sessions (expires_at)",
    "CREATE INDEX oidc_sign_ins_expires_at_idx ON oidc_sign_ins (expires_at)",
    "CREATE INDEX idempotent_requests_created_at_idx ON idempotent_requests (created_at)",
    "CREATE INDEX personal_data_reads_user_id_read_at_idx ON personal_data_reads (user_id, read_at)",
    "CREATE INDEX personal_data_reads_principal_read_at_idx ON personal_data_reads (principal, read_at)",
    "CREATE INDEX personal_data_reads_read_at_idx ON personal_data_reads USING brin (read_at)",
    "CREATE INDEX request_counts_window_start_idx ON request_counts (window_start)",
)

KEEP = f"""
CREATE FUNCTION keep_personal_data_reads() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.database_user := session_user;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND OLD.read_at < now() - interval '{KEPT_DAYS} days' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.user_id = 'forgotten'
        AND (NEW.number, NEW.read_at, NEW.principal, NEW.kind, NEW.what, NEW.database_user)
            = (OLD.number, OLD.read_at, OLD.principal, OLD.kind, OLD.what, OLD.database_user)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'personal_data_reads: rows are only ever added; they may go after {KEPT_DAYS} days'
        USING ERRCODE = 'integrity_constraint_violation';
END
$function$
"""

NOT_EMPTIED = """
CREATE FUNCTION keep_all_personal_data_reads() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION 'personal_data_reads: rows are only ever added' USING ERRCODE = 'integrity_constraint_violation';
END
$function$
"""

TRIGGERS = (
    "CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON personal_data_reads "
    "FOR EACH ROW EXECUTE FUNCTION keep_personal_data_reads()",
    "CREATE TRIGGER keep_all BEFORE TRUNCATE ON personal_data_reads "
    "FOR EACH STATEMENT EXECUTE FUNCTION keep_all_personal_data_reads()",
)

TABLES = (ACCOUNTS, TOKENS, SESSIONS, OIDC_SIGN_INS, IDEMPOTENT_REQUESTS, PERSONAL_DATA_READS, REQUEST_COUNTS)
FUNCTIONS = ("keep_personal_data_reads()", "keep_all_personal_data_reads()")


def upgrade() -> None:
    for statement in (*TABLES, *INDICES, KEEP, NOT_EMPTIED, *TRIGGERS):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")


def downgrade() -> None:
    op.execute(
        "DROP TABLE request_counts, personal_data_reads, idempotent_requests, oidc_sign_ins, sessions, access_tokens, "
        "accounts"
    )
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
