"""Which brokers can be measured on."""

from __future__ import annotations

import pytest

from bench.suite import broker
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.kafka.security import KafkaSecurity


def test_a_comparison_needs_a_broker_that_takes_plain_text() -> None:
    secured = KafkaConnection((BrokerAddress("localhost", 1),), security=KafkaSecurity("SSL"))
    with (
        pytest.raises(ProvisioningError, match=r"^security_protocol: is SSL"),
        broker(secured, ["throughput"], lambda _: None),
    ):
        raise AssertionError("there is nothing to measure on")
