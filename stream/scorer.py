"""From a batch of events to scores, alerts and new states: the pure heart of the worker and of replay.

No I/O and no clock. A batch is computed on copies of the rows concerned and written back to the slab at its end, so an
exception leaves the slab as it was. The results do not depend on how a stream is cut into batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS, categorical_columns, numeric_columns, time_columns
from events.types import KINDS, Event, Kind
from model.bundle import Bundle
from stream.alerts import CLEARED, Decision, advance
from stream.duplicates import find_repeats, id_hashes
from stream.explanation import Explainer
from stream.intake import Taken, dead_letter
from stream.outputs import DeadLetter
from stream.policy import AlertPolicy
from stream.publication import DecidedColumns, Moment, Publication
from stream.reasons import FACTS, Marks, update_facts
from stream.state import RECENT_IDS, WEIGHED_EVENTS, Rows, Slab
from stream.topics import Topics
from stream.watchdog import MISSED, InstalmentColumns, apply_repayments, instalment_columns, is_current
from stream.waves import wave_numbers, waves

KeyedValues = list[tuple[bytes, bytes]]


@dataclass
class Scored:
    """What a batch came to. `scores` and `alerts` are keys and JSON values by partition, in order."""

    scores: dict[int, KeyedValues] = field(default_factory=dict)
    alerts: dict[int, KeyedValues] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    touched: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Rows that changed: row number to partition and key."""
    counts: Counter[str] = field(default_factory=Counter)
    """`scored`, `already_scored` (read again after a crash), `duplicates`, `late`, and alerts by kind."""


@dataclass(frozen=True)
class Batch:
    """Admitted events as columns `[n]`, in order; `user` is the position of the event's row among the batch's rows."""

    taken: Sequence[Taken]
    user: NDArray[np.int64]
    kind_no: NDArray[np.int64]
    offset: NDArray[np.int64]
    occurred_ms: NDArray[np.int64]
    id_hash: NDArray[np.uint64]

    def only(self, kept: NDArray[np.bool_]) -> Batch:
        return Batch(
            [item for item, keep in zip(self.taken, kept, strict=True) if keep],
            self.user[kept],
            self.kind_no[kept],
            self.offset[kept],
            self.occurred_ms[kept],
            self.id_hash[kept],
        )


@dataclass(frozen=True)
class KindInputs:
    """Model inputs of the events of one kind, and where each stands in the batch's columns."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]
    marks: NDArray[np.uint8]
    instalments: InstalmentColumns | None
    position: NDArray[np.int64]
    """int64 `[n]` by event of the batch: its row in the arrays above; meaningless for events of other kinds."""


class Scorer:
    """Scores events with one bundle under one alert policy over one slab."""

    def __init__(self, bundle: Bundle, policy: AlertPolicy, slab: Slab, topics: Topics) -> None:
        self._bundle = bundle
        self._policy = policy
        self._slab = slab
        self._publication = Publication(bundle, policy, topics)
        self._explainer = Explainer(bundle, topics)

    def score(self, taken: Sequence[Taken]) -> Scored:
        """Score events that stand in the order in which each user's are to be applied."""
        scored = Scored()
        if not taken:
            return scored
        row_numbers, first, user = np.unique(self._locate(taken), return_index=True, return_inverse=True)
        rows = self._slab.gather(row_numbers)
        batch = self._admit(taken, user.astype(np.int64), rows, scored)
        if batch.taken:
            self._apply(batch, rows, row_numbers, scored)
        self._slab.scatter(row_numbers, rows)
        for number, position in zip(row_numbers.tolist(), first.tolist(), strict=True):
            scored.touched[number] = (taken[position].partition, taken[position].key)
        return scored

    def _locate(self, taken: Sequence[Taken]) -> NDArray[np.int64]:
        numbers = np.empty(len(taken), dtype=np.int64)
        partitions = np.array([item.partition for item in taken])
        for partition in np.unique(partitions):
            positions = np.flatnonzero(partitions == partition)
            numbers[positions] = self._slab.locate(
                int(partition), [taken[position].key for position in positions.tolist()]
            )
        return numbers

    def _admit(self, taken: Sequence[Taken], user: NDArray[np.int64], rows: Rows, scored: Scored) -> Batch:
        """Leave out what the rows already hold and what repeats; take the rest's offsets and ids into the rows."""
        everything = Batch(
            taken,
            user,
            np.array([item.kind_no for item in taken], dtype=np.int64),
            np.array([item.offset for item in taken], dtype=np.int64),
            np.array([item.occurred_ms for item in taken], dtype=np.int64),
            id_hashes([item.event.event_id for item in taken]),
        )
        fresh = everything.offset > rows["consumed_offset"][user, everything.kind_no]
        batch = everything if fresh.all() else everything.only(fresh)
        scored.counts["already_scored"] += len(taken) - len(batch.taken)
        np.maximum.at(rows["consumed_offset"], (batch.user, batch.kind_no), batch.offset)
        repeats = find_repeats(batch.user, batch.id_hash, rows["recent_ids"], rows["sequence"])
        if repeats.any():
            scored.dead_letters += [_repeat(batch.taken[position]) for position in np.flatnonzero(repeats).tolist()]
            scored.counts["duplicates"] += int(repeats.sum())
            batch = batch.only(~repeats)
        return batch

    def _apply(self, batch: Batch, rows: Rows, row_numbers: NDArray[np.int64], scored: Scored) -> None:
        size = len(batch.taken)
        numbers = wave_numbers(batch.user)
        in_waves = waves(numbers)
        sequence = rows["sequence"][batch.user] + numbers + 1
        moment = Moment(
            taken=batch.taken,
            sequence=sequence,
            attention=np.zeros(size, dtype=np.float32),
            readout=np.empty((size, self._bundle.readout_width), dtype=np.float32),
            facts=np.zeros(size, dtype=FACTS),
            reference_pd=np.empty(size, dtype=np.float32),
            days_past_due=np.full(size, np.nan, dtype=np.float32),
            missed=np.zeros(size, dtype=np.bool_),
        )
        inputs = self._inputs(batch)
        for wave in in_waves:
            self._step(batch, wave, inputs, rows, moment, scored)
        probabilities = self._bundle.score(moment.readout)
        headline = np.ascontiguousarray(probabilities[:, self._bundle.headline])
        partition = np.array([item.partition for item in batch.taken], dtype=np.int32)
        decided = DecidedColumns.empty(size)
        for wave in in_waves:
            user = batch.user[wave]
            before = rows["alert"][user]
            stated = moment.days_past_due[wave]
            # A missed instalment says how late that one is; an older one may be later, and it was not paid by this.
            days_past_due = np.where(moment.missed[wave], np.fmax(stated, before["days_past_due"]), stated)
            decision = advance(
                self._policy,
                before,
                headline[wave],
                days_past_due,
                batch.occurred_ms[wave],
                topic=batch.kind_no[wave].astype(np.uint8),
                partition=partition[wave],
                offset=batch.offset[wave],
            )
            rows["alert"][user] = decision.state
            decided.fill(wave, decision)
            self._note_alerts(batch, wave, decision, row_numbers, moment, headline, scored)
        self._publication.write_scores(moment, probabilities, decided, scored.scores)
        scored.counts["scored"] += size

    def _inputs(self, batch: Batch) -> dict[Kind, KindInputs]:
        inputs: dict[Kind, KindInputs] = {}
        for kind_no, kind in enumerate(KINDS):
            found = np.flatnonzero(batch.kind_no == kind_no)
            if not found.size:
                continue
            events: list[Event] = [batch.taken[position].event for position in found.tolist()]
            position = np.empty(len(batch.taken), dtype=np.int64)
            position[found] = np.arange(len(found))
            inputs[kind] = KindInputs(
                numeric=numeric_columns(kind, events, batch.occurred_ms[found]),
                categorical=categorical_columns(kind, events, self._bundle.vocabularies.get(kind, {})),
                marks=Marks.of(kind, events),
                instalments=instalment_columns(events) if kind == "repayments" else None,
                position=position,
            )
        return inputs

    def _step(
        self,
        batch: Batch,
        wave: NDArray[np.int64],
        inputs: dict[Kind, KindInputs],
        rows: Rows,
        moment: Moment,
        scored: Scored,
    ) -> None:
        """Take one wave into the rows and note what each event leaves behind."""
        for kind, columns in inputs.items():
            kind_no = KINDS.index(kind)
            at = wave[batch.kind_no[wave] == kind_no]
            if at.size:
                self._step_kind(kind, batch, at, columns, rows, moment, scored)
        user = batch.user[wave]
        network = rows["network"]
        for kind, readout in self._bundle.readout_slices.items():
            start = self._bundle.state_slices[kind].start
            moment.readout[wave, readout] = network[user, start : start + self._bundle.readout_widths[kind]]
        moment.facts[wave] = rows["facts"][user]
        moment.reference_pd[wave] = rows["reference_pd"][user]
        sequence = rows["sequence"][user]
        rows["recent_ids"][user, sequence % RECENT_IDS] = batch.id_hash[wave]
        weighed = rows["weighed"]
        slot = sequence % WEIGHED_EVENTS
        weighed["occurred_ms"][user, slot] = batch.occurred_ms[wave]
        weighed["offset"][user, slot] = batch.offset[wave]
        weighed["attention"][user, slot] = moment.attention[wave]
        weighed["kind"][user, slot] = batch.kind_no[wave]
        rows["sequence"][user] = sequence + 1

    def _step_kind(
        self,
        kind: Kind,
        batch: Batch,
        at: NDArray[np.int64],
        inputs: KindInputs,
        rows: Rows,
        moment: Moment,
        scored: Scored,
    ) -> None:
        """One event of `kind` for each of different users."""
        user, occurred_ms, position = batch.user[at], batch.occurred_ms[at], inputs.position[at]
        kind_no = KINDS.index(kind)
        previous_ms = rows["latest_ms"][user, kind_no]
        numeric = np.concatenate((inputs.numeric[position], time_columns(occurred_ms, previous_ms)), axis=1)
        part = self._bundle.state_slices[kind]
        state, moment.attention[at] = self._bundle.step(
            kind, numeric, inputs.categorical[position], np.ascontiguousarray(rows["network"][user, part])
        )
        rows["network"][user, part] = state
        rows["latest_ms"][user, kind_no] = np.maximum(previous_ms, occurred_ms)
        scored.counts["late"] += int((occurred_ms < previous_ms).sum())
        rows["facts"][user] = update_facts(kind, rows["facts"][user], numeric, inputs.marks[position], occurred_ms)
        if inputs.instalments is not None:
            columns = inputs.instalments.at(position)
            apply_repayments(rows, user, columns)
            stated = numeric[:, COLUMNS["repayments"].numeric.index("days_past_due")]
            moment.days_past_due[at] = np.where(is_current(rows, user, columns), 0, stated)
            moment.missed[at] = columns.code == MISSED
        if kind == "profiles":
            stated = numeric[:, COLUMNS["profiles"].numeric.index("origination_pd")]
            rows["reference_pd"][user] = np.where(np.isnan(stated), rows["reference_pd"][user], stated)

    def _note_alerts(
        self,
        batch: Batch,
        wave: NDArray[np.int64],
        decision: Decision,
        row_numbers: NDArray[np.int64],
        moment: Moment,
        headline: NDArray[np.float32],
        scored: Scored,
    ) -> None:
        """Explain and write the few rows of a wave whose alert changed."""
        if not decision.changed.size:
            return
        rises = decision.changed[decision.transition[decision.changed] != CLEARED]
        before = self._slab.gather(row_numbers[batch.user[wave[rises]]])["weighed"]
        explained = self._explainer.explain(moment, wave[rises], batch.user, before)
        for row in decision.changed:
            explanation = explained.get(int(wave[row]))
            kind = self._publication.write_alert(
                moment, int(wave[row]), decision, int(row), float(headline[wave[row]]), explanation, scored.alerts
            )
            scored.counts[f"alerts_{kind}"] += 1


def _repeat(item: Taken) -> DeadLetter:
    message = f"event_id {item.event.event_id!r} was already scored for this user among the last {RECENT_IDS} events"
    return dead_letter(item.record, "duplicate_event_id", message)
