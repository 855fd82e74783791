"""OAuth access tokens by client credentials (RFC 6749, section 4.4), from a token endpoint over HTTPS.

Messages say what the endpoint answered, but for the client's secret and tokens. Knows nothing of Kafka.
"""

from __future__ import annotations

import base64
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote_plus, urlencode, urlsplit

from stream.kafka.oauth import TokenError, Tokens, json_object, token_of
from stream.settings import SettingsError, on_this_machine

ANSWER_TIMEOUT_S = 20.0
"""Longest wait for a part of an answer, and for all of it."""

LARGEST_ANSWER_BYTES = 256 * 1024
_LONGEST_WORDS = 300

_SETTING = "sasl_oauthbearer_token_endpoint_url"
_OTHER_HOST, _EXPIRED = (62, 64), 10


@dataclass(frozen=True)
class TokenEndpoint:
    """Where tokens come from, and as whom. The client's secret is not in the `repr`.

    `cafile` holds the authorities that may sign the endpoint's certificate, those of the system when it is None.
    """

    address: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None
    cafile: Path | None = None

    def check(self, *, insecure: bool) -> None:
        """Raises `SettingsError` naming the setting: for what is no URL, where the secret would cross a network in
        plain text although `insecure` does not say so, and for a file that holds no certificates."""
        try:
            parts = urlsplit(self.address)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("https", "http") or "@" in parts.netloc or not self.address.isprintable():
            raise SettingsError(
                f"{_SETTING}: not a URL of the form https://login.bank.example/oauth2/token, without user and password"
            )
        if parts.scheme == "http" and not on_this_machine(host) and not insecure:
            raise SettingsError(
                f"{_SETTING}: would send the client's secret to {host} without encryption; use https, or, where "
                "everybody on the network may read it, set insecure to true (--insecure)"
            )
        self.context()

    def context(self) -> ssl.SSLContext:
        """For TLS with the endpoint, whose certificate and host name are always checked. Raises `SettingsError`."""
        try:
            return ssl.create_default_context(cafile=self.cafile)
        except OSError as error:
            raise SettingsError(
                f"sasl_oauthbearer_cafile: {self.cafile} holds no certificates in PEM format ({error})"
            ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would send the client's secret to an address that nobody has set."""

    def redirect_request(self, *_: Any) -> None:
        return None


class ClientCredentials(Tokens):
    """Tokens of an endpoint. Proxies are those of the environment (`https_proxy`, `no_proxy`); plain HTTP uses none."""

    def __init__(self, endpoint: TokenEndpoint, *, now_s: Callable[[], float] = time.time) -> None:
        super().__init__(now_s=now_s)
        self._endpoint = endpoint
        proxies = {name: proxy for name, proxy in urllib.request.getproxies().items() if name != "http"}
        self._opener = urllib.request.build_opener(
            _NoRedirect,
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPSHandler(context=endpoint.context()),
        )

    def _ask(self, now_s: float) -> tuple[str, float]:
        try:
            with self._opener.open(self._request(), timeout=ANSWER_TIMEOUT_S) as response:
                answer = json_object(_body(response))
        except HTTPError as error:
            with error:
                said = self._told(json_object(_body_of(error)))
            raise TokenError(self._words(f"answers {error.code}{said}; {_remedy(error.code)}")) from None
        except URLError as error:
            raise TokenError(self._words(_unreachable(error.reason))) from None
        except (OSError, HTTPException, ValueError) as error:
            raise TokenError(self._words(_unreachable(error))) from None
        found = token_of(answer, now_s)
        if found is None:
            raise TokenError(
                self._words(f"answers without a token{self._told(answer)}; expected JSON with access_token")
            )
        return found

    def _request(self) -> urllib.request.Request:
        endpoint = self._endpoint
        form = {"grant_type": "client_credentials"} | ({"scope": endpoint.scope} if endpoint.scope else {})
        client = f"{quote_plus(endpoint.client_id)}:{quote_plus(endpoint.client_secret)}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(client.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        return urllib.request.Request(endpoint.address, urlencode(form).encode(), headers, method="POST")

    def _words(self, what: str) -> str:
        parts = urlsplit(self._endpoint.address)
        return f"{_SETTING}: {parts.scheme}://{parts.netloc}{parts.path} {what}"

    def _told(self, answer: Mapping[str, Any]) -> str:
        """The endpoint's own words, of the two fields that RFC 6749 has for them."""
        found = [answer.get("error"), answer.get("error_description")]
        words = ": ".join(word for word in found if isinstance(word, str) and word)
        for secret in (self._endpoint.client_secret, quote_plus(self._endpoint.client_secret)):
            words = words.replace(secret, "…")
        shown = "".join(sign if sign.isprintable() else " " for sign in words)[:_LONGEST_WORDS]
        return f" ({shown})" if shown else ""


def _body(response: HTTPResponse) -> bytes:
    """At most `LARGEST_ANSWER_BYTES`. Raises `OSError` where it is more, or not there in time."""
    deadline_s, body = time.monotonic() + ANSWER_TIMEOUT_S, b""
    while part := response.read1(65_536):
        body += part
        if len(body) > LARGEST_ANSWER_BYTES or time.monotonic() > deadline_s:
            raise OSError("the answer is too long, or takes too long")
    return body


def _body_of(error: HTTPError) -> bytes:
    try:
        return error.read(LARGEST_ANSWER_BYTES)
    except (OSError, HTTPException):
        return b""


def _remedy(status: int) -> str:
    if status in (400, 401, 403):
        return "check sasl_oauthbearer_client_id, sasl_oauthbearer_client_secret and sasl_oauthbearer_scope"
    if 300 <= status < 500:
        return f"check {_SETTING}"
    return "see the endpoint's own log"


def _unreachable(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        if reason.verify_code in _OTHER_HOST:
            return f"has a certificate for another host ({reason.verify_message}); use a name that the certificate has"
        if reason.verify_code == _EXPIRED:
            return "has a certificate that has expired; it has to be renewed"
        return (
            f"has a certificate of an authority that is not trusted ({reason.verify_message}); set "
            "sasl_oauthbearer_cafile to the PEM file of the authority that signed it"
        )
    if isinstance(reason, TimeoutError):
        return f"does not answer within {ANSWER_TIMEOUT_S:.0f} s; check the address and that it is up"
    if isinstance(reason, OSError):
        return f"cannot be reached ({reason.strerror or reason}); check the address and that it is up"
    return f"does not answer as a web server does ({type(reason).__name__}); check the address"
