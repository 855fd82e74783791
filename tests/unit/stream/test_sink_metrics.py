"""The metrics of a sink are its own figures; all that the catalogue says of sinks is exported, and nothing else."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.database.probe import DatabaseProbe
from stream.database.products import ContractProduct
from stream.kafka.connection import KafkaConnection
from stream.settings import load_settings
from stream.sink import SinkApp
from stream.sink_figures import SinkFigures
from stream.sink_metrics import SinkCollector, standing_of
from stream.telemetry.catalogue import METRICS
from stream.telemetry.health import Health
from tests.examples import dead_letter

NOWHERE = DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing")

LETTER = dead_letter()
PRODUCT = ContractProduct(
    user_id="u",
    contract_id=None,
    product="card",
    occurred_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    source_partition=0,
    source_offset=1,
)


class Sink:
    """A sink that was never started, and a database whose revision a test sets."""

    def __init__(self) -> None:
        self.revision: str | None = "r2"
        self.probe = DatabaseProbe(NOWHERE, current=lambda _: self.revision, head=lambda: "r2")
        self.probe.look()
        settings = load_settings(application_id="test-sink-metrics")
        self.app = SinkApp(settings, KafkaConnection.parse("127.0.0.1:1"), NOWHERE)
        self.app.assigned = frozenset({TP("scores", 0)})
        self.health = Health(
            self.standing, liveness_timeout_s=10.0, commit_interval_s=1.0, stall_timeout_s=60.0, look_s=1.0
        )

    def standing(self) -> Any:
        return standing_of(self.app, self.probe)

    def give_consumer(self, lag: dict[TP, int], unreachable_s: float = 0.0) -> None:
        self.app._consumer = cast(Any, SimpleNamespace(lag=lambda: lag, unreachable_s=unreachable_s))


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_exports_what_the_catalogue_says_of_a_sink(sink: Sink) -> None:
    families = {family.name: family for family in SinkCollector(sink.app, sink.health, sink.probe).collect()}
    of_sink = {name: metric for name, metric in METRICS.items() if "sink" in metric.sources}
    assert set(families) == {name.removesuffix("_total") for name in of_sink}
    for name, metric in of_sink.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert sample.name in metric.sample_names
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_counts_what_was_written(sink: Sink) -> None:
    figures = sink.app.figures
    with figures.writing():
        assert sink.standing().work
    figures.note_written([LETTER, LETTER, PRODUCT])
    figures.note_failure()
    figures.skipped += 1
    sink.give_consumer({TP("scores", 1): 4}, unreachable_s=2.0)
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in SinkCollector(sink.app, sink.health, sink.probe).collect()
        for sample in family.samples
    }
    assert samples["foreshock_sink_records_total", "dead_letters"] == 2
    assert samples["foreshock_sink_records_total", "products"] == 1
    assert samples["foreshock_sink_records_total", "scores"] == 0
    assert samples["foreshock_sink_batch_seconds_count",] == 1
    assert samples["foreshock_sink_retries_total",] == 1
    assert samples["foreshock_sink_skipped_records_total",] == 1
    assert samples["foreshock_sink_lag_records", "1", "scores"] == 4
    assert samples["foreshock_broker_unreachable_seconds",] == 2.0
    assert samples["foreshock_database_schema_current",] == 1


def test_an_attempt_that_fails_is_no_batch() -> None:
    figures = SinkFigures()
    with pytest.raises(DatabaseUnavailable), figures.writing():
        raise DatabaseUnavailable("away")
    assert figures.batches.count == 0
    assert not figures.is_writing


def test_it_is_ready_with_partitions_and_a_database_of_this_release(sink: Sink) -> None:
    assert sink.standing().unready is None
    sink.app.assigned = None
    assert sink.standing().unready == "the group shares out its partitions"
    sink.app.assigned = frozenset()
    assert sink.standing().unready is None, "it stands by"


def test_a_database_that_is_behind_makes_it_unready(sink: Sink) -> None:
    sink.revision = "r1"
    sink.probe.look()
    found = sink.standing()
    assert "is at revision r1, this release needs r2: run `foreshock db upgrade`" in (found.unready or "")


def test_waiting_for_the_database_is_no_reason_to_start_again(sink: Sink) -> None:
    sink.app.figures.note_failure()
    found = sink.standing()
    assert (found.excuse, found.unready) == ("the database is not available",) * 2
    sink.app.figures.note_written([])
    assert sink.standing().excuse is None
