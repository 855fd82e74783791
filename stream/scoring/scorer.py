"""From a batch of events to scores, alerts and new states, for the worker and for replay. No I/O and no clock.

Rows are changed in place in the slab. An exception leaves a batch half applied, and a caller that catches one must not
write the slab to the changelog. The results do not depend on how a stream is cut into batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.columns import (
    COLUMNS,
    CONTRACT_COLUMNS,
    CONTRACT_PLACES,
    GAP_COLUMN,
    Vocabulary,
    ages_days,
    categorical_columns,
    gap_days,
    numeric_inputs,
)
from events.contract_columns import contract_columns
from events.contracts import currency_code, currency_of, find_contract, id_words, places_used
from events.credit_limits import STATES_LIMITS, StatedLimits, apply_limits, credit_limits
from events.repayments import RepaymentColumns, apply_repayments, repayment_columns
from events.types import KINDS, Event, Kind
from events.waves import wave_numbers
from model.bundle import Bundle, pieces
from stream.alerts.facts import Marks, update_facts
from stream.alerts.policy import AlertPolicy
from stream.alerts.state_machine import CLEARED, Decision, advance
from stream.outputs import LEVELS, AlertKind, ContractStanding, DeadLetter, Explanation, Level
from stream.portfolio import PortfolioRules
from stream.scoring.borrowers import Borrowers, contracts_at
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.duplicates import find_repeats, id_hashes
from stream.scoring.encoding import OutputEncoder, ScoredColumns
from stream.scoring.explanation import Explainer
from stream.scoring.forgetting import is_forgetting
from stream.scoring.intake import Taken
from stream.scoring.waves import Block, Wave, waves
from stream.state.row import RECENT_IDS, WEIGHED_EVENT, WEIGHED_EVENTS, Rows
from stream.state.slab import Slab
from stream.structured import put_floats, put_records, take_floats, take_records
from stream.topics import Topics

KeyedValues = list[tuple[bytes, bytes]]

_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class ScoredInputs:
    """What the model was given of a batch's events of one kind, in any order: `row` int64 `[n]` are the numbers of the
    users' rows, `numeric` float32 and `categorical` int64 `[n, columns]` as `events.columns` has them."""

    kind_no: int
    row: NDArray[np.int64]
    occurred_ms: NDArray[np.int64]
    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]


@dataclass
class Scored:
    """The results of a batch. `scores` and `alerts` are keys and JSON values by partition, in order.

    `forgotten` are users to be forgotten, of whom both topics get a tombstone: keys and the places of the records that
    asked for it, by partition. Where there are any, nothing was scored.
    """

    scores: dict[int, KeyedValues] = field(default_factory=dict)
    alerts: dict[int, KeyedValues] = field(default_factory=dict)
    forgotten: dict[int, list[tuple[bytes, str]]] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    touched: NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)
    """Numbers of the rows that changed, in any order, with repeats."""
    told: list[NDArray[np.int64]] = field(default_factory=list)
    """Numbers of the rows of whose contracts an event has told, in parts."""
    counts: Counter[str] = field(default_factory=Counter)
    """`scored`, `already_scored` (read again after a crash), `duplicates`, `late`, `forgotten`, `contracts_evicted`
    (made room for another), `other_currency`, and alerts by kind."""
    headline: list[NDArray[np.float32]] = field(default_factory=list)
    """Scores at the headline horizon, in any order, in parts."""
    scored_rows: list[NDArray[np.int64]] = field(default_factory=list)
    """Numbers of the rows whose users have these scores, in parts of the same lengths."""
    inputs: list[ScoredInputs] = field(default_factory=list)
    """The inputs of these scores, by kind, in parts."""
    transitions: Counter[tuple[AlertKind, Level]] = field(default_factory=Counter)
    """Alerts by kind and level: the new one, of a cleared alert the one that it had."""


@dataclass(frozen=True)
class Batch:
    """Events as columns `[n]`; `row` is the number of the user's row in the slab."""

    taken: Sequence[Taken]
    row: NDArray[np.int64]
    kind_no: NDArray[np.int64]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    occurred_ms: NDArray[np.int64]
    id_hash: NDArray[np.uint64]

    def only(self, kept: NDArray[np.bool_]) -> Batch:
        """The events of which `kept` is set."""
        return self.at(np.flatnonzero(kept))

    def at(self, positions: NDArray[np.int64]) -> Batch:
        """The events at `positions`, in that order."""
        return Batch(
            [self.taken[position] for position in positions.tolist()],
            self.row[positions],
            self.kind_no[positions],
            self.partition[positions],
            self.offset[positions],
            self.occurred_ms[positions],
            self.id_hash[positions],
        )


@dataclass(frozen=True)
class KindInputs:
    """Model inputs of a batch's events of one kind, `[n]` in the order of the waves: a wave takes a slice of them.

    `numeric` lacks `gap_days` and the columns of contracts, which depend on the wave before. `repayments` is there for
    repayments, `limits` where an event states one.
    """

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]
    marks: NDArray[np.uint8]
    repayments: RepaymentColumns | None
    limits: StatedLimits | None

    @classmethod
    def of(
        cls, kind: Kind, events: Sequence[Event], times_ms: NDArray[np.int64], vocabularies: Mapping[str, Vocabulary]
    ) -> KindInputs:
        """Inputs of events of one kind, of which `times_ms` are the times."""
        repayments = repayment_columns(events, times_ms) if kind == "repayments" else None
        credit_limit = credit_limits(events) if kind in STATES_LIMITS else None
        return cls(
            numeric=numeric_inputs(kind, events, times_ms, repayments, credit_limit),
            categorical=categorical_columns(kind, events, vocabularies),
            marks=Marks.of(kind, events),
            repayments=repayments,
            limits=None if credit_limit is None else StatedLimits.of(events, credit_limit, times_ms),
        )

    @classmethod
    def joined(cls, parts: Sequence[KindInputs]) -> KindInputs:
        """Parts of the same kind, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.numeric for part in parts]),
            np.concatenate([part.categorical for part in parts]),
            np.concatenate([part.marks for part in parts]),
            RepaymentColumns.joined([part.repayments for part in parts if part.repayments is not None]),
            StatedLimits.joined([part.limits for part in parts if part.limits is not None]),
        )


@dataclass(frozen=True)
class Changes:
    """The events of a wave that changed an alert, with the inputs of their explanations right after each event.

    `position` int64 `[n]` in the batch, `row` int64 `[n]` in the wave's `decision`. `explained`: which of them are to
    be explained; `readout`, `ages`, `facts`, `today` and `weighed` are of these, `[k]`.
    `reference_pd` float32 `[n]`. `borrowers` are of the wave, `standing` and
    `contracts` `[n]`.
    """

    decision: Decision
    position: NDArray[np.int64]
    row: NDArray[np.int64]
    explained: NDArray[np.int64]
    readout: NDArray[np.float32]
    ages: NDArray[np.float32]
    facts: Rows
    today: NDArray[np.int64]
    weighed: Rows
    reference_pd: NDArray[np.float32]
    borrowers: Borrowers
    standing: Rows
    contracts: list[list[ContractStanding]]


@dataclass(frozen=True)
class Moment:
    """One wave's events, columns `[n]`.

    `row` int64. `event_day` int64: of the event, `today` the latest day that the user's events have reached.
    `attention` float32: the event's own logit, filled kind by kind.
    """

    row: NDArray[np.int64]
    event_day: NDArray[np.int64]
    today: NDArray[np.int64]
    attention: NDArray[np.float32]


class Scorer:
    """Scores events with one bundle under one alert policy over one slab; makes dead letters of repeats with
    `letters`."""

    def __init__(
        self,
        bundle: Bundle,
        policy: AlertPolicy,
        slab: Slab,
        topics: Topics,
        letters: DeadLetters | None = None,
        rules: PortfolioRules = PortfolioRules(),  # noqa: B008  frozen
    ) -> None:
        self.letters = letters or DeadLetters()
        self._bundle = bundle
        self._policy = policy
        self._slab = slab
        self._rules = rules
        self._encoder = OutputEncoder(bundle, policy, topics, rules.loss_given_default)
        self._explainer = Explainer(bundle, topics)
        self._takes_contracts = bundle.takes("repayments", CONTRACT_COLUMNS)
        self._readouts = [
            slice(part.start, part.start + bundle.readout_widths[kind]) for kind, part in bundle.state_slices.items()
        ]

    def score(self, taken: Sequence[Taken]) -> Scored:
        """Score events that stand in the order in which each user's are to be applied, or forget users.

        `taken` must be one of the pieces of `stream.scoring.forgetting`.
        """
        scored = Scored()
        if not taken:
            return scored
        if is_forgetting(taken[0]):
            return self._forget(taken)
        scored.touched = self._locate(taken)
        begin = 0
        while begin < len(taken):
            # Whether an event is of another currency than its contract depends on the events before it, which are
            # therefore applied first. There is hardly ever such an event.
            end = self._first_in_doubt(taken, scored.touched, begin)
            self._take(taken[begin:end], scored.touched[begin:end], scored)
            if end < len(taken):
                self._take(taken[end : end + 1], scored.touched[end : end + 1], scored, in_doubt=True)
            begin = end + 1
        return scored

    def explanations(self, row: NDArray[np.int64]) -> list[Explanation]:
        """What the latest scores of users come from, whether or not an alert is open; `row` int64 `[n]` in the slab.

        Right after an event that raised an alert it is what the alert says.
        """
        rows = self._slab.rows
        return self._explainer.explain(
            self._readout(row),
            ages_days(rows["latest_ms"][row]),
            take_records(rows["facts"], row),
            take_records(rows["standing"], row),
            self._rules.calendar.days_of(rows["alert"]["watermark_ms"][row]),
            rows["weighed"][row],
            rows["sequence"][row],
            self._slab.partitions_of(row).tolist(),
        )

    def _take(
        self, taken: Sequence[Taken], touched: NDArray[np.int64], scored: Scored, *, in_doubt: bool = False
    ) -> None:
        batch = self._admit(taken, touched, scored)
        if in_doubt and batch.taken and (known := self._currency_of(batch.taken[0], int(batch.row[0]))):
            event: Any = batch.taken[0].event
            if known != event.currency:
                scored.dead_letters.append(self._of_other_currency(batch.taken[0], known))
                scored.counts["other_currency"] += 1
                return
        if batch.taken:
            self._apply(batch, scored)

    def _first_in_doubt(self, taken: Sequence[Taken], touched: NDArray[np.int64], begin: int) -> int:
        """Position of the first event whose currency may not be that of its contract; the number of events for none."""
        events: list[Any] = [item.event for item in taken]
        stating = [number for number in range(begin, len(events)) if events[number].currency is not None]
        if not stating:
            return len(taken)
        row, contract_ids = touched[stating], [events[number].contract_id for number in stating]
        stated = np.array([currency_code(events[number].currency) for number in stating])
        known = self._known_currencies(row, contract_ids)
        others = np.flatnonzero((known != 0) & (known != stated))
        end = int(others[0]) if others.size else len(stating)
        # Of these contracts the rows know no currency: the first event that states one decides.
        seen: dict[tuple[int, str | None], str] = {}
        for position in np.flatnonzero(known[:end] == 0).tolist():
            event, contract = events[stating[position]], (int(row[position]), contract_ids[position])
            if seen.get(contract, event.currency) != event.currency:
                return stating[position]
            if event.KIND == "repayments":
                seen[contract] = event.currency
        return stating[end] if others.size else len(taken)

    def _known_currencies(self, row: NDArray[np.int64], contract_ids: Sequence[str | None]) -> NDArray[np.uint32]:
        """Codes of the currencies of contracts `[n]`, 0 where none is known; `row` int64 `[n]` are their users'."""
        standing = take_records(self._slab.rows["standing"], row)
        found, place = find_contract(standing, id_words(contract_ids), places_used(standing))
        return np.where(found, standing["currency"][np.arange(len(place)), place], 0)

    def _currency_of(self, item: Taken, row: int) -> str | None:
        """The currency of the event's contract, None where it is not known."""
        event: Any = item.event
        (code,) = self._known_currencies(np.array([row]), [event.contract_id]).tolist()
        return currency_of(code)

    def _forget(self, taken: Sequence[Taken]) -> Scored:
        """Forget users, and tell whoever keeps their scores and alerts, whether or not a row was held."""
        scored = Scored(counts=Counter(forgotten=len(taken)))
        for item in taken:
            scored.forgotten.setdefault(item.partition, []).append((item.key, item.event.event_id))
        rows = [self._slab.forget(item.partition, item.key) for item in taken]
        scored.touched = np.array(rows, dtype=np.int64)
        return scored

    def _locate(self, taken: Sequence[Taken]) -> NDArray[np.int64]:
        keys_of: dict[int, list[bytes]] = {}
        partitions = [item.partition for item in taken]
        for partition, item in zip(partitions, taken, strict=True):
            keys_of.setdefault(partition, []).append(item.key)
        if len(keys_of) == 1:
            return self._slab.locate(partitions[0], keys_of[partitions[0]])
        numbers = np.empty(len(taken), dtype=np.int64)
        partition_of = np.array(partitions)
        for partition, keys in keys_of.items():
            numbers[partition_of == partition] = self._slab.locate(partition, keys)
        return numbers

    def _admit(self, taken: Sequence[Taken], touched: NDArray[np.int64], scored: Scored) -> Batch:
        """The events without those that the rows already hold and without repeats; their offsets go into the rows."""
        rows = self._slab.rows
        batch = Batch(
            taken,
            touched,
            np.array([item.kind_no for item in taken], dtype=np.int64),
            np.array([item.partition for item in taken], dtype=np.int32),
            np.array([item.offset for item in taken], dtype=np.int64),
            np.array([item.occurred_ms for item in taken], dtype=np.int64),
            id_hashes([item.event.event_id for item in taken]),
        )
        held = batch.offset <= rows["consumed_offset"][batch.row, batch.kind_no]
        if held.any():
            scored.counts["already_scored"] += int(held.sum())
            batch = batch.only(~held)
        np.maximum.at(rows["consumed_offset"], (batch.row, batch.kind_no), batch.offset)
        repeats = find_repeats(batch.row, batch.id_hash, rows["recent_ids"], rows["sequence"])
        if repeats.any():
            scored.dead_letters += [
                self._repeat(batch.taken[position]) for position in np.flatnonzero(repeats).tolist()
            ]
            scored.counts["duplicates"] += int(repeats.sum())
            batch = batch.only(~repeats)
        return batch

    def _apply(self, admitted: Batch, scored: Scored) -> None:
        numbers = wave_numbers(admitted.row)
        order, in_waves = waves(numbers, admitted.kind_no)
        batch = admitted.at(order)
        rows = self._slab.rows
        sequence = rows["sequence"][batch.row] + numbers[order] + 1
        found = ScoredColumns.empty(sequence, len(self._bundle.horizons_days))
        inputs = self._inputs(batch)
        changes = [self._take_wave(wave, batch, inputs, found, scored) for wave in in_waves]
        self._note_alerts([change for change in changes if change is not None], batch, found, scored)
        # Events are in order of waves, and numpy keeps the last value of a repeated index: that of the latest event.
        rows["sequence"][batch.row] = sequence
        rows["recent_ids"][batch.row, (sequence - 1) % RECENT_IDS] = batch.id_hash
        as_they_came = np.empty_like(order)
        as_they_came[order] = np.arange(len(order))
        self._encoder.write_scores(admitted.taken, found.at(as_they_came), scored.scores)
        scored.counts["scored"] += len(order)
        scored.headline.append(found.probabilities[:, self._bundle.headline])
        scored.scored_rows.append(batch.row)
        for kind_no, each in inputs.items():
            own = batch.kind_no == kind_no
            told = ScoredInputs(kind_no, batch.row[own], batch.occurred_ms[own], each.numeric, each.categorical)
            scored.inputs.append(told)

    def _inputs(self, batch: Batch) -> dict[int, KindInputs]:
        """Inputs by kind number, each kind's events in the order of `batch`.

        Made in pieces: each column reads all events of its piece again while they are in the processor's cache.
        """
        inputs: dict[int, KindInputs] = {}
        for kind_no, kind in enumerate(KINDS):
            of_kind = np.flatnonzero(batch.kind_no == kind_no)
            if not of_kind.size:
                continue
            vocabularies, parts = self._bundle.vocabularies.get(kind, {}), []
            for piece in pieces(len(of_kind)):
                positions = of_kind[piece]
                events = [batch.taken[position].event for position in positions.tolist()]
                parts.append(KindInputs.of(kind, events, batch.occurred_ms[positions], vocabularies))
            inputs[kind_no] = KindInputs.joined(parts)
        return inputs

    def _take_wave(
        self, wave: Wave, batch: Batch, inputs: dict[int, KindInputs], found: ScoredColumns, scored: Scored
    ) -> Changes | None:
        """Apply one event of each of different users to their rows and store their scores; returns changed alerts."""
        rows, row, occurred_ms = self._slab.rows, batch.row[wave.where], batch.occurred_ms[wave.where]
        days_of = self._rules.calendar.days_of
        moment = Moment(
            row=row,
            event_day=days_of(occurred_ms),
            today=days_of(np.maximum(rows["alert"]["watermark_ms"][row], occurred_ms)),
            attention=np.zeros(len(row), dtype=np.float32),
        )
        for block in wave.blocks:
            in_wave = slice(block.where.start - wave.where.start, block.where.stop - wave.where.start)
            self._step(block, in_wave, batch, inputs[block.kind_no], moment, scored)
        self._remember_weighed(wave, batch, found, moment)
        ages = ages_days(rows["latest_ms"][row])
        probabilities = self._probabilities(row, ages)
        borrowers = Borrowers.at(rows, row, moment.today, self._rules)
        decision = self._decide(wave, batch, moment, probabilities, borrowers)
        found.fill(wave.where, probabilities, decision, borrowers)
        if not decision.changed.size:
            return None
        return self._changes(wave, moment, ages, decision, borrowers)

    def _step(
        self, block: Block, in_wave: slice, batch: Batch, inputs: KindInputs, moment: Moment, scored: Scored
    ) -> None:
        """Apply events of one kind, one for each of different users, to their rows."""
        kind, rows = KINDS[block.kind_no], self._slab.rows
        row, occurred_ms = batch.row[block.where], batch.occurred_ms[block.where]
        numeric = inputs.numeric[block.of_kind]
        previous_ms = rows["latest_ms"][row, block.kind_no]
        numeric[:, GAP_COLUMN[kind]] = gap_days(occurred_ms, previous_ms)
        rows["latest_ms"][row, block.kind_no] = np.maximum(previous_ms, occurred_ms)
        scored.counts["late"] += int(np.count_nonzero(occurred_ms < previous_ms))
        applied = None
        if inputs.repayments is not None:
            columns = inputs.repayments.at(block.of_kind)
            standing, ledger = take_records(rows["standing"], row), take_records(rows["ledger"], row)
            today = moment.today[in_wave]
            applied = apply_repayments(standing, ledger, columns, moment.event_day[in_wave], today)
            if self._takes_contracts:
                numeric[:, CONTRACT_PLACES] = contract_columns(standing, ledger, columns, applied, today)
            put_records(rows["standing"], row, standing)
            put_records(rows["ledger"], row, ledger)
            scored.told.append(row)
            scored.counts["contracts_evicted"] += int(np.count_nonzero(applied.evicted))
        if inputs.limits is not None:
            which = inputs.limits.within(block.of_kind)
            if which.start < which.stop:
                stating = row[inputs.limits.position[which] - block.of_kind.start]
                scored.told.append(apply_limits(rows["standing"], stating, inputs.limits.columns.at(which)))
        moment.attention[in_wave] = self._step_network(kind, row, numeric, inputs.categorical[block.of_kind])
        facts = rows["facts"]
        after = update_facts(
            kind, take_records(facts, row), numeric, inputs.marks[block.of_kind], moment.event_day[in_wave], applied
        )
        put_records(facts, row, after)
        if kind == "profiles":
            stated = numeric[:, COLUMNS["profiles"].numeric.index("origination_pd")]
            rows["reference_pd"][row] = np.where(np.isnan(stated), rows["reference_pd"][row], stated)

    # Network states are read, run and written in the pieces that the bundle runs at once: a whole wave of them does not
    # fit into the processor's cache.

    def _step_network(
        self, kind: Kind, row: NDArray[np.int64], numeric: NDArray[np.float32], categorical: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Apply events of one kind to the network states of `row`; returns the attention logits, float32 `[n]`."""
        rows, part = self._slab.rows, self._bundle.state_slices[kind]
        attention = np.empty(len(row), dtype=np.float32)
        for piece in pieces(len(row)):
            before = take_floats(rows, "network", part, row[piece])
            state, attention[piece] = self._bundle.step(kind, numeric[piece], categorical[piece], before)
            put_floats(rows, "network", part, row[piece], np.ascontiguousarray(state))
        return attention

    def _probabilities(self, row: NDArray[np.int64], ages: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of default within each horizon from the states of `row`, float32 `[n, horizons]`."""
        return np.concatenate(
            [self._bundle.score(self._readout(row[piece]), ages[piece]) for piece in pieces(len(row))]
        )

    def _remember_weighed(self, wave: Wave, batch: Batch, found: ScoredColumns, moment: Moment) -> None:
        news = np.empty(len(moment.row), dtype=WEIGHED_EVENT)
        news["occurred_ms"] = batch.occurred_ms[wave.where]
        news["offset"] = batch.offset[wave.where]
        news["attention"] = moment.attention
        news["kind"] = batch.kind_no[wave.where]
        put_records(self._slab.rows["weighed"], (moment.row, (found.sequence[wave.where] - 1) % WEIGHED_EVENTS), news)

    def _readout(self, row: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = self._slab.rows
        return np.concatenate([take_floats(rows, "network", part, row) for part in self._readouts], axis=1)

    def _decide(
        self,
        wave: Wave,
        batch: Batch,
        moment: Moment,
        probabilities: NDArray[np.float32],
        borrowers: Borrowers,
    ) -> Decision:
        """The alert policy's decision on each event of a wave; updates the rows' alert states."""
        alert = self._slab.rows["alert"]
        decision = advance(
            self._policy,
            take_records(alert, moment.row),
            np.ascontiguousarray(probabilities[:, self._bundle.headline]),
            borrowers.days_past_due,
            borrowers.serious,
            batch.occurred_ms[wave.where],
            topic=batch.kind_no[wave.where].astype(np.uint8),
            partition=batch.partition[wave.where],
            offset=batch.offset[wave.where],
        )
        put_records(alert, moment.row, decision.state)
        return decision

    def _changes(
        self,
        wave: Wave,
        moment: Moment,
        ages: NDArray[np.float32],
        decision: Decision,
        borrowers: Borrowers,
    ) -> Changes:
        rows, changed = self._slab.rows, decision.changed
        explained = np.flatnonzero(decision.transition[changed] != CLEARED)
        rises = changed[explained]
        return Changes(
            decision,
            wave.where.start + changed,
            changed,
            explained,
            self._readout(moment.row[rises]),
            ages[rises],
            take_records(rows["facts"], moment.row[rises]),
            moment.today[rises],
            rows["weighed"][moment.row[rises]],
            rows["reference_pd"][moment.row[changed]],
            borrowers,
            take_records(rows["standing"], moment.row[changed]),
            contracts_at(rows, moment.row[changed], moment.today[changed], self._rules),
        )

    def _note_alerts(self, changes: Sequence[Changes], batch: Batch, found: ScoredColumns, scored: Scored) -> None:
        """Explain and write the alerts of a batch, wave after wave."""
        if not changes:
            return
        rises = np.concatenate([change.position[change.explained] for change in changes])
        explanations = iter(
            self._explainer.explain(
                np.concatenate([change.readout for change in changes]),
                np.concatenate([change.ages for change in changes]),
                np.concatenate([change.facts for change in changes]),
                np.concatenate([change.standing[change.explained] for change in changes]),
                np.concatenate([change.today for change in changes]),
                np.concatenate([change.weighed for change in changes]),
                found.sequence[rises],
                batch.partition[rises].tolist(),
            )
        )
        headline = found.probabilities[:, self._bundle.headline]
        for change in changes:
            explained = set(change.explained.tolist())
            for number, (position, row) in enumerate(zip(change.position.tolist(), change.row.tolist(), strict=True)):
                kind = self._encoder.write_alert(
                    batch.taken[position],
                    change.decision,
                    row,
                    score=float(headline[position]),
                    sequence=int(found.sequence[position]),
                    reference_pd=float(change.reference_pd[number]),
                    explanation=next(explanations) if number in explained else None,
                    borrowers=change.borrowers,
                    contracts=change.contracts[number],
                    alerts=scored.alerts,
                )
                scored.counts[f"alerts_{kind}"] += 1
                levels = change.decision.level_from if kind == "cleared" else change.decision.level_to
                scored.transitions[kind, LEVELS[int(levels[row])]] += 1

    def _repeat(self, item: Taken) -> DeadLetter:
        event_id = item.event.event_id
        message = f"event_id {event_id!r} was already scored for this user among the last {RECENT_IDS} events"
        return self.letters.of(item.record, "duplicate_event_id", message)

    def _of_other_currency(self, item: Taken, known: str) -> DeadLetter:
        event: Any = item.event
        contract = "the borrower's contract" if event.contract_id is None else f"contract {event.contract_id!r}"
        message = f"currency is {event.currency}, but {contract} is in {known}; a contract has one currency"
        return self.letters.of(item.record, "currency_mismatch", message)
