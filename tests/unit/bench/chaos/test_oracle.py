"""The oracle finds every sort of fault, one at a time, and none where there is none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.chaos.feed import arrivals
from bench.chaos.oracle import Published, Verdict, contract_values, judge, outputs_of
from bench.chaos.plan import Plan
from events.types import KINDS, Kind
from model.bundle import Bundle
from stream.kafka.record import RawRecord
from stream.outputs import Score
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.intake import Intake
from stream.scoring.order_journal import OrderLog, OrderRecord
from stream.scoring.scorer import Scorer
from stream.settings import load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

SETTINGS = load_settings()


def records(pairs: Any) -> list[Any]:
    return [SimpleNamespace(partition=0, key=key, value=value, headers=[]) for key, value in pairs]


@cache
def right() -> Published:
    """What a worker would publish of some events on one partition, taken one by one as they arrive."""
    bundle = Bundle.load(SETTINGS.bundle)
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, SETTINGS.alert_policy(bundle.thresholds), slab, SETTINGS.topics)
    offsets = dict.fromkeys(KINDS, 0)
    inputs, scores, alerts, letters = [], [], [], []
    log = OrderLog()
    plan = replace(Plan.of(5, 900), faults=(), users=30, late_share=0.1, twice_share=0.05)
    arrived: list[tuple[Kind, bytes, bytes | None, int]] = list(arrivals(plan, 1))
    for number in (100, 400, 700):  # users are forgotten, who come back
        arrived.insert(number, ("profiles", arrived[number][1], None, arrived[number][3]))
    for kind, key, value, at_ms in arrived:
        record = RawRecord(kind, 0, offsets[kind], at_ms, key, value)
        offsets[kind] += 1
        inputs.append(record)
        taken, _ = Intake(kind).take_all([record], 10**13)
        log.took(np.array([item.kind_no for item in taken]), np.array([item.offset for item in taken]))
        scored = scorer.score(taken)
        for key_of, place in scored.forgotten.get(0, []):
            told = SimpleNamespace(partition=0, key=key_of, value=None, headers=[("foreshock.source", place.encode())])
            scores.append(told)
            alerts.append(told)
        scores += records(scored.scores.get(0, []))
        alerts += records(scored.alerts.get(0, []))
        letters += scored.dead_letters
    rows = [(key, row) for _, key, row in slab.items()]
    refused = [published_letter(letter) for letter in letters]
    values = contract_values({(0, key): row for key, row in rows}, slab.dtype, SETTINGS.portfolio_rules())
    contracts = [(key, value) for (_, key), value in values.items()]
    record_of_order = log.record([offsets[kind] for kind in KINDS])
    assert record_of_order is not None
    order = records([(None, record_of_order.encode())])
    return Published(inputs, scores, alerts, refused, records(rows), scores, records(contracts), order)


def published_letter(letter: Any) -> Any:
    return SimpleNamespace(partition=0, key=letter.key, value=letter.value, headers=letter.record_headers())


def test_what_is_right_is_found_right() -> None:
    verdict = judge(right(), SETTINGS)
    assert verdict.is_right, verdict
    assert verdict.inputs == 903
    assert verdict.scores > 800
    assert min(verdict.alerts, len(right().dead_letters)) > 0


def test_of_a_user_who_was_forgotten_the_database_holds_what_came_after() -> None:
    good = right()
    forgotten = {record.key: number for number, record in enumerate(good.scores) if record.value is None}
    kept = [record for number, record in enumerate(good.scores) if number > forgotten.get(record.key, -1)]
    assert 0 < len(kept) < len(good.scores) - len(forgotten)
    outputs = outputs_of(good, SETTINGS.topics)
    assert sorted(score.score_id for score in outputs.scores) == sorted(
        msgspec.json.decode(record.value, type=Score).score_id for record in kept
    )
    assert len(outputs.contracts) == len(good.contracts)
    before = {record.key: number for number, record in enumerate(good.inputs) if record.value is None}
    profiles = [record for number, record in enumerate(good.inputs) if record.topic == "profiles" and record.value]
    after = [record for number, record in enumerate(good.inputs) if number > before.get(record.key, -1)]
    told = [record for record, _ in outputs.profiles]
    assert 0 < len(told) < len(profiles)
    assert [record for record in after if record.topic == "profiles"] == sorted(told, key=lambda record: record.offset)


def test_of_a_user_who_was_forgotten_events_are_kept_that_happened_afterwards() -> None:
    good = right()
    outputs = outputs_of(good, SETTINGS.topics)
    valid = {(letter.topic, letter.offset) for letter in outputs.dead_letters}
    until_ms = {record.key: record.timestamp for record in good.inputs if record.value is None and record.key}
    assert until_ms
    kept = {(record.topic, record.offset): event for record, event in outputs.events}
    for record in good.inputs:
        event = kept.get((record.topic, record.offset))
        if event is None:
            refused = (record.topic, record.offset) in valid
            assert refused or record.value is None or record.key in until_ms, "nothing else is left out"
        elif record.key in until_ms:
            assert event.occurred_at.timestamp() * 1000 > until_ms[record.key]


def test_how_far_one_has_read_of_a_forgotten_user_is_not_judged_and_of_others_it_is() -> None:
    good = right()
    forgotten = {record.key for record in good.scores if record.value is None}
    dtype = row_dtype(Bundle.load(SETTINGS.bundle).state_width)

    def read_further(of_forgotten: bool) -> Verdict:
        chosen = next(row for row in good.changelog if (row.key in forgotten) == of_forgotten)
        content = np.frombuffer(chosen.value, dtype=dtype).copy()
        content["consumed_offset"] += 1
        other = SimpleNamespace(partition=0, key=chosen.key, value=content.tobytes())
        return judge(replace(good, changelog=[*good.changelog, other]), SETTINGS)

    assert read_further(of_forgotten=True).is_right
    assert read_further(of_forgotten=False).wrong_rows == 1


def changed(record: Any, before: bytes, after: bytes) -> Any:
    assert before in record.value
    value = record.value.replace(before, after, 1)
    return SimpleNamespace(partition=record.partition, key=record.key, value=value, headers=[])


def faults(name: str) -> tuple[Published, dict[str, int]]:
    """What was published with one fault in it, and the least that the verdict must count."""
    good = right()
    last = good.scores[-1]
    if name == "a score is missing":
        return replace(good, scores=good.scores[:-1]), {"lost": 1}
    if name == "a score stands twice":
        return replace(good, scores=[*good.scores, last]), {"twice": 1, "wrong_scores": 1, "broken_sequences": 1}
    if name == "a dead letter is missing":
        return replace(good, dead_letters=good.dead_letters[:-1]), {"lost": 1}
    if name == "a forgotten user is not told of":
        return replace(good, scores=[record for record in good.scores if record.value is not None]), {
            "lost": 3, "broken_sequences": 1, "wrong_scores": 1
        }  # fmt: skip
    if name == "an input is missing":
        scored = {(record.topic, record.offset) for record in good.inputs[-1:]}
        kept = [record for record in good.inputs if (record.topic, record.offset) not in scored]
        return replace(good, inputs=kept), {"strange": 1}
    if name == "a score differs":
        return replace(good, scores=[*good.scores[:-1], changed(last, b'"level":"', b'"level": "')]), {
            "wrong_scores": 1
        }
    if name == "an alert differs":
        at = next(number for number, record in enumerate(good.alerts) if record.value is not None)
        other = changed(good.alerts[at], b'"kind":"', b'"kind": "')
        return replace(good, alerts=[*good.alerts[:at], other, *good.alerts[at + 1 :]]), {"wrong_alerts": 1}
    if name == "an alert stands twice":
        return replace(good, alerts=[*good.alerts, good.alerts[-1]]), {"wrong_alerts": 1}
    if name == "a state is older":
        row = good.changelog[0]
        older = SimpleNamespace(partition=0, key=row.key, value=row.value[:8] + bytes(8) + row.value[16:])
        return replace(good, changelog=[*good.changelog, older]), {"wrong_rows": 1}
    if name == "a dead letter gives another reason":
        first = good.dead_letters[0]
        headers = [(key, b"too_large" if key == "foreshock.reason" else content) for key, content in first.headers]
        other = SimpleNamespace(**{**vars(first), "headers": headers})
        return replace(good, dead_letters=[other, *good.dead_letters[1:]]), {"wrong_refusals": 1}
    if name == "a dead letter is of an event that was not repeated":
        score = msgspec.json.decode(last.value, type=Score)
        (record,) = [r for r in good.inputs if (r.topic, r.offset) == (score.source_topic, score.source_offset)]
        letter = DeadLetters().of(record, "duplicate_event_id", "no")
        refused = [*good.dead_letters, published_letter(letter)]
        return replace(good, scores=good.scores[:-1], dead_letters=refused), {"wrong_refusals": 1}
    if name == "a dead letter has other bytes":
        other = SimpleNamespace(**{**vars(good.dead_letters[0]), "value": b"{}"})
        return replace(good, dead_letters=[other, *good.dead_letters[1:]]), {"wrong_refusals": 1}
    if name == "a latest score is an older one":
        own = [record for record in good.scores if record.key == last.key]
        return replace(good, latest_scores=[*good.latest_scores, own[-2]]), {"wrong_latest": 1}
    if name == "a latest score is missing":
        kept = [record for record in good.latest_scores if record.key != last.key]
        return replace(good, latest_scores=kept), {"wrong_latest": 1}
    if name == "a contract differs":
        other = changed(good.contracts[0], b'"status":"', b'"status":"closed","was":"')
        return replace(good, contracts=[*good.contracts, other]), {"wrong_contracts": 1}
    if name == "contracts are missing":
        return replace(good, contracts=good.contracts[1:]), {"wrong_contracts": 1}
    if name == "the journal tells another order":
        (record,) = good.order
        told = OrderRecord.decode(record.value)
        kinds, lasts = told.kinds.copy(), told.lasts.copy()
        kinds[[0, 1]], lasts[[0, 1]] = kinds[[1, 0]], lasts[[1, 0]]
        return replace(good, order=records([(None, replace(told, kinds=kinds, lasts=lasts).encode())])), {
            "wrong_order": 1
        }
    if name == "the journal is missing":
        return replace(good, order=[]), {"wrong_order": 1}
    assert name == "a state is missing"
    return replace(good, changelog=good.changelog[1:]), {"wrong_rows": 1}


@pytest.mark.parametrize(
    "name",
    [
        "a score is missing",
        "a score stands twice",
        "a dead letter is missing",
        "a forgotten user is not told of",
        "an input is missing",
        "a score differs",
        "an alert differs",
        "an alert stands twice",
        "a state is older",
        "a state is missing",
        "a dead letter gives another reason",
        "a dead letter is of an event that was not repeated",
        "a dead letter has other bytes",
        "a latest score is an older one",
        "a latest score is missing",
        "a contract differs",
        "contracts are missing",
        "the journal tells another order",
        "the journal is missing",
    ],
)
def test_a_fault_is_found(name: str) -> None:
    published, least = faults(name)
    verdict: Verdict = judge(published, SETTINGS)
    assert not verdict.is_right
    assert all(getattr(verdict, count) >= number for count, number in least.items()), verdict
