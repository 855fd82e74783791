"""Every metric, defined once: collectors export these, and `foreshock docs write` makes docs/metrics.md of them."""

from __future__ import annotations

from stream.telemetry.metric import Metric, Source

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Bounds of delays: from one small batch to a backlog of an hour."""

BATCH_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
REQUEST_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
PROBABILITIES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)

LABELS: dict[str, str] = {
    "application": "`application_id`; one value",
    "chore": "what the desk does by itself: `woken`, `decided`, `renewed`, `assigned`, `published`",
    "bound": "of an interval: `estimate`, `low`, `high`",
    "kind": "of an event: `repayments`, `transactions`, `activity`, `profiles`",
    "level": "of an alert: `LOW`, `MEDIUM`, `HIGH`",
    "model": "fingerprint of the bundle; one value per process",
    "month": "`YYYY-MM` of scores whose horizon has passed; as many as the report covers",
    "outcome": "of an event: `scored`, `already_scored`, `refused`, `forgotten`; of a try to deliver a message: "
    "`delivered`, `refused`, `unavailable`, `gone`, `dead`; of a try to sign in: `accepted`, `refused`, `limited`",
    "part": "`worker`, `sink`, `webhooks` or `desk`",
    "partition": "number of a partition; at most `partitions` values",
    "policy": "version of the alert policy; one value per process",
    "reason": "[refusal code](topics.md#why-an-input-was-refused); a fixed list",
    "route": "method and path of a route as the code has it, `none` where no route takes it; as many as the desk has",
    "status": "class of an answer's status: `2xx`, `3xx`, `4xx`, `5xx`",
    "stage": "a stage of the worker's loop; a fixed list",
    "table": "what a record becomes in the database: `scores`, `alerts`, `contracts`, `dead_letters`, `products`, "
    "`events`",
    "topic": "a topic that the part reads: four of a worker, eight of the sink, two of who delivers webhooks",
    "transition": "`opened`, `escalated`, `cleared`",
    "variable": "an input of the model or the score; as many as the bundle has",
    "webhook": "name of a webhook; as many as were added",
    "version": "of Foreshock; one value per process",
}
"""What each label holds, and how many values it may have. None holds a user, a contract or an event."""

COMMITTING: tuple[Source, ...] = ("worker", "sink", "webhooks")
ALL: tuple[Source, ...] = (*COMMITTING, "desk")
WITH_DATABASE: tuple[Source, ...] = ("sink", "webhooks", "desk")

# One metric is a few lines of text, not one line for each argument.
# fmt: off

# Whether it works

INFO = Metric(
    "foreshock_info", "gauge", "always 1",
    "The part that answers, its application and its version.",
    "two versions for longer than an update takes: some processes were not restarted.",
    "Restart those that are behind.",
    labels=("part", "application", "version"), sources=ALL,
)
MODEL_INFO = Metric(
    "foreshock_model_info", "gauge", "always 1",
    "The model and the alert policy in use.",
    "two values of `model` or `policy` among the workers of one application: users are scored or warned by different "
    "rules.",
    "Give all workers the same bundle and settings. A worker with another model refuses the states and ends.",
    labels=("model", "policy"),
)
LIVE = Metric(
    "foreshock_live", "gauge", "0 or 1",
    "What `/livez` answers.",
    "0: it has work and commits nothing, its event loop hangs, or it is about to end.",
    "Where nothing restarts it, restart it; read its log, and the reason at `/livez`.",
    sources=ALL,
)
READY = Metric(
    "foreshock_ready", "gauge", "0 or 1",
    "What `/readyz` answers.",
    "0 for minutes: no partitions, states that are not read yet, or a database that is away or not upgraded.",
    "Read the reason at `/readyz`.",
    sources=ALL,
)
CHECKPOINT_AGE = Metric(
    "foreshock_checkpoint_age_seconds", "gauge", "seconds",
    "How long nothing was committed while there was something to read or commit; 0 otherwise, also while states are "
    "read "
    "and while brokers or the database are away. `/livez` fails at `liveness_timeout_s` and a commit interval.",
    "more than a few `commit_interval_s`: commits are slow or stuck.",
    "Look at `foreshock_commit_seconds` (sink: `foreshock_sink_batch_seconds`) and at the brokers' health.",
    sources=COMMITTING,
)
LOOP_STALLED = Metric(
    "foreshock_loop_stalled_seconds", "gauge", "seconds",
    "How long the event loop has not turned, looked at once a second.",
    "above 5: the process is starved of processor time or memory, its disk is stuck, or it hangs. `/livez` fails at "
    "half of "
    "`stall_timeout_s`; at all of it the process ends and logs where it was.",
    "Give it a core of its own; look for swapping; read the log.",
    sources=ALL,
)
BROKER_UNREACHABLE = Metric(
    "foreshock_broker_unreachable_seconds", "gauge", "seconds",
    "How long no broker has answered; 0 while one does.",
    "above 0: brokers or the network are away. At `broker_timeout_s` the process ends.",
    "Look at the brokers; nothing is lost meanwhile.",
    sources=COMMITTING,
)

# What comes in

EVENTS = Metric(
    "foreshock_events_total", "counter", "events",
    "Input records by what became of them, each once. `already_scored` are read again after a crash or a reset of "
    "offsets, "
    "`forgotten` are tombstones.",
    "no growth of `scored` while `foreshock_lag_records` is above 0: scoring stands still. `already_scored` that "
    "grow for "
    "long: offsets were reset, or a topic was made anew.",
    "See the runbook on lag; after a topic was made anew, start under another `application_id`.",
    labels=("outcome",),
)
DEAD_LETTERS = Metric(
    "foreshock_dead_letters_total", "counter", "records",
    "Input records that were refused and became dead letters, by refusal code. `duplicate_event_id` are repeats.",
    "a sudden rise: a producer sends what its topic's contract does not allow, or sends everything twice.",
    "Read some of the topic `dead-letters` and tell the producer; events that were refused are missing from scores.",
    labels=("reason",),
)
LATE = Metric(
    "foreshock_late_events_total", "counter", "events",
    "Scored events that came after a later one of the same user and kind.",
    "a rising share: a producer is delayed or its clock is wrong. Scores are right for the order in which events came.",
    "Compare record times with event times by topic.",
)
UNMERGED = Metric(
    "foreshock_merged_without_waiting_total", "counter", "events",
    "Events that were scored although another topic of their partition lagged, after `merge_idle_ms`.",
    "growth: one input topic lags, or its leader is down; events of several topics may be scored out of event time.",
    "Look at `foreshock_lag_records` by topic and at that topic's leader.",
)
LAG = Metric(
    "foreshock_lag_records", "gauge", "records",
    "Records that the broker would still give a worker after the last one that it polled.",
    "growth for minutes: more comes in than is scored, or a partition is stuck.",
    "Add workers, up to one per partition; where only one partition lags, see the runbook.",
    labels=("topic", "partition"),
)
WATERMARK = Metric(
    "foreshock_watermark_timestamp_seconds", "gauge", "seconds since 1970",
    "Event time that a partition has come to, in this process; -1 where too little was seen. The watchdog goes by it.",
    "far behind the other partitions: its producers are delayed, or hardly anything arrives on it.",
    "Look at the partition's producers and lag.",
    labels=("partition",),
)

# How fast

EVENT_TO_SCORE = Metric(
    "foreshock_event_to_score_seconds", "histogram", "seconds",
    "From the time of an event's record (its producer's clock, or the broker's where the topic has "
    "`message.timestamp.type=LogAppendTime`) until the broker has acknowledged its score; readers of committed "
    "records see "
    "it up to a `commit_interval_s` later. Of each event that was passed to the scorer.",
    "a 99th percentile above what readers need. Records that carry an old time (a backlog, a simulation) count as "
    "slow.",
    "Look at the lag, at `foreshock_poll_to_score_seconds` and at stages: waiting in the topic, in the worker, or "
    "both.",
    bounds=SECONDS,
)
POLL_TO_SCORE = Metric(
    "foreshock_poll_to_score_seconds", "histogram", "seconds",
    "From when a worker took up the poll that released an event until the broker has acknowledged its score: the "
    "worker's own "
    "share of the delay.",
    "a median above a second: polls are as large as they may be, or the broker is slow to acknowledge.",
    "Look at `foreshock_stage_seconds_total`: `publish` points to the broker, `score` to the processor.",
    bounds=SECONDS,
)
STAGE = Metric(
    "foreshock_stage_seconds_total", "counter", "seconds",
    "Time by stage of the worker's loop. `poll` is waiting; `changelog` and `commit` run beside the others.",
    "`poll` near 0 of a second: the worker is at its limit.",
    "Add workers, or a faster core ([performance](performance.md)).",
    labels=("stage",),
)
COMMIT = Metric(
    "foreshock_commit_seconds", "histogram", "seconds",
    "Duration of the commit of one partition, from when its last rows were sent.",
    "a median above 0.5: brokers are slow to write or to replicate; checkpoints fall behind `commit_interval_s`.",
    "Look at the brokers' disks and at under-replicated partitions.",
    bounds=BATCH_SECONDS,
)

# States

USERS = Metric(
    "foreshock_users", "gauge", "users",
    "Users whose state is in memory.",
    "a jump down with no change of partitions: states were lost or forgotten. Steady growth: memory will run out.",
    "Set `state_dir` and `resident_users` before memory is short.",
)
PARTITIONS_OWNED = Metric(
    "foreshock_partitions_owned", "gauge", "partitions",
    "Partitions that this worker scores; 0 while they are being taken over.",
    "the sum over workers below `partitions` for minutes: some users are not scored. 0: a spare worker.",
    "Look at the group's members and their logs.",
)
PARTITIONS_RESTORED = Metric(
    "foreshock_partitions_restored", "gauge", "partitions",
    "Partitions whose states are complete, so that their events may be scored.",
    "below `foreshock_partitions_owned` for long: states are being read back, or their changelog cannot be read.",
    "Look at `foreshock_restore_remaining_records`.",
)
RESTORE_REMAINING = Metric(
    "foreshock_restore_remaining_records", "gauge", "records",
    "Offsets of the changelog that are still to be read before the partition's events may be scored; 0 when done. "
    "Offsets "
    "that compaction emptied count, so it falls faster than rows are read.",
    "standing still above 0: the changelog is not readable.",
    "Look at its leader; `state_dir` or `standby_replicas` make it short.",
    labels=("partition",),
)
RESTORED_ROWS = Metric(
    "foreshock_restored_rows_total", "counter", "rows",
    "Rows that were read from the changelog.",
    "growth outside restarts: partitions move back and forth between workers.",
    "Look for workers that die or are too slow for `session_timeout_s`.",
)
ROWS_EVICTED = Metric(
    "foreshock_rows_evicted_total", "counter", "rows",
    "Rows that left memory for the disk, with `resident_users`.",
    "a rate near that of events: too few users fit into memory, each event reads the disk.",
    "Raise `resident_users`, or add workers.",
)
ROWS_LOADED = Metric(
    "foreshock_rows_loaded_total", "counter", "rows",
    "Rows that were read from the disk because their user's next event came.",
    "as for `foreshock_rows_evicted_total`.",
    "As for `foreshock_rows_evicted_total`.",
)
CONTRACTS_EVICTED = Metric(
    "foreshock_contracts_evicted_total", "counter", "contracts",
    "Contracts that left a user's row to make room for another.",
    "steady growth: borrowers have more contracts at once than a row holds.",
    "See [what is kept of each](contracts.md).",
)

# What goes out

SCORE = Metric(
    "foreshock_score", "histogram", "probability",
    "Scores: probabilities of default within the headline horizon, one for each scored event.",
    "its shape moves within days: inputs or customers have changed, or a field is missing.",
    "Run `foreshock drift`; look at dead letters and at the mix of topics.",
    bounds=PROBABILITIES,
)
SCORE_PSI = Metric(
    "foreshock_score_psi", "gauge", "index",
    "Population stability index of the scores of this worker's users, at most one for each in each half of a window of "
    "the last 12 to 24 hours since it started, against the drift reference of its bundle. Not there without a "
    "reference, or with fewer than 200 scores.",
    "above 0.1: scores have moved from where the model was trained; above 0.25 by much. Borrowers who have more events "
    "are in a short window more often than in the reference, so look at how it changes, too.",
    "Run `foreshock drift`, which compares inputs as well; see the runbook on drift.",
    labels=("model",),
)
SCORE_PSI_USERS = Metric(
    "foreshock_score_psi_users", "gauge", "scores",
    "Scores in the window of `foreshock_score_psi`; 0 without a reference.",
    "0 while events are scored: the bundle has no drift reference.",
    "Make one: `foreshock reference`.",
)
INPUT_PSI = Metric(
    "foreshock_input_psi", "gauge", "index",
    "Population stability index of an input of the model, a missing value and an unseen category among its bins: of "
    "one random event of each of this worker's users and kind, in each half of a window of the last 14 to 28 days, "
    "against the drift reference of its bundle. With `state_dir` the window goes on after a restart. Not there without "
    "a reference, with fewer than 200 users, or before the events are of about a week.",
    "above 0.25: what comes in is not what the model was trained with. Many at once, or one within a day: a feed, with "
    "another unit, a field that is missing, a new category. One, over weeks: other customers.",
    "Look at the feed first, then run `foreshock drift`; see the runbook on inputs.",
    labels=("model", "variable"),
)
INPUT_PSI_USERS = Metric(
    "foreshock_input_psi_users", "gauge", "users",
    "Users in the window of `foreshock_input_psi`, which rests on one event of each, once in each half of the window "
    "and after each restart; 0 without a reference.",
    "0 of a kind while its events are scored: the bundle has no drift reference.",
    "Make one: `foreshock reference`.",
    labels=("kind",),
)
TRANSITIONS = Metric(
    "foreshock_alert_transitions_total", "counter", "transitions",
    "Alerts that opened, escalated or cleared. `level` is the new one, of a cleared alert the one that it had.",
    "many more openings than the alert budget: a change of inputs, of policy, or a real wave of defaults.",
    "Compare with the score's shape and with `foreshock drift`; see [alerts](alerts.md) on the budget.",
    labels=("transition", "level"),
)
MISSED = Metric(
    "foreshock_missed_instalments_total", "counter", "instalments",
    "Instalments that the watchdog found unpaid past their grace days and published as missed.",
    "a jump: payments are not reported (a feed is down) rather than not made.",
    "Look at the topic `repayments` and its producer before alerts are worked.",
)

# The sink

SINK_LAG = Metric(
    "foreshock_sink_lag_records", "gauge", "records",
    "Records that the broker would still give the sink after the last one that it polled.",
    "growth for minutes: the database is slower than the workers; tables are behind the topics.",
    "Look at `foreshock_sink_batch_seconds` and the database; add a sink, up to one per partition.",
    labels=("topic", "partition"), sources=("sink",),
)
SINK_RECORDS = Metric(
    "foreshock_sink_records_total", "counter", "records",
    "Records that were written into the database; one that is written again after a restart counts again.",
    "no growth while workers score: the sink is stuck.",
    "See the runbook on the sink.",
    labels=("table",), sources=("sink",),
)
SINK_BATCH = Metric(
    "foreshock_sink_batch_seconds", "histogram", "seconds",
    "Duration of writing one poll into the database, without pauses while it is away.",
    "a median above a second: the database is slow, waits for locks, or its indexes do not fit into memory.",
    "Look at long transactions and at the disk of the database.",
    sources=("sink",), bounds=BATCH_SECONDS,
)
SINK_RETRIES = Metric(
    "foreshock_sink_retries_total", "counter", "attempts",
    "Attempts to write a batch that failed because the database was not available.",
    "growth: the database refuses or drops connections.",
    "Look at the database; nothing is lost while topics keep the records.",
    sources=("sink",),
)
SINK_SKIPPED = Metric(
    "foreshock_sink_skipped_records_total", "counter", "records",
    "Records of the output topics that are none of ours, or that no table takes; each is named in the log.",
    "any growth: somebody else writes into the output topics.",
    "Read the log for topic, partition and offset; take the right to write away.",
    sources=("sink",),
)
DATABASE_UNREACHABLE = Metric(
    "foreshock_database_unreachable_seconds", "gauge", "seconds",
    "How long the database has not answered; 0 while it does. Asked every ten seconds.",
    "above 30: the database or the network is away, or a password is wrong.",
    "Read the reason at `/readyz`.",
    sources=WITH_DATABASE,
)
SCHEMA_CURRENT = Metric(
    "foreshock_database_schema_current", "gauge", "0 or 1",
    "Whether the database is at the revision that this release needs.",
    "0: it was not upgraded, or a newer release has upgraded it.",
    "Run `foreshock db upgrade`, or update this part.",
    sources=WITH_DATABASE,
)

# Webhooks

WEBHOOK_LAG = Metric(
    "foreshock_webhook_lag_records", "gauge", "records",
    "Records of the topics that are still to be taken into the table of deliveries.",
    "growth for minutes: the database is away or slow, or no process runs.",
    "Read the reason at `/readyz`; nothing is lost while the topics keep the records.",
    labels=("topic", "partition"), sources=("webhooks",),
)
WEBHOOK_SKIPPED = Metric(
    "foreshock_webhook_skipped_records_total", "counter", "records",
    "Records of these topics that are none of ours; each is named in the log.",
    "any growth: somebody else writes into the output topics.",
    "Read the log for topic, partition and offset; take the right to write away.",
    sources=("webhooks",),
)
WEBHOOK_TRIES = Metric(
    "foreshock_webhook_tries_total", "counter", "tries",
    "Tries to deliver a message, by what came of them. `dead` is the last try of a message that is given up.",
    "more than one in ten not `delivered`: the receiver is down, cannot be reached, or refuses messages.",
    "`foreshock webhooks list` shows each receiver's last error.",
    labels=("webhook", "outcome"), sources=("webhooks",),
)
WEBHOOK_SECONDS = Metric(
    "foreshock_webhook_try_seconds", "histogram", "seconds",
    "Duration of a try, from the look-up of the receiver's name to the end of its answer.",
    "a median above a second: a receiver works before it answers.",
    "Have it answer first and work afterwards; raise `webhook_concurrency` meanwhile.",
    sources=("webhooks",), bounds=BATCH_SECONDS,
)
WEBHOOK_PENDING = Metric(
    "foreshock_webhook_pending_messages", "gauge", "messages",
    "Messages that are to be delivered; of all processes, as each of them sees the table.",
    "growth for minutes: the receiver does not keep up, or is down.",
    "See `foreshock_webhook_tries_total` by outcome.",
    labels=("webhook",), sources=("webhooks",),
)
WEBHOOK_OLDEST = Metric(
    "foreshock_webhook_oldest_pending_seconds", "gauge", "seconds",
    "Age of the oldest message that is to be delivered; 0 where there is none.",
    "above an hour: the receiver is down, or refuses this message.",
    "`foreshock webhooks deliveries NAME --state pending`.",
    labels=("webhook",), sources=("webhooks",),
)
WEBHOOK_DEAD = Metric(
    "foreshock_webhook_dead_messages", "gauge", "messages",
    "Messages that were given up, and are kept for `webhook_keep_days`.",
    "above 0: a receiver does not know of them.",
    "Mend the receiver, then `foreshock webhooks replay NAME --dead`.",
    labels=("webhook",), sources=("webhooks",),
)

# The desk

DESK_PROCESSES = Metric(
    "foreshock_desk_processes", "gauge", "processes",
    "Processes of this desk that run, of `desk_workers`.",
    "below `desk_workers` for minutes: processes end as soon as they are started.",
    "Read the log: it says why each ended.",
    sources=("desk",),
)
DESK_MEMORY = Metric(
    "foreshock_desk_resident_memory_bytes", "gauge", "bytes",
    "Memory of these processes together; `process_*` are of the one that tells, which with several is none of them.",
    "steady growth over days, or near the limit of the container.",
    "Restart it, and report it; `desk_workers` fewer take less.",
    sources=("desk",),
)
DESK_REQUEST_SECONDS = Metric(
    "foreshock_desk_request_seconds", "histogram", "seconds",
    "From a request's arrival in the process to the end of its answer, of pages and of the API. Streams of news are "
    "not in it.",
    "a 99th percentile of pages above 0.3, or of `GET /v1/users/{user_id}/score` above 0.01; any growth of `5xx`.",
    "Of all routes: the database is slow or `desk_workers` too few. Of one: its query; see the database's slow "
    "statements. Of `5xx`: read the log.",
    labels=("route", "status"), sources=("desk",), bounds=REQUEST_SECONDS,
)
DESK_SIGN_INS = Metric(
    "foreshock_desk_sign_ins_total", "counter", "tries",
    "Tries to sign in, by what came of them. `limited` were not looked at: too many from one address.",
    "many `refused`: somebody tries passwords, or the identity provider gives roles that the desk does not know.",
    "See the runbook on sign-ins.",
    labels=("outcome",), sources=("desk",),
)
DESK_LISTENERS = Metric(
    "foreshock_desk_listeners", "gauge", "pages",
    "Open pages that are told of changes as they happen.",
    "0 while people work: a proxy in front does not let streams through, and pages show old figures.",
    "Have the proxy not buffer `text/event-stream`.",
    sources=("desk",),
)
DESK_TURN = Metric(
    "foreshock_desk_turn_timestamp_seconds", "gauge", "seconds since 1970",
    "When a process of this desk last did all that happens by itself: promises, snoozes, priorities, publishing. One "
    "process of all desks does it; 0 where it was never one of these.",
    "the latest of all desks minutes ago: promises are not decided, or actions not published.",
    "Read the logs of the desks: the database or the brokers are away.",
    sources=("desk",),
)
DESK_CHORES = Metric(
    "foreshock_desk_chores_total", "counter", "chores",
    "What happened by itself: snoozes that ended, promises decided, cases brought up to a new score, cases given out, "
    "actions published.",
    "`published` that does not grow while people act: actions do not reach the topic `alert-actions`.",
    "Look at `foreshock_desk_turn_timestamp_seconds`, and whether the desk was given the brokers.",
    labels=("chore",), sources=("desk",),
)


# What `foreshock drift --metrics` writes


def _drift(name: str, unit: str, meaning: str, bad: str, do: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, meaning, bad, do, labels=("model", *labels), sources=("drift",))


DRIFT_PSI = _drift(
    "foreshock_drift_psi", "index",
    "Population stability index of a variable, recent window against reference.",
    "above `foreshock_drift_psi_critical`: the variable has moved; above 0.25 by much.",
    "See [drift](drift.md).", "variable",
)
DRIFT_CRITICAL = _drift(
    "foreshock_drift_psi_critical", "index",
    "Index that chance stays below in samples of this size.",
    "above 0.25: too few users to see anything.", "Widen the window.", "variable",
)
DRIFT_P_VALUE = _drift(
    "foreshock_drift_p_value", "probability",
    "Probability of such an index by chance, Holm-adjusted over all variables.",
    "below 0.05: the shift is not chance.", "As for `foreshock_drift_psi`.", "variable",
)
DRIFT_SHIFTED = _drift(
    "foreshock_drift_shifted_variables", "variables",
    "Variables whose shift is not chance.",
    "above 0: the model sees other data than it was trained for.", "Read the report; retrain where scores suffer.",
)
MATURED_SCORES = _drift(
    "foreshock_matured_scores", "scores",
    "Scores whose horizon has passed, at most one per user and month.",
    "below 1,000: too few to judge calibration and ranking.", "Wait, or widen the window.",
)
CALIBRATION_RATIO = _drift(
    "foreshock_calibration_ratio", "ratio",
    "Observed over expected defaults among matured scores.",
    "far from 1 with a small `foreshock_calibration_p_value`: scores are too low (above 1) or too high.",
    "Recalibrate or retrain before limits depend on it.",
)
CALIBRATION_P_VALUE = _drift(
    "foreshock_calibration_p_value", "probability",
    "Probability of such a difference between observed and expected defaults by chance.",
    "below 0.05: the calibration is off.", "As for `foreshock_calibration_ratio`.",
)
SCORE_MEASURES = {
    name: _drift(
        f"foreshock_score_{name}", "index",
        f"{words} of matured scores by their month, with a 95 % interval.",
        "the upper bound below the figure at training: the model ranks worse than it did.", "Retrain.", "month",
        "bound",
    )
    for name, words in (("auc", "AUC"), ("pr_auc", "Area under precision and recall"), ("ks", "Kolmogorov-Smirnov"))
}
ALERT_RATE = _drift(
    "foreshock_alerts_per_1000_users_month", "alerts",
    "Alerts that opened per 1,000 users and 30 days of the window.",
    "far from the alert budget.", "See [alerts](alerts.md).",
)
DRIFT_WINDOW_END = _drift(
    "foreshock_drift_window_end_timestamp_seconds", "seconds since 1970",
    "End of the window, event time.",
    "days behind: the report is not run any more.", "Look at the job that runs `foreshock drift`.",
)

GROUPS: dict[str, tuple[Metric, ...]] = {
    "Whether it works": (INFO, MODEL_INFO, LIVE, READY, CHECKPOINT_AGE, LOOP_STALLED, BROKER_UNREACHABLE),
    "What comes in": (EVENTS, DEAD_LETTERS, LATE, UNMERGED, LAG, WATERMARK, INPUT_PSI, INPUT_PSI_USERS),
    "How fast": (EVENT_TO_SCORE, POLL_TO_SCORE, STAGE, COMMIT),
    "States": (
        USERS, PARTITIONS_OWNED, PARTITIONS_RESTORED, RESTORE_REMAINING, RESTORED_ROWS, ROWS_EVICTED, ROWS_LOADED,
        CONTRACTS_EVICTED,
    ),
    "What goes out": (SCORE, SCORE_PSI, SCORE_PSI_USERS, TRANSITIONS, MISSED),
    "The sink": (
        SINK_LAG, SINK_RECORDS, SINK_BATCH, SINK_RETRIES, SINK_SKIPPED, DATABASE_UNREACHABLE, SCHEMA_CURRENT,
    ),
    "Webhooks": (
        WEBHOOK_LAG, WEBHOOK_SKIPPED, WEBHOOK_TRIES, WEBHOOK_SECONDS, WEBHOOK_PENDING, WEBHOOK_OLDEST, WEBHOOK_DEAD,
    ),
    "The desk": (
        DESK_PROCESSES, DESK_MEMORY, DESK_REQUEST_SECONDS, DESK_SIGN_INS, DESK_LISTENERS, DESK_TURN, DESK_CHORES,
    ),
    "Drift": (
        DRIFT_PSI, DRIFT_CRITICAL, DRIFT_P_VALUE, DRIFT_SHIFTED, MATURED_SCORES, CALIBRATION_RATIO,
        CALIBRATION_P_VALUE, *SCORE_MEASURES.values(), ALERT_RATE, DRIFT_WINDOW_END,
    ),
}
"""All metrics, in the order of docs/metrics.md."""

# fmt: on

METRICS: dict[str, Metric] = {metric.name: metric for group in GROUPS.values() for metric in group}
