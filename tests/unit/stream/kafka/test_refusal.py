"""Which setting a failure of TLS or SASL points at. What real brokers send is in tests/integration/test_security.py."""

from __future__ import annotations

import ssl

import pytest

from stream.kafka.oauth import TokenError
from stream.kafka.refusal import refusal
from stream.kafka.sasl import AUTHENTICATION_FAILED, ILLEGAL_STATE, UNSUPPORTED_MECHANISM, NotKafka, SaslError
from stream.kafka.security import KafkaSecurity

TLS = KafkaSecurity("SSL")
SCRAM = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "worker", "correct-horse")
OAUTH = KafkaSecurity("SASL_SSL", "OAUTHBEARER", token_command="x")


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "security", "words"),
    [
        (unverified(20, "unable to get local issuer certificate"), TLS, "ssl_cafile"),
        (unverified(18, "self-signed certificate"), TLS, "ssl_cafile"),
        (unverified(62, "Hostname mismatch"), TLS, "another host"),
        (unverified(64, "IP address mismatch"), TLS, "ssl_check_hostname"),
        (unverified(10, "certificate has expired"), TLS, "expired"),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), TLS, "set ssl_certfile and ssl_keyfile"),
        (alert("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), KafkaSecurity("SSL", certfile=__file__), "refuses the client"),  # type: ignore[arg-type]
        (alert("TLSV1_ALERT_PROTOCOL_VERSION"), TLS, "ends the TLS handshake"),
        (alert("WRONG_VERSION_NUMBER"), TLS, "security_protocol and the port"),
        (NotKafka(), SCRAM, "security_protocol and the port"),
        (ConnectionResetError(), TLS, "SASL_SSL if it wants a password"),
        (ConnectionResetError(), SCRAM, "before authentication"),
        (ConnectionResetError(), KafkaSecurity("SSL", certfile=__file__), "check ssl_certfile"),  # type: ignore[arg-type]
        (SaslError(AUTHENTICATION_FAILED, "no"), SCRAM, "sasl_username and sasl_password"),
        (SaslError(AUTHENTICATION_FAILED, "no"), OAUTH, "oauth_token_command"),
        (SaslError(UNSUPPORTED_MECHANISM, mechanisms=("PLAIN",)), SCRAM, "offers: PLAIN"),
        (SaslError(ILLEGAL_STATE), SCRAM, "uses no SASL"),
        (SaslError(35), SCRAM, "sasl_mechanism"),
        (TokenError("oauth_token_command: no token"), OAUTH, "oauth_token_command: no token"),
    ],
)
def test_the_setting_is_named(error: Exception, security: KafkaSecurity, words: str) -> None:
    reason = refusal(error, security)
    assert reason is not None
    assert words in reason
    assert "correct-horse" not in reason


def test_a_broker_that_is_down_is_another_matter() -> None:
    for error in (ConnectionRefusedError(), TimeoutError(), OSError("no route")):
        assert refusal(error, SCRAM) is None
    assert refusal(ConnectionResetError(), KafkaSecurity()) is None
