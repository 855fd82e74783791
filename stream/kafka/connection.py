"""How to reach Kafka: one frozen value from which every client takes its keyword arguments.

Made from settings or from the address of an embedded broker. Opens nothing: that is `stream.kafka.clients` and
`stream.kafka.faust_app`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from stream.kafka.security import KafkaSecurity
from stream.settings import Settings, SettingsError, on_this_machine

CLIENT_ID = "foreshock"
"""Name of all clients in the broker's logs, metrics and quotas."""

TRANSPORT_SCHEME = "foreshock"
"""Scheme of the broker URLs that make Faust load `stream.kafka.transport`."""

_HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]")
_LARGEST_PORT = 65_535


class BrokerAddress(NamedTuple):
    """Where a broker listens. `host` is a name, an IPv4 address, or an IPv6 address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class KafkaConnection:
    """How to reach a Kafka cluster. `addresses` are the brokers to ask first (at least one); they name the others.

    Passwords in `security` are not in its `repr`, nor in `str()` of it.
    """

    addresses: tuple[BrokerAddress, ...]
    client_id: str = CLIENT_ID
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    @classmethod
    def parse(cls, bootstrap_servers: str) -> Self:
        """From `host:port,…`, where an IPv6 host stands in brackets. Blanks and empty entries are left out.

        Raises `SettingsError` naming `bootstrap_servers` for what is no such list.
        """
        entries = [entry for part in bootstrap_servers.split(",") if (entry := part.strip())]
        if not entries:
            raise SettingsError(f"bootstrap_servers: {bootstrap_servers!r} names no broker; expected host:port,…")
        return cls(tuple(_address(entry) for entry in entries))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """From `bootstrap_servers` and the settings of TLS and SASL; None when `bootstrap_servers` is not set.

        Raises `SettingsError` naming the setting: as `parse` and `KafkaSecurity.from_settings` do, and where records
        would cross a network without TLS although `insecure` does not say so.
        """
        if settings.bootstrap_servers is None:
            if settings.security_protocol != "PLAINTEXT":
                raise SettingsError(
                    f"security_protocol: is {settings.security_protocol}, but bootstrap_servers is not set, and the "
                    "embedded broker takes PLAINTEXT only; set bootstrap_servers, or unset security_protocol"
                )
            return None
        connection = replace(cls.parse(settings.bootstrap_servers), security=KafkaSecurity.from_settings(settings))
        away = [address for address in connection.addresses if not on_this_machine(address.host)]
        if away and not connection.security.tls and not settings.insecure:
            raise SettingsError(
                f"security_protocol: {connection.security.protocol} would send borrowers' events to {away[0]} without "
                "encryption; set security_protocol to SASL_SSL or SSL, or, where everybody on the network may read and "
                "change them, set insecure to true (--insecure)"
            )
        return connection

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,…` as the setting has it: for messages, and for the settings of other processes."""
        return ",".join(map(str, self.addresses))

    def __str__(self) -> str:
        return self.bootstrap_servers

    def aiokafka_options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        return self._options() | self.security.aiokafka_options()

    def kafka_python_options(self) -> dict[str, Any]:
        """Keyword arguments of kafka-python's clients."""
        return self._options() | self.security.kafka_python_options()

    def _options(self) -> dict[str, Any]:
        return {"bootstrap_servers": [str(address) for address in self.addresses], "client_id": self.client_id}

    def faust_options(self) -> dict[str, Any]:
        """Keyword arguments of a Faust app, on the transport of `stream.kafka.transport`."""
        return {
            "broker": [f"{TRANSPORT_SCHEME}://{address}" for address in self.addresses],
            "broker_client_id": self.client_id,
            **self.security.faust_options(),
        }


def _address(entry: str) -> BrokerAddress:
    host, _, port = entry.rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= _LARGEST_PORT:
        raise SettingsError(
            f"bootstrap_servers: {entry!r} is not host:port; expected e.g. broker-1.example:9092,[2001:db8::2]:9092"
        )
    return BrokerAddress(host.strip("[]"), int(port))
