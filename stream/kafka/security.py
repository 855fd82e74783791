"""How connections to Kafka are encrypted and authenticated: the settings, checked, as one frozen value.

Each client library gets its keyword arguments from here. Reads certificate files; connects to nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from stream.kafka.oauth import TokenCommand, Tokens
from stream.kafka.token_endpoint import ClientCredentials, TokenEndpoint
from stream.settings import SaslMechanism, SecurityProtocol, Settings, SettingsError

TLS = ("SSL", "SASL_SSL")
SASL = ("SASL_PLAINTEXT", "SASL_SSL")

_TLS_SETTINGS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password")
_ENDPOINT_SETTINGS = (
    "sasl_oauthbearer_token_endpoint_url",
    "sasl_oauthbearer_client_id",
    "sasl_oauthbearer_client_secret",
    "sasl_oauthbearer_scope",
    "sasl_oauthbearer_cafile",
)
_TOKEN_SETTINGS = ("oauth_token_command", *_ENDPOINT_SETTINGS)
_SASL_SETTINGS = ("sasl_mechanism", "sasl_username", "sasl_password", *_TOKEN_SETTINGS)


@dataclass(frozen=True)
class KafkaSecurity:
    """TLS and SASL of a Kafka cluster's listener. Names and meanings are those of Kafka's own client settings.

    Nothing secret is in its `repr`. `from_settings` refuses combinations that make no sense.
    """

    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: SaslMechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_command: str | None = field(default=None, repr=False)
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True
    token_endpoint: TokenEndpoint | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """From `security_protocol`, `sasl_*`, `ssl_*` and `oauth_token_command`; reads the files that they name.
        Asks for no token.

        Raises `SettingsError` naming the setting.
        """
        _check(settings)
        security = cls(
            settings.security_protocol,
            settings.sasl_mechanism,
            settings.sasl_username,
            _revealed(settings.sasl_password),
            settings.oauth_token_command,
            settings.ssl_cafile,
            settings.ssl_certfile,
            settings.ssl_keyfile,
            _revealed(settings.ssl_keyfile_password),
            settings.ssl_check_hostname,
            _token_endpoint(settings),
        )
        _ = security.ssl_context  # what is wrong with the files is to be said now
        return security

    @property
    def tls(self) -> bool:
        return self.protocol in TLS

    @property
    def sasl(self) -> bool:
        return self.protocol in SASL

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """None without TLS. Always checks the broker's certificate. Raises `SettingsError` when a file is no good."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except OSError as error:
            raise SettingsError(f"ssl_cafile: {self.cafile} holds no certificates in PEM format ({error})") from None
        context.check_hostname = self.check_hostname
        if self.certfile is not None:
            try:
                # Without a password OpenSSL would ask for one at the terminal.
                context.load_cert_chain(self.certfile, self.keyfile, password=self.keyfile_password or "")
            except OSError as error:
                raise SettingsError(_unusable_certificate(error)) from None
        return context

    @cached_property
    def tokens(self) -> Tokens | None:
        """Source of OAuth tokens, shared by all clients; None for other mechanisms."""
        if self.token_endpoint is not None:
            return ClientCredentials(self.token_endpoint)
        return None if self.token_command is None else TokenCommand(self.token_command)

    @property
    def principal(self) -> str:
        """Who the broker takes this client for, as Kafka writes it where that is known: `User:worker`."""
        if self.mechanism == "OAUTHBEARER":
            return "User:<the token's subject>"
        if self.sasl:
            return f"User:{self.username}"
        return "User:ANONYMOUS" if self.certfile is None else "User:<the client certificate's subject>"

    def aiokafka_options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        if self.protocol == "PLAINTEXT":
            return {}
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.ssl_context}
        if self.tokens is not None:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_oauth_token_provider": _aiokafka_token_provider(self.tokens),
            }
        elif self.sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def kafka_python_options(self) -> dict[str, Any]:
        """Keyword arguments of kafka-python's clients, and of its SASL mechanisms."""
        options = self.aiokafka_options()
        if self.tokens is not None:
            options["sasl_oauth_token_provider"] = _kafka_python_token_provider(self.tokens)
        elif self.username is not None and (self.mechanism or "").startswith("SCRAM-"):
            options["sasl_plain_username"] = _scram_name(self.username)  # it does not do so itself
        return options

    def faust_options(self) -> dict[str, Any]:
        """Keyword arguments of a Faust app."""
        import faust

        if self.tokens is not None:
            oauth = faust.OAuthCredentials(oauth_cb=_aiokafka_token_provider(self.tokens), ssl_context=self.ssl_context)
            return {"broker_credentials": oauth}
        if self.sasl:
            credentials = faust.SASLCredentials(
                mechanism=self.mechanism,
                username=self.username,
                password=self.password,
                ssl_context=self.ssl_context,
            )
            return {"broker_credentials": credentials}
        return {"broker_credentials": faust.SSLCredentials(self.ssl_context)} if self.tls else {}


def _check(settings: Settings) -> None:
    protocol, mechanism = settings.security_protocol, settings.sasl_mechanism
    given = {name for name in (*_TLS_SETTINGS, *_SASL_SETTINGS) if getattr(settings, name) is not None}

    def unused(names: tuple[str, ...], because: str, remedy: str) -> None:
        for name in names:
            if name in given:
                raise SettingsError(f"{name}: is set, but {because}; {remedy}, or unset {name}")

    def needed(names: tuple[str, ...], because: str) -> None:
        for name in names:
            if name not in given:
                raise SettingsError(f"{name}: not set, but {because}; set it")

    if protocol not in TLS:
        unused(
            _TLS_SETTINGS,
            f"security_protocol is {protocol}, which has no TLS",
            "set security_protocol to SSL or SASL_SSL",
        )
    if protocol not in SASL:
        unused(
            _SASL_SETTINGS,
            f"security_protocol is {protocol}, which has no SASL",
            "set security_protocol to SASL_SSL",
        )
    else:
        needed(("sasl_mechanism",), f"security_protocol is {protocol}")
        because = f"sasl_mechanism is {mechanism}"
        if mechanism == "OAUTHBEARER":
            unused(("sasl_username", "sasl_password"), because, "set sasl_mechanism to SCRAM-SHA-512 or PLAIN")
            _check_token_source(given, unused, needed)
        else:
            needed(("sasl_username", "sasl_password"), because)
            unused(_TOKEN_SETTINGS, because, "set sasl_mechanism to OAUTHBEARER")
    if "ssl_certfile" not in given:
        unused(("ssl_keyfile", "ssl_keyfile_password"), "ssl_certfile is not", "set ssl_certfile")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "sasl_oauthbearer_cafile"):
        if name in given and not getattr(settings, name).is_file():
            raise SettingsError(f"{name}: {getattr(settings, name)} is not a file; name an existing PEM file")


def _check_token_source(
    given: set[str],
    unused: Callable[[tuple[str, ...], str, str], None],
    needed: Callable[[tuple[str, ...], str], None],
) -> None:
    """A token comes from a command or from an endpoint, and the latter needs to know who asks."""
    address, client, secret, *_ = _ENDPOINT_SETTINGS
    if "oauth_token_command" in given:
        unused(_ENDPOINT_SETTINGS, "oauth_token_command is set, too", "unset oauth_token_command")
    elif given.isdisjoint(_ENDPOINT_SETTINGS):
        raise SettingsError(
            f"oauth_token_command: not set, but sasl_mechanism is OAUTHBEARER; set it, or {address} with {client} and "
            f"{secret}"
        )
    else:
        needed((address,), "other settings of the token endpoint are")
        needed((client, secret), f"{address} is")


def _token_endpoint(settings: Settings) -> TokenEndpoint | None:
    """The endpoint of settings that `_check` has passed; None where there is none. Raises `SettingsError`."""
    address, secret = settings.sasl_oauthbearer_token_endpoint_url, settings.sasl_oauthbearer_client_secret
    if address is None or secret is None or settings.sasl_oauthbearer_client_id is None:
        return None
    endpoint = TokenEndpoint(
        address,
        settings.sasl_oauthbearer_client_id,
        secret.get_secret_value(),
        settings.sasl_oauthbearer_scope,
        settings.sasl_oauthbearer_cafile,
    )
    endpoint.check(insecure=settings.insecure)
    return endpoint


def _unusable_certificate(error: OSError) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "ssl_keyfile: the key does not belong to the certificate in ssl_certfile; name the one that does"
    return (
        f"ssl_certfile, ssl_keyfile: cannot be loaded ({error}); expected a certificate and its private key in PEM "
        "format, and ssl_keyfile_password where the key is encrypted"
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _scram_name(username: str) -> str:
    """A user name as SCRAM messages have it (RFC 5802, section 5.1)."""
    return username.replace("=", "=3D").replace(",", "=2C")


def _aiokafka_token_provider(tokens: Tokens) -> Any:
    from aiokafka.abc import AbstractTokenProvider

    class Provider(AbstractTokenProvider):  # type: ignore[misc]
        async def token(self) -> str:
            return await asyncio.to_thread(tokens.token)

    return Provider()


def _kafka_python_token_provider(tokens: Tokens) -> Any:
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Provider(AbstractTokenProvider):  # type: ignore[misc]
        def token(self) -> str:
            return tokens.token()

    return Provider()
