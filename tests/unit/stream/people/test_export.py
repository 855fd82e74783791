"""A state in words: every field of a row is there by name, and JSON can write all of it."""

from __future__ import annotations

import json

import msgspec

from model.bundle import Bundle
from model.datasets.sources import open_dataset
from stream.kafka.record import RawRecord
from stream.people.export import described
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics


def test_a_state_in_words() -> None:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, load_settings().alert_policy(bundle.thresholds), slab, Topics())
    taken = []
    for offset, event in enumerate(open_dataset("simulator", users=3, months=3, seed=2).events()):
        record = RawRecord(event.KIND, 0, offset, 0, event.user_id.encode(), msgspec.json.encode(event))
        outcome = Intake(event.KIND).take(record, 10**15)
        assert isinstance(outcome, Taken)
        taken.append(outcome)
    scorer.score(taken)
    for _, key, row in slab.items():
        said = json.loads(msgspec.json.encode(described(row, bundle)))
        own = [item for item in taken if item.key == key]
        assert said["scored_events"] == len(own)
        assert said["latest_event"]["repayments"] == max(
            item.event.occurred_at for item in own if item.kind == "repayments"
        ).isoformat(timespec="auto")
        assert said["alert"]["level"] in ("LOW", "MEDIUM", "HIGH")
        ended = {item.event.contract_id for item in own if getattr(item.event, "kind", None) == "closed"}
        phases = {contract["contract_id"]: contract["phase"] for contract in said["contracts"]}
        assert {contract_id for contract_id, phase in phases.items() if phase == "closed"} == ended
        assert set(phases.values()) <= {"open", "closed"}
        assert said["facts_of_contracts"][0]["missed"] >= 0
        assert len(said["events_that_weighed_most"]) == min(len(own), 8)
        assert said["numbers_of_the_network"] == bundle.state_width


def test_a_row_of_another_model_is_given_by_its_size() -> None:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    other = blank_row(row_dtype(bundle.state_width), 1).tobytes()
    assert described(other, bundle) == {"bytes": len(other)}
    assert described(b"short", bundle) == described(b"short", None) == {"bytes": 5}
