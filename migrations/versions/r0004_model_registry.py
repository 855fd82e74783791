"""The registry of models: what is registered, how it stands, and every decision about it, by whom and why.

What is legal, and that each decision is noted, is said by triggers, so it holds for whoever changes the tables. The
notes are written by a function with the rights of the tables' owner: who decides needs no right on them.
"""

from __future__ import annotations

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"

MODELS = """
    CREATE TABLE registered_models (
        fingerprint text NOT NULL,
        name text NOT NULL,
        bundle text NOT NULL,
        manifest_sha256 text NOT NULL,
        signature text NOT NULL,
        signed_by text,
        metrics jsonb NOT NULL,
        card text,
        card_sha256 text,
        status text NOT NULL DEFAULT 'registered',
        alias text,
        registered_by text NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT registered_models_pkey PRIMARY KEY (fingerprint),
        CONSTRAINT registered_models_alias_key UNIQUE (alias),
        CONSTRAINT registered_models_fingerprint_check CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'
            AND fingerprint = left(manifest_sha256, 16)),
        CONSTRAINT registered_models_signature_check CHECK (signature IN ('valid', 'unchecked', 'none')),
        CONSTRAINT registered_models_signed_by_check CHECK ((signed_by IS NOT NULL) = (signature = 'valid')),
        CONSTRAINT registered_models_card_check CHECK ((card IS NULL) = (card_sha256 IS NULL)),
        CONSTRAINT registered_models_status_check CHECK (status IN ('registered', 'approved', 'retired')),
        CONSTRAINT registered_models_alias_check CHECK (alias IS NULL
            OR alias IN ('champion', 'challenger') AND status = 'approved')
    )
    """

DECISIONS = """
    CREATE TABLE model_decisions (
        number bigint GENERATED ALWAYS AS IDENTITY,
        fingerprint text NOT NULL,
        decision text NOT NULL,
        alias text,
        actor text NOT NULL,
        database_user text NOT NULL,
        approval text,
        reason text NOT NULL,
        decided_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT model_decisions_pkey PRIMARY KEY (number),
        CONSTRAINT model_decisions_fingerprint_fkey FOREIGN KEY (fingerprint)
            REFERENCES registered_models (fingerprint),
        CONSTRAINT model_decisions_decision_check CHECK (decision IN ('registered', 'updated', 'approved', 'named',
            'unnamed', 'retired'))
    )
    """

INDEX = "CREATE INDEX model_decisions_fingerprint_number_idx ON model_decisions (fingerprint, number)"

# Who decides, by which rule and why, comes from the session: `set_config('foreshock.actor', …, true)`. Who is connected
# is what the server knows, whatever the session says. Temporary objects come last in the search path: nobody can put a
# table of their own in between.
NOTE = """
CREATE FUNCTION note_model_decision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $function$
DECLARE
    decided text := 'updated';
    about text := NEW.alias;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'registered' OR NEW.alias IS NOT NULL THEN
            RAISE EXCEPTION 'registered_models: a model begins as registered, without an alias'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        decided := 'registered';
    ELSE
        IF (NEW.fingerprint, NEW.manifest_sha256, NEW.registered_by, NEW.registered_at)
            IS DISTINCT FROM (OLD.fingerprint, OLD.manifest_sha256, OLD.registered_by, OLD.registered_at)
        THEN
            RAISE EXCEPTION 'registered_models: which model it is, who registered it and when never changes'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF NEW.status <> OLD.status THEN
            IF (OLD.status, NEW.status) NOT IN (('registered', 'approved'), ('registered', 'retired'),
                ('approved', 'retired')) OR OLD.alias = 'champion'
            THEN
                RAISE EXCEPTION 'registered_models: a model that is % cannot become %',
                    coalesce(OLD.alias, OLD.status), NEW.status USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            decided := NEW.status;
            about := coalesce(NEW.alias, OLD.alias);
        ELSIF NEW.alias IS DISTINCT FROM OLD.alias THEN
            decided := CASE WHEN NEW.alias IS NULL THEN 'unnamed' ELSE 'named' END;
            about := coalesce(NEW.alias, OLD.alias);
        END IF;
    END IF;
    INSERT INTO model_decisions (fingerprint, decision, alias, actor, database_user, approval, reason) VALUES (
        NEW.fingerprint, decided, about,
        coalesce(nullif(current_setting('foreshock.actor', true), ''), session_user), session_user,
        CASE WHEN decided = 'approved' THEN nullif(current_setting('foreshock.approval', true), '') END,
        coalesce(current_setting('foreshock.reason', true), '')
    );
    RETURN NULL;
END
$function$
"""

KEEP = """
CREATE FUNCTION keep_model_decisions() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    -- A depth of 1 is this trigger alone: a row that did not come of `note_model_decision`.
    IF TG_OP <> 'INSERT' OR pg_trigger_depth() = 1 THEN
        RAISE EXCEPTION 'model_decisions: rows are only ever added, by decisions about registered_models'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$function$
"""

TRIGGERS = (
    "CREATE TRIGGER note_decision AFTER INSERT OR UPDATE ON registered_models "
    "FOR EACH ROW EXECUTE FUNCTION note_model_decision()",
    "CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON model_decisions "
    "FOR EACH STATEMENT EXECUTE FUNCTION keep_model_decisions()",
)

FUNCTIONS = ("note_model_decision()", "keep_model_decisions()")


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statement in (MODELS, DECISIONS, INDEX, NOTE.format(schema=schema), KEEP, *TRIGGERS):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP TABLE model_decisions, registered_models")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
