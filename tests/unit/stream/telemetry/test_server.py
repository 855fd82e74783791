"""Probes and metrics are answered by HTTP, with the status that orchestrators go by."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stream.telemetry.health import Health, Standing
from stream.telemetry.server import TelemetryServer

WORKING = Standing(commits=1, polls=1, work=True, partitions=1)


class Figures(Collector):
    """One gauge; or what happens when a collector fails."""

    fails = False

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self.fails:
            raise KeyError("secret")
        yield GaugeMetricFamily("foreshock_users", "Users.", value=2)


class Served:
    """A server, what it says of health, and how to ask it."""

    def __init__(self) -> None:
        self.now = WORKING
        self.figures = Figures()
        health = Health(
            lambda: self.now, liveness_timeout_s=10.0, commit_interval_s=1.0, stall_timeout_s=60.0, look_s=1.0
        )
        self.server = TelemetryServer("127.0.0.1", 0, [self.figures], health)
        self.server.start()

    def ask(self, path: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers["Content-Type"], body


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_probes_are_answered_with_a_status_and_a_reason(served: Served) -> None:
    for path, word in (("/livez", "live"), ("/readyz?verbose", "ready")):
        status, content_type, body = served.ask(path)
        assert (status, content_type, json.loads(body)["status"]) == (200, "application/json", word)
    served.now = Standing(commits=1, polls=1, work=True, partitions=1, unready="no states", ends="Fenced")
    for path, word in (("/livez", "not live"), ("/readyz", "not ready")):
        status, _, body = served.ask(path)
        assert (status, json.loads(body)["status"]) == (503, word)
        assert "Fenced" in json.loads(body)["reason"]


def test_metrics_are_prometheus_text_with_those_of_the_process(served: Served) -> None:
    status, content_type, body = served.ask("/metrics")
    assert status == 200
    assert content_type is not None
    assert content_type.startswith("text/plain")
    samples = {s.name: s.value for family in text_string_to_metric_families(body.decode()) for s in family.samples}
    assert samples["foreshock_users"] == 2
    assert samples["process_resident_memory_bytes"] > 0


def test_another_path_is_not_found_and_told_what_there_is(served: Served) -> None:
    status, _, body = served.ask("/table/user_state")
    assert (status, body) == (404, b"ask for /livez, /readyz, /metrics\n")


def test_a_collector_that_fails_is_an_error_that_shows_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.figures.fails = True
    status, _, body = served.ask("/metrics")
    assert status == 500
    assert b"secret" not in body
    assert "/metrics could not be answered" in caplog.text
    served.figures.fails = False
    assert served.ask("/metrics")[0] == 200


def test_an_address_in_use_is_an_os_error(served: Served) -> None:
    with pytest.raises(OSError, match="in use"):
        TelemetryServer("127.0.0.1", served.server.server_port, [], served.server.health)
