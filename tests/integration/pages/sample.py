"""A small portfolio in the tables of a sink: simulated events, scored as by a worker, written as by a sink."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TypeVar

import msgspec

from events.instalments import with_missed_among
from events.types import KINDS, Event, encode_event
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from stream.database.connection import DatabaseConnection
from stream.database.kept_events import kept_event
from stream.database.products import ContractProduct, stated_product
from stream.database.writer import DatabaseWriter
from stream.kafka.publisher import partition_of
from stream.outputs import Alert, BorrowerContracts, Score
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

USERS, MONTHS, SEED = 60, 12, 20_240
FAR_AHEAD_MS = 10**14

Output = TypeVar("Output", Alert, Score)


def fill(database: DatabaseConnection) -> dt.datetime:
    """Write the portfolio into a database that is up to date; returns the latest event time."""
    bundle, settings = Bundle.load(PRETRAINED_BUNDLE), load_settings()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics)
    taken, products = [], []
    offsets: Counter[tuple[str, int]] = Counter()
    events = open_dataset("simulator", users=USERS, months=MONTHS, seed=SEED).events()
    for event in with_missed_among(events, settings.grace_days):
        key = event.user_id.encode()
        partition = partition_of(key, settings.partitions)
        offset = offsets[event.KIND, partition]
        offsets[event.KIND, partition] += 1
        at_ms = round(event.occurred_at.timestamp() * 1000)
        taken.append(Taken(event.KIND, KINDS.index(event.KIND), partition, offset, key, at_ms, event, None))
        if event.KIND == "profiles":
            products.append(stated_product(key, encode_event(event), partition, offset, FAR_AHEAD_MS))
    scored = scorer.score(taken)
    alerts = [_decoded(value, Alert) for values in scored.alerts.values() for _, value in values]
    with DatabaseWriter(database) as writer:
        writer.register_model(bundle.fingerprint_hex, json.loads((PRETRAINED_BUNDLE / "manifest.json").read_bytes()))
        writer.write(products=[each for each in products if isinstance(each, ContractProduct)])
        writer.write(contracts=_contracts(alerts))
        writer.write_scores([_decoded(value, Score) for values in scored.scores.values() for _, value in values])
        writer.write_alerts(alerts)
        writer.write(events=[kept_event(item.event, item.kind, item.partition, item.offset) for item in taken])
    return max(item.event.occurred_at for item in taken if isinstance(item.event, Event))


def _decoded(value: bytes, of: type[Output]) -> Output:
    return msgspec.json.decode(value, type=of)


def _contracts(alerts: list[Alert]) -> list[BorrowerContracts]:
    """Each alerted user's contracts as their latest alert tells of them."""
    latest = {alert.user_id: alert for alert in alerts if alert.contracts}
    return [
        BorrowerContracts(
            user_id=alert.user_id,
            sequence=alert.sequence,
            occurred_at=alert.occurred_at,
            source_partition=alert.source_partition,
            contracts=alert.contracts,
        )
        for alert in latest.values()
    ]
