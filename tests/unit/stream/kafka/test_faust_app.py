"""What every Faust app of the project has in common."""

from __future__ import annotations

import pytest

from stream.kafka.connection import KafkaConnection
from stream.kafka.faust_app import faust_app
from stream.kafka.transport import Transport
from stream.settings import load_settings

CONNECTION = KafkaConnection.parse("[::1]:9092, broker-2:9093")


def test_the_connection_and_the_settings_decide() -> None:
    settings = load_settings(session_timeout_s=120.0, commit_interval_s=0.5, batch_max_records=77)
    app = faust_app(settings, CONNECTION, "test-app")
    assert app.connection is CONNECTION
    assert [(url.scheme, url.host, url.port) for url in app.conf.broker] == [
        ("foreshock", "::1", 9092),
        ("foreshock", "broker-2", 9093),
    ]
    assert isinstance(app.transport, Transport)
    assert (app.conf.id, app.conf.broker_client_id) == ("test-app", "foreshock")
    assert app.conf.broker_commit_interval == 0.5
    assert app.conf.broker_max_poll_records == 77
    assert app.conf.broker_session_timeout == 120.0
    assert app.conf.broker_request_timeout > app.conf.broker_session_timeout, "Faust refuses less"


@pytest.mark.parametrize("session_timeout_s", [1.0, 89.0, 90.0, 300.0])
def test_requests_may_always_take_longer_than_a_session(session_timeout_s: float) -> None:
    app = faust_app(load_settings(session_timeout_s=session_timeout_s), CONNECTION, "test-app")
    assert app.conf.broker_request_timeout >= max(90.0, session_timeout_s + 1)


def test_overrides_replace_what_is_shared() -> None:
    app = faust_app(
        load_settings(standby_replicas=1), CONNECTION, "test-app", store="memory://", table_standby_replicas=0
    )
    assert app.conf.store.scheme == "memory"
    assert app.conf.table_standby_replicas == 0
