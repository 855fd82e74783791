"""From addresses as people write them to the arguments of every client."""

from __future__ import annotations

import re

import pytest
from aiokafka.conn import collect_hosts
from faust.transport.drivers.aiokafka import server_list
from faust.utils import urls
from hypothesis import given
from hypothesis import strategies as st
from kafka.cluster import collect_hosts as kafka_python_hosts

from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.settings import Settings, SettingsError

PORTS = st.integers(1, 65_535)
HOSTS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{2,8}){0,3}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
ADDRESSES = st.lists(st.builds(BrokerAddress, HOSTS, PORTS), min_size=1, max_size=4)
BLANKS = st.sampled_from(["", " ", "\t", "  "])


@given(ADDRESSES, st.data())
def test_addresses_come_back_whatever_blanks_are_between(addresses: list[BrokerAddress], data: st.DataObject) -> None:
    text = ",".join(data.draw(BLANKS) + str(address) + data.draw(BLANKS) for address in addresses)
    connection = KafkaConnection.parse(text)
    assert connection.addresses == tuple(addresses)
    assert KafkaConnection.parse(connection.bootstrap_servers) == connection


def test_empty_entries_are_left_out() -> None:
    assert KafkaConnection.parse(" a:1,, b:2 ,").bootstrap_servers == "a:1,b:2"


@pytest.mark.parametrize(
    "entry",
    [
        "localhost",
        ":9092",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "::1:9092",
        "[::1]",
        "a b:1",
        "kafka://a:1",
        "h:٣",
    ],
)
def test_what_is_no_address_names_the_setting(entry: str) -> None:
    with pytest.raises(SettingsError, match="bootstrap_servers: ") as caught:
        KafkaConnection.parse(f"good:9092, {entry}")
    assert repr(entry) in str(caught.value)
    assert "good:9092" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_a_list_without_a_broker_names_the_setting(text: str) -> None:
    with pytest.raises(SettingsError, match=r"bootstrap_servers: .* names no broker"):
        KafkaConnection.parse(text)


def test_made_from_settings() -> None:
    assert KafkaConnection.from_settings(Settings()) is None
    connection = KafkaConnection.from_settings(Settings(bootstrap_servers="[::1]:9092"))
    assert connection == KafkaConnection((BrokerAddress("::1", 9092),))


@given(ADDRESSES)
def test_every_library_understands_what_it_is_given(addresses: list[BrokerAddress]) -> None:
    connection = KafkaConnection(tuple(addresses), client_id="me")
    expected = [(address.host, address.port) for address in addresses]

    options = connection.aiokafka_options()
    assert [(host, port) for host, port, _ in collect_hosts(options["bootstrap_servers"], randomize=False)] == expected
    assert options["client_id"] == "me"

    options = connection.kafka_python_options()
    found = kafka_python_hosts(options["bootstrap_servers"], randomize=False)
    assert [(host, port) for host, port, _ in found] == expected
    assert options["client_id"] == "me"

    options = connection.faust_options()
    servers = server_list(urls.urllist(options["broker"]), 9092)
    assert [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)] == expected
    assert options["broker_client_id"] == "me"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LocalHost.", "[::1]"])
def test_plain_text_stays_on_this_machine(host: str) -> None:
    assert KafkaConnection.from_settings(Settings(bootstrap_servers=f"{host}:9092")) is not None


@pytest.mark.parametrize("host", ["broker-1", "10.0.0.4", "[2001:db8::2]", "localhost.example", "0.0.0.0"])
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_plain_text_leaves_this_machine_only_when_told_so(host: str, protocol: str) -> None:
    sasl = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"} if "SASL" in protocol else {}
    settings = Settings(bootstrap_servers=f"127.0.0.1:1,{host}:9092", security_protocol=protocol, **sasl)
    with pytest.raises(SettingsError, match=rf"^security_protocol: {protocol} .*{re.escape(host)}.*--insecure"):
        KafkaConnection.from_settings(settings)
    told = settings.model_copy(update={"insecure": True})
    assert KafkaConnection.from_settings(told) is not None
    encrypted = settings.model_copy(update={"security_protocol": protocol.replace("PLAINTEXT", "SSL").lstrip("_")})
    assert KafkaConnection.from_settings(encrypted) is not None


def test_security_is_for_a_broker_of_ones_own() -> None:
    with pytest.raises(SettingsError, match="security_protocol: is SSL, but bootstrap_servers is not set"):
        KafkaConnection.from_settings(Settings(security_protocol="SSL"))
