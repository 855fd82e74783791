"""Says in words why TLS or SASL with a broker failed, and which setting to look at. Connects to nothing."""

from __future__ import annotations

import ssl

from stream.kafka.oauth import TokenError
from stream.kafka.sasl import AUTHENTICATION_FAILED, ILLEGAL_STATE, UNSUPPORTED_MECHANISM, NotKafka, SaslError
from stream.kafka.security import KafkaSecurity

_OTHER_HOST = (62, 64)
"""OpenSSL's codes of a certificate with another name, and of one with another IP address."""

_EXPIRED = 10
_ABOUT_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


class BrokerRefuses(ConnectionError):
    """A broker can be reached, but TLS or SASL with it fails. The message is `address: what; what to do`."""


def refusal(error: Exception, security: KafkaSecurity) -> str | None:
    """`what; what to do` when the error is one of TLS or SASL; None for others, for example a broker that is down."""
    if isinstance(error, TokenError):
        return str(error)
    if isinstance(error, SaslError):
        return _by_sasl(error, security)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _by_certificate(error)
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "").upper():
        return _by_alert(error.reason or "", security)
    if isinstance(error, ssl.SSLError):
        return f"does not speak TLS as we do ({error.reason or error}); check security_protocol and the port"
    if isinstance(error, NotKafka):
        return f"does not speak Kafka by {security.protocol}; check security_protocol and the port"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return _by_closing(security)
    return None


def _by_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_HOST:
        return (
            f"the broker's certificate is for another host ({error.verify_message}); connect by a name that is in the "
            "certificate (bootstrap_servers, the brokers' advertised.listeners), or set ssl_check_hostname to false"
        )
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired; it has to be renewed"
    return (
        f"the broker's certificate comes from an authority that is not trusted ({error.verify_message}); set "
        "ssl_cafile to the PEM file of the authority that signed it"
    )


def _by_alert(reason: str, security: KafkaSecurity) -> str:
    if any(sign in reason.upper() for sign in _ABOUT_OUR_CERTIFICATE):
        if security.certfile is None:
            return f"the broker wants a client certificate ({reason}); set ssl_certfile and ssl_keyfile"
        return f"the broker refuses the client certificate of ssl_certfile ({reason}); use one that it trusts"
    return f"the broker ends the TLS handshake ({reason}); check security_protocol and the port"


def _by_sasl(error: SaslError, security: KafkaSecurity) -> str:
    if error.code == UNSUPPORTED_MECHANISM:
        offered = ", ".join(error.mechanisms) or "none"
        return f"the broker does not take {security.mechanism}; set sasl_mechanism to one that it offers: {offered}"
    if error.code == ILLEGAL_STATE:
        return "the broker's listener uses no SASL; set security_protocol to SSL or use another port"
    if security.mechanism == "OAUTHBEARER":
        source = "oauth_token_command" if security.token_endpoint is None else "sasl_oauthbearer_client_id and _scope"
        return f"the broker refuses the token ({error}); check {source} and what the broker expects"
    if error.code == AUTHENTICATION_FAILED:
        return f"the broker refuses the user ({error}); check sasl_username and sasl_password, and sasl_mechanism"
    return f"authentication fails ({error}); check sasl_mechanism, sasl_username and sasl_password"


def _by_closing(security: KafkaSecurity) -> str | None:
    if security.sasl:
        return "the broker closes the connection before authentication; check security_protocol and the port"
    if security.tls and security.certfile is None:
        return (
            "the broker closes the connection; set security_protocol to SASL_SSL if it wants a password, ssl_certfile "
            "and ssl_keyfile if it wants a client certificate"
        )
    if security.tls:
        return "the broker closes the connection; check ssl_certfile, and security_protocol if it wants a password"
    return None
