"""Listeners of the embedded broker beside its plain one, with certificates and passwords: for tests of secured clients.

Says what goes into the broker's configuration. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SSL, MUTUAL, SASL = "SSL", "MUTUAL", "SASL"
"""Names of the listeners: TLS without and with a client certificate, and TLS with SASL."""

HOST = "localhost"
"""What the listeners say they are called: the name that the broker's certificate must hold."""

_PROTOCOLS = {SSL: "SSL", MUTUAL: "SSL", SASL: "SASL_SSL"}
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecureListeners:
    """`certificate` holds the broker's certificate and its private key (PKCS #8), `authority` the certificates of those
    whose clients are trusted, both PEM. `users` are names and passwords, for PLAIN and for both kinds of SCRAM.

    With `administrators` nobody but them may do anything that no ACL allows; names are principals, `User:name`. The
    plain listener's clients are `User:ANONYMOUS`, those with a certificate have its common name. OAUTHBEARER takes
    unsigned tokens.
    """

    certificate: Path
    authority: Path
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    administrators: tuple[str, ...] = ()

    def properties(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Lines of the broker's configuration; `ports` by name of the listener."""
        stores = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificate),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority),
        }
        found = {f"listener.name.{name.lower()}.{key}": value for name in ports for key, value in stores.items()}
        found[f"listener.name.{MUTUAL.lower()}.ssl.client.auth"] = "required"
        sasl = f"listener.name.{SASL.lower()}"
        found[f"{sasl}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
        plain = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
        found[f"{sasl}.plain.sasl.jaas.config"] = f"{_MODULES}.plain.PlainLoginModule required{plain};"
        scram = f"{_MODULES}.scram.ScramLoginModule required;"
        found[f"{sasl}.scram-sha-256.sasl.jaas.config"] = found[f"{sasl}.scram-sha-512.sasl.jaas.config"] = scram
        found[f"{sasl}.oauthbearer.sasl.jaas.config"] = f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;"
        if self.administrators:
            found["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            found["ssl.principal.mapping.rules"] = "RULE:^.*CN=([^,]+).*$/$1/"
            found["super.users"] = ";".join(self.administrators)
        return found

    def format_arguments(self) -> list[str]:
        """Arguments that make the storage tool write the users' SCRAM credentials."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]


def protocol_of(listener: str) -> str:
    """Kafka's security protocol of a listener."""
    return _PROTOCOLS[listener]
