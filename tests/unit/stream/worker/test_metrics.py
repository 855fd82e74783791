"""The metrics of a worker are its own figures; all that the catalogue says of workers is exported, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.telemetry.catalogue import METRICS
from stream.telemetry.health import Health
from stream.worker.app import WorkerApp
from stream.worker.following import Following
from stream.worker.health import standing_of
from stream.worker.metrics import WorkerCollector
from stream.worker.stages import STAGES


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


@pytest.fixture
def worker(bundle: Bundle) -> WorkerApp:
    """A worker that has not been started, and has a broker that it will never reach."""
    settings = load_settings(application_id="test-metrics", metrics_port=0)
    return WorkerApp(settings, KafkaConnection.parse("127.0.0.1:1"), bundle)


def health_of(worker: WorkerApp) -> Health:
    return Health(
        lambda: standing_of(worker), liveness_timeout_s=10.0, commit_interval_s=1.0, stall_timeout_s=60.0, look_s=1.0
    )


def samples(worker: WorkerApp) -> dict[tuple[str, ...], float]:
    """Values by the sample's name and the values of its labels, in order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in WorkerCollector(worker, health_of(worker)).collect()
        for sample in family.samples
    }


def give_consumer(worker: WorkerApp, lag: dict[TP, int], unreachable_s: float = 0.0) -> None:
    worker._consumer = cast(Any, SimpleNamespace(lag=lambda: lag, unreachable_s=unreachable_s))


def test_exports_what_the_catalogue_says_of_a_worker(worker: WorkerApp) -> None:
    families = {family.name: family for family in WorkerCollector(worker, health_of(worker)).collect()}
    of_worker = {name: metric for name, metric in METRICS.items() if "worker" in metric.sources}
    assert set(families) == {name.removesuffix("_total") for name in of_worker}
    for name, metric in of_worker.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert sample.name in metric.sample_names
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_counts_stages_lag_and_states(worker: WorkerApp) -> None:
    engine = worker.engine
    worker.slab.locate(0, [b"a", b"b"])
    worker.slab.counts["rows_evicted"] = 5
    engine.counts.update(
        {"scored": 7, "dead_letters": 3, "late": 2, "missed_published": 4, "merged_without_waiting": 6}
    )
    engine.figures.refused.update({"not_json": 2, "duplicate_event_id": 1})
    engine.figures.transitions["escalated", "HIGH"] = 8
    with engine.stages("score"):
        pass
    with engine.stages("commit"):
        pass
    give_consumer(worker, {TP("transactions", 2): 5}, unreachable_s=1.5)
    worker.restoration.owned, worker.restoration.restored = frozenset({0, 2}), frozenset({0})
    worker.restoration.remaining = {2: 11}
    found = samples(worker)
    assert found["foreshock_events_total", "scored"] == 7
    assert found["foreshock_events_total", "refused"] == 3
    assert found["foreshock_dead_letters_total", "not_json"] == 2
    assert found["foreshock_late_events_total",] == 2
    assert found["foreshock_missed_instalments_total",] == 4
    assert found["foreshock_merged_without_waiting_total",] == 6
    assert found["foreshock_alert_transitions_total", "HIGH", "escalated"] == 8
    assert found["foreshock_lag_records", "2", "transactions"] == 5
    assert found["foreshock_users",] == 2
    assert found["foreshock_rows_evicted_total",] == 5
    assert found["foreshock_commit_seconds_count",] == 1
    assert found["foreshock_stage_seconds_total", "score"] > 0
    assert {key[1] for key in found if key[0] == "foreshock_stage_seconds_total"} == set(STAGES)
    assert found["foreshock_partitions_owned",] == 2
    assert found["foreshock_partitions_restored",] == 1
    assert found["foreshock_restore_remaining_records", "2"] == 11
    assert found["foreshock_broker_unreachable_seconds",] == 1.5
    assert found["foreshock_model_info", worker.bundle.fingerprint_hex, worker.policy.version] == 1
    assert (found["foreshock_live",], found["foreshock_ready",]) == (1, 0)


@pytest.fixture
def standing(worker: WorkerApp) -> WorkerApp:
    """A worker that has its partitions and their states."""
    worker.restoration.owned = worker.restoration.restored = frozenset({0, 1})
    return worker


def test_who_has_partitions_and_states_is_ready(standing: WorkerApp) -> None:
    give_consumer(standing, {TP("profiles", 0): 0})
    found = standing_of(standing)
    assert (found.unready, found.excuse, found.partitions, found.work, found.ends) == (None, None, 2, False, None)
    give_consumer(standing, {TP("profiles", 0): 3})
    assert standing_of(standing).work


def test_what_others_have_not_taken_yet_is_no_work_of_who_follows_them(bundle: Bundle) -> None:
    settings = load_settings(application_id="test-metrics", watchdog=False)
    outputs = settings.topics.shadow_outputs("may")
    for order_topic, works in (("live-order", False), (None, True)):
        kafka = KafkaConnection.parse("127.0.0.1:1")
        worker = WorkerApp(settings, kafka, bundle, following=Following(order_topic), outputs=outputs)
        give_consumer(worker, {TP("profiles", 0): 3, TP("live-order", 0): 0} if order_topic else {TP("profiles", 0): 3})
        assert standing_of(worker).work is works
        assert worker.lag()[TP("profiles", 0)] == 3
        if order_topic:
            give_consumer(worker, {TP("profiles", 0): 3, TP("live-order", 0): 1})
            assert standing_of(worker).work
            worker.restoration.owned = frozenset({1})
            assert not standing_of(worker).work, "a journal of a partition that others have"


def test_states_that_are_being_read_make_it_unready_and_excuse_it(standing: WorkerApp) -> None:
    standing.restoration.restored = frozenset({0})
    found = standing_of(standing)
    assert found.unready == found.excuse
    assert "states of partitions [1]" in (found.unready or "")


def test_a_rebalance_and_a_broker_that_is_away_excuse_it(standing: WorkerApp) -> None:
    standing.app.rebalancing = True
    assert standing_of(standing).unready == "the group shares out its partitions anew"
    give_consumer(standing, {}, unreachable_s=12.0)
    standing.app.rebalancing = False
    found = standing_of(standing)
    assert (found.unready, found.excuse) == ("no broker has answered for 12 s",) * 2


def test_an_error_that_ends_it_is_told(standing: WorkerApp) -> None:
    standing.failure.error = RuntimeError("states are incomplete")
    assert "states are incomplete" in (standing_of(standing).ends or "")
