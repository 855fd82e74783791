"""A feed as real ones are, with events that come late and events that come twice: counted, told apart, none lost."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from events.types import EVENT_TYPES
from model.bundle import Bundle
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from stream.outputs import DeadLetter, Score
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

Deploy = Callable[..., Any]


def counted_by(log: str) -> dict[str, float]:
    """What a worker counts, by its own metrics: by name, or by name and label where there is one."""
    address = re.search(r"http://\S+/metrics", log)
    assert address is not None, log
    with urllib.request.urlopen(address[0], timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


def test_late_and_repeated_events_are_counted_and_none_is_lost(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False, metrics_port=0)
    dataset = open_dataset("simulator", users=120, months=5, seed=17)
    arrived = list(arrivals_of(dataset, 0.2, 0.02, 17))
    times_it_came = Counter(arrived)
    repeats = len(arrived) - len(times_it_came)
    assert repeats > 50
    assert deployment.publish_records(arrived) == len(arrived)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        counted = counted_by(worker.log_text())

    published_ids = {msgspec.json.decode(value, type=EVENT_TYPES[kind]).event_id for kind, _, value, _ in times_it_came}
    scores = [record.value for record in deployment.records(deployment.topics.scores)]
    assert Counter(msgspec.json.decode(value, type=Score).event_id for value in scores) == Counter(published_ids)

    letters = [DeadLetter.from_record(record) for record in deployment.records(deployment.topics.dead_letters)]
    assert {letter.reason for letter in letters} == {"duplicate_event_id"}
    came_again = Counter({value: times - 1 for (_, _, value, _), times in times_it_came.items() if times > 1})
    assert Counter(letter.value for letter in letters) == came_again
    assert len(scores) + len(letters) == len(arrived)

    # One process over the same events, in the order in which the worker took them, comes to the same.
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    policy = deployment.settings.alert_policy(bundle.thresholds)
    taken = {
        (deployment.topics.of_kind(item.kind), item.partition, item.offset): item
        for partition in deployment.in_event_time_order()
        for item in partition
    }
    found = [msgspec.json.decode(value, type=Score) for value in scores]
    in_order = [taken[score.source_topic, score.source_partition, score.source_offset] for score in found]
    scored = Scorer(bundle, policy, slab, deployment.topics).score(in_order)
    assert {value for values in scored.scores.values() for _, value in values} == set(scores)
    assert counted["foreshock_events_total scored"] == counted["foreshock_score_count"] == len(scores)
    assert counted["foreshock_events_total refused"] == repeats
    assert counted["foreshock_dead_letters_total duplicate_event_id"] == repeats
    assert counted["foreshock_late_events_total"] == scored.counts["late"] > 50
