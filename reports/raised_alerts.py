"""The alerts that workers would raise on a data set, with the users' histories: reasons are fitted and judged on them.

Runs in this process without a broker, and keeps the events of all users in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.calendar import UTC, Calendar
from events.columns import numeric_columns, occurred_ms
from events.contracts import initial_ledger, initial_standing
from events.instalments import with_missed_among
from events.repayments import apply_repayments, repayment_columns
from events.types import KINDS, Event
from model.bundle import Bundle
from stream.alerts.facts import Marks, initial_facts, update_facts
from stream.kafka.publisher import partition_of
from stream.outputs import Alert
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

EVENTS_PER_BATCH = 4_096


@dataclass(frozen=True, eq=False)
class RaisedAlert:
    """An alert that was opened or escalated, and the user's events up to and including the one that caused it."""

    alert: Alert
    events: Sequence[Event]


def raise_alerts(
    bundle: Bundle,
    settings: Settings,
    events: Iterable[Event],
    on_progress: Callable[[int, int], None] = lambda _events, _alerts: None,
) -> list[RaisedAlert]:
    """Every alert that opens or escalates over the events of any number of users, in order of event time.

    The watchdog's `missed` events are added as in serving. `on_progress` gets the number of events scored and of alerts
    raised so far.
    """
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(
        bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics, rules=settings.portfolio_rules()
    )
    calendar = settings.portfolio_rules().calendar
    histories: dict[str, list[Event]] = {}
    alerts: list[Alert] = []
    decode = msgspec.json.Decoder(Alert).decode
    scored = 0
    for batch in batches_of(with_missed_among(events, settings.grace_days, calendar), settings.partitions):
        for item in batch:
            histories.setdefault(item.event.user_id, []).append(item.event)
        for values in scorer.score(batch).alerts.values():
            alerts += [alert for _, value in values if (alert := decode(value)).kind != "cleared"]
        scored += len(batch)
        on_progress(scored, len(alerts))
    return [RaisedAlert(alert, histories[alert.user_id][: alert.sequence]) for alert in alerts]


def drawn(alerts: Sequence[RaisedAlert], number: int, seed: int) -> list[RaisedAlert]:
    """At most `number` of them, drawn at random, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(alerts))[:number]
    return [alerts[position] for position in sorted(chosen.tolist())]


class Situation(NamedTuple):
    """What a row knows of one user when an alert is explained: FACTS `[1]`, STANDING `[1]` and the day, int64 `[1]`."""

    facts: NDArray[np.void]
    standing: NDArray[np.void]
    today: NDArray[np.int64]


def situation_after(events: Sequence[Event], calendar: Calendar = UTC) -> Situation:
    """The situation of one user after their events, in order of arrival."""
    facts, standing, ledger = initial_facts(1), initial_standing(1), initial_ledger(1)
    columns = {}
    for kind in KINDS:
        of_kind = [event for event in events if kind == event.KIND]
        times = occurred_ms(of_kind)
        numeric = numeric_columns(kind, of_kind, times)[:, None]
        columns[kind] = iter(zip(numeric, Marks.of(kind, of_kind)[:, None], times[:, None], strict=True))
    today = np.zeros(1, dtype=np.int64)
    for event in events:
        numeric, marks, times = next(columns[event.KIND])
        day = calendar.days_of(times)
        today = np.maximum(today, day)
        applied = None
        if event.KIND == "repayments":
            applied = apply_repayments(standing, ledger, repayment_columns([event], times), day, today)
        facts = update_facts(event.KIND, facts, numeric, marks, day, applied)
    return Situation(facts, standing, today)


def batches_of(events: Iterable[Event], partitions: int) -> Iterator[list[Taken]]:
    """Events in batches, as a worker takes them from topics."""
    offsets = [0] * len(KINDS)
    batch: list[Taken] = []
    for event in events:
        kind_no = KINDS.index(event.KIND)
        key = event.user_id.encode()
        at_ms = round(event.occurred_at.timestamp() * 1000)
        partition = partition_of(key, partitions)
        batch.append(Taken(event.KIND, kind_no, partition, offsets[kind_no], key, at_ms, event, None))
        offsets[kind_no] += 1
        if len(batch) == EVENTS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
