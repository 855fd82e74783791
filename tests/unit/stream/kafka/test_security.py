"""TLS and SASL: what makes sense together, what the libraries are given, and what is never shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import faust
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from stream.kafka.connection import KafkaConnection
from stream.kafka.security import KafkaSecurity
from stream.settings import Settings, SettingsError, load_settings

SECRET = "correct-horse"
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "worker", "sasl_password": SECRET}


class Files:
    """Certificates as operators have them."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.cafile, self.certfile, self.keyfile = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.both, self.encrypted, self.other = folder / "both.pem", folder / "encrypted.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(str(self.cafile))
        issued = authority.issue_cert("worker@bank.example")
        self.certfile.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.keyfile))
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.both))
        authority.issue_cert("another@bank.example").private_key_pem.write_to_path(str(self.other))
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.encrypted.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(SECRET.encode()),
            )
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def security(**settings: Any) -> KafkaSecurity:
    return KafkaSecurity.from_settings(load_settings(**settings))


def test_nothing_is_asked_of_the_libraries_where_nothing_is_set() -> None:
    plain = security()
    assert plain == KafkaSecurity()
    assert plain.aiokafka_options() == plain.kafka_python_options() == plain.faust_options() == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism: not set, but security_protocol is SASL_SSL"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "sasl_username: not set, but sasl_mechanism"),
        ({"security_protocol": "SASL_SSL", **SCRAM, "sasl_password": None}, "sasl_password: not set"),
        ({"security_protocol": "SASL_SSL", **SCRAM, "oauth_token_command": "x"}, "oauth_token_command: is set, but"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "oauth_token_command: not set"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth_token_command": "x",
             "sasl_username": "u"},
            "sasl_username: is set, but sasl_mechanism is OAUTHBEARER",
        ),
        ({"security_protocol": "SSL", **SCRAM}, "sasl_mechanism: is set, but security_protocol is SSL"),
        ({"sasl_password": SECRET}, "sasl_password: is set, but security_protocol is PLAINTEXT"),
        ({"ssl_cafile": "x"}, "ssl_cafile: is set, but security_protocol is PLAINTEXT, which has no TLS"),
        ({"security_protocol": "SSL", "ssl_cafile": "/no/such"}, "ssl_cafile: /no/such is not a file"),
        ({"security_protocol": "SSL", "ssl_keyfile": "x"}, "ssl_keyfile: is set, but ssl_certfile is not"),
        ({"security_protocol": "SSL", "ssl_keyfile_password": SECRET}, "ssl_keyfile_password: is set, but"),
        ({"security_protocol": "TLS"}, "security_protocol: "),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "sasl_mechanism: "),
    ],
)  # fmt: skip
def test_what_makes_no_sense_names_the_setting(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        security(**settings)
    assert str(caught.value).startswith(message)
    assert SECRET not in str(caught.value)


def test_certificates_that_cannot_be_used_name_the_setting(files: Files, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    with pytest.raises(SettingsError, match=r"^ssl_cafile: .* holds no certificates"):
        security(security_protocol="SSL", ssl_cafile=empty)
    with pytest.raises(SettingsError, match=r"^ssl_keyfile: the key does not belong"):
        security(security_protocol="SSL", ssl_certfile=files.certfile, ssl_keyfile=files.other)
    for password in (None, "wrong-word"):
        with pytest.raises(SettingsError, match="ssl_keyfile_password") as caught:
            security(
                security_protocol="SSL",
                ssl_certfile=files.certfile,
                ssl_keyfile=files.encrypted,
                ssl_keyfile_password=password,
            )
        assert "wrong-word" not in str(caught.value)


def test_certificates_that_can_be_used(files: Files) -> None:
    security(security_protocol="SSL", ssl_certfile=files.both)
    security(security_protocol="SSL", ssl_certfile=files.certfile, ssl_keyfile=files.keyfile)
    found = security(
        security_protocol="SSL",
        ssl_cafile=files.cafile,
        ssl_certfile=files.certfile,
        ssl_keyfile=files.encrypted,
        ssl_keyfile_password=SECRET,
    )
    context = found.ssl_context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) == 1


def test_without_the_host_name_the_certificate_is_checked_all_the_same() -> None:
    context = security(security_protocol="SSL", ssl_check_hostname=False).ssl_context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(("protocol", "tls"), [("SASL_SSL", True), ("SASL_PLAINTEXT", False)])
def test_each_library_gets_user_and_password(protocol: str, tls: bool) -> None:
    found = security(security_protocol=protocol, **SCRAM)
    expected = {
        "security_protocol": protocol,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": SECRET,
        "ssl_context": found.ssl_context,
    }
    assert (found.ssl_context is not None) == tls
    assert found.aiokafka_options() == found.kafka_python_options() == expected
    assert credentials_to_aiokafka_auth(found.faust_options()["broker_credentials"]) == expected


def test_faust_gets_the_same_context(files: Files) -> None:
    found = security(security_protocol="SSL", ssl_cafile=files.cafile)
    credentials = found.faust_options()["broker_credentials"]
    assert isinstance(credentials, faust.SSLCredentials)
    assert credentials.context is found.ssl_context is found.aiokafka_options()["ssl_context"]


async def test_each_library_gets_tokens() -> None:
    found = security(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", oauth_token_command="echo some-token")
    assert found.kafka_python_options()["sasl_oauth_token_provider"].token() == "some-token"
    assert await found.aiokafka_options()["sasl_oauth_token_provider"].token() == "some-token"
    by_faust = credentials_to_aiokafka_auth(found.faust_options()["broker_credentials"])
    assert await by_faust["sasl_oauth_token_provider"].token() == "some-token"
    assert (by_faust["security_protocol"], by_faust["sasl_mechanism"]) == ("SASL_SSL", "OAUTHBEARER")


def test_a_name_with_signs_that_scram_uses() -> None:
    """aiokafka writes it as RFC 5802 wants it, kafka-python as it is given."""
    named = SCRAM | {"sasl_username": "a,b=c"}
    found = security(security_protocol="SASL_PLAINTEXT", **named)
    assert found.kafka_python_options()["sasl_plain_username"] == "a=2Cb=3Dc"
    assert found.aiokafka_options()["sasl_plain_username"] == "a,b=c"
    plain = security(security_protocol="SASL_PLAINTEXT", **(named | {"sasl_mechanism": "PLAIN"}))
    assert plain.kafka_python_options()["sasl_plain_username"] == "a,b=c"


def test_nothing_secret_is_shown(files: Files) -> None:
    settings = Settings(
        bootstrap_servers="broker.example:9093",
        security_protocol="SASL_SSL",
        **SCRAM,
        database_url=f"postgresql://u:{SECRET}@h/d",
        database_password=SECRET,
        ssl_certfile=files.certfile,
        ssl_keyfile=files.encrypted,
        ssl_keyfile_password=SECRET,
    )
    connection = KafkaConnection.from_settings(settings)
    assert connection is not None
    shown = [settings, settings.model_dump(exclude={"database_url"}), connection, connection.security]
    shown += [connection.security.faust_options(), connection.security.ssl_context]
    assert all(SECRET not in f"{thing!r} {thing}" for thing in shown)
