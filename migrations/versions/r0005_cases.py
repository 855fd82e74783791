"""Cases: what people do about alerts, every action on them, promises to pay, saved views; and the events they look at.

A trigger on `alerts` makes each case and keeps it in step, with the rights of the tables' owner: whoever writes alerts
needs no right on cases. Actions are only ever added; that a user is forgotten, which deletes their alerts, is the one
thing that takes them away.
"""

from __future__ import annotations

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"

STATUSES = "'open', 'acknowledged', 'in_progress', 'promised', 'snoozed', 'closed'"
DISPOSITIONS = "'cured', 'paid', 'restructured', 'false_alarm', 'written_off', 'handed_over'"
ACTIONS = (
    "'open', 'escalate', 'clear', 'acknowledge', 'take', 'start', 'contact', 'promise', 'promise_kept', "
    "'promise_broken', 'withdraw_promise', 'snooze', 'wake', 'note', 'assign', 'unassign', 'request_review', "
    "'confirm', 'reject', 'close', 'reopen'"
)

EVENTS = (
    """
    CREATE TABLE user_events (
        source_topic text NOT NULL,
        source_partition integer NOT NULL,
        source_offset bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        user_id text NOT NULL,
        event_id text NOT NULL,
        kind text NOT NULL,
        payload jsonb NOT NULL,
        CONSTRAINT user_events_pkey PRIMARY KEY (source_topic, source_partition, source_offset, occurred_at),
        CONSTRAINT user_events_kind_check CHECK (kind IN ('repayments', 'transactions', 'activity', 'profiles'))
    ) PARTITION BY RANGE (occurred_at)
    """,
    "CREATE INDEX user_events_user_id_occurred_at_idx ON user_events (user_id, occurred_at)",
    "CREATE TABLE user_events_default PARTITION OF user_events DEFAULT",
    """
    CREATE TABLE forgotten_users (
        user_sha256 bytea NOT NULL,
        forgotten_at timestamptz NOT NULL,
        CONSTRAINT forgotten_users_pkey PRIMARY KEY (user_sha256)
    )
    """,
    """
    CREATE VIEW taken_events AS SELECT * FROM user_events WHERE NOT EXISTS (
        SELECT FROM dead_letters
        WHERE topic = source_topic AND "partition" = source_partition AND "offset" = source_offset
    )
    """,
)

# As `make_score_history_month` of revision 0002, which says why so.
MAKE_MONTH = """
CREATE FUNCTION make_user_events_month(month date, lock_timeout text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $function$
DECLARE
    child text := 'user_events_' || to_char(month, 'YYYY_MM');
    begins text := to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00';
    ends text := to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00';
BEGIN
    IF month <> date_trunc('month', month)::date THEN
        RAISE EXCEPTION 'make_user_events_month: % is not the first day of a month', month;
    END IF;
    PERFORM set_config('lock_timeout', lock_timeout, true);
    PERFORM pg_advisory_xact_lock({lock});
    IF EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'user_events'::regclass AND relname = child
    ) THEN
        RETURN;
    END IF;
    LOCK TABLE user_events_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE user_events INCLUDING ALL)', child);
    EXECUTE format(
        'WITH moved AS (DELETE FROM user_events_default WHERE occurred_at >= %L AND occurred_at < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', begins, ends, child
    );
    EXECUTE format(
        'ALTER TABLE user_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', child, begins, ends
    );
END
$function$
"""
LOCK_KEY = 0x666F_7265_0002
"""Advisory lock that makers of these partitions take in turn."""

CASES = f"""
    CREATE TABLE cases (
        alert_id text NOT NULL,
        user_id text NOT NULL,
        status text NOT NULL,
        level risk_level NOT NULL,
        highest_level risk_level NOT NULL,
        product text,
        reason_codes text[] NOT NULL,
        sequence bigint NOT NULL,
        score double precision NOT NULL,
        expected_loss double precision,
        lead_days double precision,
        priority double precision,
        rank double precision GENERATED ALWAYS AS (coalesce(priority, '-Infinity'::double precision)) STORED NOT NULL,
        assignee text,
        assigned_at timestamptz,
        opened_at timestamptz NOT NULL,
        alert_cleared_at timestamptz,
        first_touched_at timestamptz,
        contacted_at timestamptz,
        snoozed_until timestamptz,
        snoozed_from text,
        closed_at timestamptz,
        closed_as text,
        review_of text,
        review_by text,
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT cases_pkey PRIMARY KEY (alert_id),
        CONSTRAINT cases_status_check CHECK (status IN ({STATUSES})),
        CONSTRAINT cases_closed_as_check CHECK (closed_as IS NULL OR closed_as IN ({DISPOSITIONS})),
        CONSTRAINT cases_closed_check CHECK ((closed_at IS NOT NULL) = (status = 'closed')
            AND (closed_as IS NOT NULL) = (status = 'closed')),
        CONSTRAINT cases_snoozed_check CHECK ((snoozed_until IS NOT NULL) = (status = 'snoozed')
            AND (snoozed_from IS NOT NULL) = (status = 'snoozed')),
        CONSTRAINT cases_review_check CHECK ((review_of IS NULL) = (review_by IS NULL)),
        CONSTRAINT cases_assigned_check CHECK ((assignee IS NULL) = (assigned_at IS NULL)),
        CONSTRAINT cases_version_check CHECK (version >= 1)
    ) WITH (fillfactor = 80)
    """

ACTION_ROWS = f"""
    CREATE TABLE case_actions (
        number bigint GENERATED ALWAYS AS IDENTITY,
        action_id uuid NOT NULL,
        alert_id text NOT NULL,
        user_id text NOT NULL,
        action text NOT NULL,
        status_from text,
        status_to text NOT NULL,
        level risk_level NOT NULL,
        product text,
        actor text NOT NULL,
        at timestamptz NOT NULL,
        reason text NOT NULL DEFAULT '',
        details jsonb NOT NULL DEFAULT '{{}}',
        version integer NOT NULL,
        published_at timestamptz,
        CONSTRAINT case_actions_pkey PRIMARY KEY (number),
        CONSTRAINT case_actions_action_id_key UNIQUE (action_id),
        CONSTRAINT case_actions_alert_id_version_key UNIQUE (alert_id, version),
        CONSTRAINT case_actions_action_check CHECK (action IN ({ACTIONS})),
        CONSTRAINT case_actions_status_from_check CHECK (status_from IS NULL OR status_from IN ({STATUSES})),
        CONSTRAINT case_actions_status_to_check CHECK (status_to IN ({STATUSES})),
        CONSTRAINT case_actions_version_check CHECK (version >= 1)
    )
    """

PROMISES = """
    CREATE TABLE promises (
        action_id uuid NOT NULL,
        alert_id text NOT NULL,
        user_id text NOT NULL,
        contract_id text,
        amount double precision NOT NULL,
        currency text,
        due_on date NOT NULL,
        made_at timestamptz NOT NULL,
        made_by text NOT NULL,
        state text NOT NULL DEFAULT 'open',
        paid double precision NOT NULL DEFAULT 0,
        settled_at timestamptz,
        paid_late_at timestamptz,
        checked_at timestamptz NOT NULL,
        CONSTRAINT promises_pkey PRIMARY KEY (action_id),
        CONSTRAINT promises_state_check CHECK (state IN ('open', 'kept', 'broken', 'withdrawn')),
        CONSTRAINT promises_amount_check CHECK (amount > 0),
        CONSTRAINT promises_settled_check CHECK ((settled_at IS NULL) = (state = 'open'))
    )
    """

VIEWS = """
    CREATE TABLE saved_views (
        owner text NOT NULL,
        name text NOT NULL,
        filters jsonb NOT NULL,
        saved_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT saved_views_pkey PRIMARY KEY (owner, name)
    )
    """

INDICES = (
    "CREATE INDEX cases_queue_idx ON cases (rank DESC, score DESC, alert_id DESC) WHERE closed_at IS NULL",
    "CREATE INDEX cases_closed_idx ON cases (closed_at DESC, alert_id DESC) WHERE closed_at IS NOT NULL",
    "CREATE INDEX cases_of_assignee_idx ON cases (assignee, rank DESC, score DESC, alert_id DESC) "
    "WHERE closed_at IS NULL",
    "CREATE INDEX cases_snoozed_idx ON cases (snoozed_until) WHERE status = 'snoozed'",
    "CREATE INDEX cases_user_id_opened_at_idx ON cases (user_id, opened_at)",
    "CREATE INDEX cases_opened_at_idx ON cases (opened_at)",
    "CREATE INDEX case_actions_unpublished_idx ON case_actions (number) WHERE published_at IS NULL",
    "CREATE INDEX case_actions_actor_at_idx ON case_actions (actor, at)",
    "CREATE INDEX case_actions_at_idx ON case_actions (at)",
    "CREATE INDEX case_actions_user_id_idx ON case_actions (user_id)",
    "CREATE INDEX promises_alert_id_idx ON promises (alert_id)",
    "CREATE INDEX promises_user_id_idx ON promises (user_id)",
    "CREATE INDEX promises_due_idx ON promises (checked_at) WHERE state <> 'withdrawn'",
)

# Given a default within the longest horizon: how many days ahead it is on average, and as a share of that horizon. What
# falls between two horizons is taken to lie in their middle. Null where nothing is known or no default is expected.
LEAD = """
CREATE FUNCTION case_lead(horizons jsonb, OUT lead_days double precision, OUT lead_share double precision)
LANGUAGE sql IMMUTABLE AS $function$
    WITH named AS (
        SELECT CASE WHEN key ~ '^[0-9]{1,5}([.][0-9]{1,9})?$' THEN key::double precision END AS days,
            CASE WHEN jsonb_typeof(value) = 'number' THEN value::double precision END AS probability
        FROM jsonb_each(CASE WHEN jsonb_typeof(horizons) = 'object' THEN horizons ELSE '{}' END)
    ),
    rising AS (
        SELECT days, max(probability) OVER (ORDER BY days) AS probability FROM named
        WHERE days > 0 AND probability >= 0
    ),
    steps AS (
        SELECT days, probability, (days + lag(days, 1, 0) OVER (ORDER BY days)) / 2 AS middle,
            probability - lag(probability, 1, 0) OVER (ORDER BY days) AS mass
        FROM rising
    )
    SELECT sum(middle * mass) / nullif(max(probability), 0),
        sum(middle * mass) / nullif(max(probability), 0) / max(days)
    FROM steps
$function$
"""

# The product of the contract that stands worst, of those whose product is known.
PRODUCT = """
CREATE FUNCTION case_product(of_user text, standings jsonb) RETURNS text LANGUAGE sql STABLE AS $function$
    SELECT stated.product
    FROM contract_products AS stated
    LEFT JOIN jsonb_array_elements(CASE WHEN jsonb_typeof(standings) = 'array' THEN standings ELSE '[]' END)
        WITH ORDINALITY AS standing (it, place) ON coalesce(it ->> 'contract_id', '') = stated.contract_id
    WHERE stated.user_id = of_user AND stated.product IS NOT NULL
    ORDER BY place NULLS LAST, stated.occurred_at DESC, stated.contract_id LIMIT 1
$function$
"""

# What an alert's transition does to its case is said by `desk.cases.life` too, for people and tests; the two agree.
# A session keeps the plans that it made while tables were empty, when reading all of one looks cheapest: hence no such
# plans, or the first backlog of alerts would take ever longer.
KEEP_CASE = """
CREATE FUNCTION keep_case() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    found cases;
    latest record;
    of_product text;
    done text;
    until_now text;
    afterwards text;
    codes text[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM promises WHERE alert_id = OLD.alert_id;
        DELETE FROM case_actions WHERE alert_id = OLD.alert_id;
        DELETE FROM cases WHERE alert_id = OLD.alert_id;
        RETURN NULL;
    END IF;
    SELECT * INTO found FROM cases WHERE alert_id = NEW.alert_id FOR UPDATE;
    SELECT user_scores.sequence, user_scores.score, user_scores.expected_loss, lead.lead_days, lead.lead_share
    INTO latest FROM user_scores, case_lead(user_scores.horizons) AS lead WHERE user_scores.user_id = NEW.user_id;
    IF latest.sequence IS NULL OR latest.sequence < NEW.sequence THEN
        latest.sequence := NEW.sequence;
        latest.score := NEW.score;
        latest.expected_loss := NEW.expected_loss;
    END IF;
    codes := ARRAY(
        SELECT reason ->> 'code' FROM jsonb_array_elements(NEW.reasons) WITH ORDINALITY AS reasons (reason, place)
        WHERE reason ->> 'code' IS NOT NULL ORDER BY place
    );
    of_product := coalesce(case_product(NEW.user_id, NEW.contracts), found.product);
    IF found.alert_id IS NULL THEN
        INSERT INTO cases (alert_id, user_id, status, level, highest_level, product, reason_codes, sequence, score,
            expected_loss, lead_days, priority, opened_at)
        VALUES (NEW.alert_id, NEW.user_id, 'open', greatest(NEW.level, NEW.highest_level), NEW.highest_level,
            of_product, codes, latest.sequence, latest.score, latest.expected_loss,
            latest.lead_days, latest.expected_loss * latest.lead_share, NEW.opened_at)
        RETURNING * INTO found;
        INSERT INTO case_actions (action_id, alert_id, user_id, action, status_to, level, product, actor, at, version)
        VALUES (gen_random_uuid(), NEW.alert_id, NEW.user_id, 'open', 'open', found.level, of_product, 'foreshock',
            now(), 1);
        IF NEW.cleared_at IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    IF NEW.cleared_at IS NOT NULL AND found.alert_cleared_at IS NULL THEN
        done := 'clear';
    ELSIF NEW.cleared_at IS NULL AND NEW.highest_level > found.highest_level THEN
        done := 'escalate';
    END IF;
    until_now := found.status;
    afterwards := CASE
        WHEN done = 'clear' AND until_now = 'open' AND found.first_touched_at IS NULL THEN 'closed'
        WHEN done = 'escalate' AND until_now = 'snoozed' THEN found.snoozed_from
        WHEN done = 'escalate' AND until_now = 'closed'
            AND found.closed_as NOT IN ('written_off', 'handed_over') THEN 'open'
        ELSE until_now
    END;
    UPDATE cases SET
        user_id = NEW.user_id, level = NEW.level, highest_level = NEW.highest_level, reason_codes = codes,
        product = of_product, sequence = latest.sequence,
        score = latest.score, expected_loss = latest.expected_loss, lead_days = latest.lead_days,
        priority = latest.expected_loss * latest.lead_share, opened_at = NEW.opened_at,
        alert_cleared_at = NEW.cleared_at, status = afterwards,
        snoozed_until = CASE WHEN afterwards = 'snoozed' THEN snoozed_until END,
        snoozed_from = CASE WHEN afterwards = 'snoozed' THEN snoozed_from END,
        closed_at = CASE WHEN afterwards = 'closed' THEN coalesce(closed_at, now()) END,
        closed_as = CASE WHEN afterwards = 'closed' THEN coalesce(closed_as, 'cured') END,
        review_of = CASE WHEN done IS DISTINCT FROM 'escalate' AND afterwards <> 'closed' THEN review_of END,
        review_by = CASE WHEN done IS DISTINCT FROM 'escalate' AND afterwards <> 'closed' THEN review_by END,
        version = version + (done IS NOT NULL)::integer, updated_at = now()
    WHERE alert_id = NEW.alert_id;
    IF done IS NOT NULL THEN
        INSERT INTO case_actions
            (action_id, alert_id, user_id, action, status_from, status_to, level, product, actor, at, details, version)
        VALUES (gen_random_uuid(), NEW.alert_id, NEW.user_id, done, until_now, afterwards, NEW.level, of_product,
            'foreshock', now(),
            CASE WHEN afterwards = 'closed' AND until_now <> 'closed' THEN '{{"closed_as": "cured"}}'::jsonb
                ELSE '{{}}'::jsonb END, found.version + 1);
    END IF;
    RETURN NULL;
END
$function$
"""

KEEP_ACTIONS = """
CREATE FUNCTION keep_case_actions() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.published_at IS NULL AND NEW.published_at IS NOT NULL
            AND to_jsonb(OLD) - 'published_at' = to_jsonb(NEW) - 'published_at'
        THEN
            RETURN NEW;
        END IF;
    -- Deeper than this trigger alone: their alert is deleted, since its user is forgotten.
    ELSIF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'case_actions: rows are only ever added, and go with their alert when its user is forgotten'
        USING ERRCODE = 'integrity_constraint_violation';
END
$function$
"""

TELL = """
CREATE FUNCTION tell_case() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.version <> OLD.version THEN
        IF octet_length(NEW.alert_id) <= 200 THEN
            PERFORM pg_notify('desk_cases', NEW.alert_id);
        END IF;
    END IF;
    RETURN NULL;
END
$function$
"""

TRIGGERS = (
    "CREATE TRIGGER keep_case AFTER INSERT OR UPDATE OR DELETE ON alerts FOR EACH ROW EXECUTE FUNCTION keep_case()",
    "CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON case_actions FOR EACH ROW EXECUTE FUNCTION keep_case_actions()",
    "CREATE TRIGGER keep_all BEFORE TRUNCATE ON case_actions FOR EACH STATEMENT EXECUTE FUNCTION keep_case_actions()",
    "CREATE TRIGGER tell AFTER INSERT OR UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION tell_case()",
)

# Alerts that were there before get their cases.
FILL = "UPDATE alerts SET alert_id = alert_id"

FUNCTIONS = (
    "make_user_events_month(date, text)",
    "keep_case()",
    "keep_case_actions()",
    "tell_case()",
    "case_product(text, jsonb)",
    "case_lead(jsonb)",
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statement in (
        *EVENTS,
        MAKE_MONTH.format(schema=schema, lock=LOCK_KEY),
        CASES,
        ACTION_ROWS,
        PROMISES,
        VIEWS,
        *INDICES,
        LEAD,
        PRODUCT,
        KEEP_CASE.format(schema=schema),
        KEEP_ACTIONS,
        TELL,
        *TRIGGERS,
    ):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(FILL)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_case ON alerts")
    op.execute("DROP VIEW taken_events")
    op.execute("DROP TABLE user_events, forgotten_users, cases, case_actions, promises, saved_views")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
