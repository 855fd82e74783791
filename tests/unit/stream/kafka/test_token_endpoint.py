"""Tokens from a token endpoint on loopback: what is asked, what is answered, and that no message holds a secret."""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trustme

from stream.kafka.oauth import TokenError
from stream.kafka.security import KafkaSecurity
from stream.kafka.token_endpoint import ClientCredentials, TokenEndpoint
from stream.settings import SettingsError, load_settings

SECRET = "correct+horse %:battery"
Answer = tuple[int, dict[str, str], bytes]


class Endpoint(ThreadingHTTPServer):
    """A token server: gives the answers set, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        self.answer: Answer = (200, {}, b"{}")
        super().__init__(("127.0.0.1", 0), Handler)

    def says(self, answer: Any, status: int = 200, **headers: str) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.answer = (status, headers, body)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *_: Any) -> None:
        """A client that ends the connection is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.path, self.headers["Authorization"], parse_qs(body)))
        status, headers, content = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@contextmanager
def serving() -> Iterator[Endpoint]:
    """A token server at work."""
    with Endpoint() as server:
        at_work = threading.Thread(target=server.serve_forever, args=(0.02,))
        at_work.start()
        yield server
        server.shutdown()
        at_work.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


class Authority:
    """Certificates for the endpoint, and the files of those who trust it."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.cafile, self.stranger = folder / "ca.pem", folder / "stranger.pem"
        self._authority.cert_pem.write_to_path(str(self.cafile))
        trustme.CA().cert_pem.write_to_path(str(self.stranger))

    def secure(self, server: Endpoint, host: str = "localhost", *, expired: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        until = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
        self._authority.issue_cert(host, not_after=until).configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def client(server: Endpoint, scheme: str = "http", host: str = "127.0.0.1", **options: Any) -> ClientCredentials:
    now_s = options.pop("now_s", None)
    address = f"{scheme}://{host}:{server.port}/oauth2/token"
    endpoint = TokenEndpoint(address, options.pop("client_id", "foreshock"), SECRET, **options)
    return ClientCredentials(endpoint) if now_s is None else ClientCredentials(endpoint, now_s=now_s)


def test_what_is_asked_is_what_the_standard_says(endpoint: Endpoint) -> None:
    endpoint.says({"access_token": "abc", "expires_in": 600, "token_type": "Bearer"})
    assert client(endpoint, client_id="a client:1", scope="kafka events").token() == "abc"
    assert client(endpoint).token() == "abc"
    (path, authorization, form), (_, _, without_scope) = endpoint.asked
    assert path == "/oauth2/token"
    sent = base64.b64decode(authorization.removeprefix("Basic ")).decode()
    assert sent == "a+client%3A1:correct%2Bhorse+%25%3Abattery"
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka events"]}
    assert without_scope == {"grant_type": ["client_credentials"]}


def test_a_token_is_replaced_before_it_expires(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """And is used to its end where the endpoint gives no other."""
    now_s = 1_000.0
    tokens = client(endpoint, now_s=lambda: now_s)
    endpoint.says({"access_token": "first", "expires_in": 300})
    assert [tokens.token(), tokens.token()] == ["first", "first"]
    assert len(endpoint.asked) == 1
    endpoint.says({}, status=503)
    now_s += 271
    assert tokens.token() == "first"
    assert "answers 503" in caplog.text
    now_s += 30
    with pytest.raises(TokenError, match="answers 503"):
        tokens.token()
    endpoint.says({"access_token": "second", "expires_in": 300})
    assert tokens.token() == "second"


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({"error": "invalid_client", "error_description": "no such client"}, 401,
         "answers 401 (invalid_client: no such client); check sasl_oauthbearer_client_id"),
        ({"error": "invalid_scope"}, 400, "answers 400 (invalid_scope); check sasl_oauthbearer_client_id"),
        ({"error": "x", "error_description": f"secret {SECRET} is\nwrong"}, 400, "answers 400 (x: secret … is wrong)"),
        (b"<html>", 404, "answers 404; check sasl_oauthbearer_token_endpoint_url"),
        (b"", 500, "answers 500; see the endpoint's own log"),
        ({"error": "later"}, 200, "answers without a token (later)"),
        ({"access_token": 5, "secret": "horse"}, 200, "answers without a token; expected JSON with access_token"),
        (b"horse", 200, "answers without a token"),
        (b" " * 300_000, 200, "cannot be reached (the answer is too long"),
    ],
)  # fmt: skip
def test_what_is_no_token_says_what_was_answered(endpoint: Endpoint, answer: Any, status: int, words: str) -> None:
    endpoint.says(answer, status)
    with pytest.raises(TokenError) as caught:
        client(endpoint).token()
    said = str(caught.value)
    assert said.startswith(f"sasl_oauthbearer_token_endpoint_url: http://127.0.0.1:{endpoint.port}/oauth2/token ")
    assert words in said
    assert "horse" not in said
    assert "\n" not in said


def test_a_redirection_is_not_followed(endpoint: Endpoint) -> None:
    endpoint.says({}, 302, Location=f"http://127.0.0.1:{endpoint.port}/elsewhere")
    with pytest.raises(TokenError, match="answers 302; check sasl_oauthbearer_token_endpoint_url"):
        client(endpoint).token()
    assert len(endpoint.asked) == 1


def test_plain_http_goes_through_no_proxy(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    endpoint.says({"access_token": "abc"})
    assert client(endpoint).token() == "abc"


def test_https_with_an_authority_of_ones_own(endpoint: Endpoint, authority: Authority) -> None:
    authority.secure(endpoint)
    endpoint.says({"access_token": "abc", "expires_in": 600})
    assert client(endpoint, "https", "localhost", cafile=authority.cafile).token() == "abc"


@pytest.mark.parametrize(
    ("secure", "cafile", "words"),
    [
        (lambda a, e: a.secure(e), "stranger", "of an authority that is not trusted"),
        (lambda a, e: a.secure(e), None, "set sasl_oauthbearer_cafile"),
        (lambda a, e: a.secure(e, "elsewhere.example"), "cafile", "a certificate for another host"),
        (lambda a, e: a.secure(e, expired=True), "cafile", "a certificate that has expired"),
    ],
)
def test_a_wrong_certificate_says_which_check_failed(
    endpoint: Endpoint,
    authority: Authority,
    secure: Callable[[Authority, Endpoint], None],
    cafile: str | None,
    words: str,
) -> None:
    secure(authority, endpoint)
    with pytest.raises(TokenError) as caught:
        client(endpoint, "https", "localhost", cafile=cafile and getattr(authority, cafile)).token()
    assert words in str(caught.value)
    assert not endpoint.asked


def test_an_endpoint_that_is_not_there_or_no_web_server(endpoint: Endpoint) -> None:
    gone = TokenEndpoint("http://127.0.0.1:1/token", "foreshock", SECRET)
    with pytest.raises(TokenError, match=r"127\.0\.0\.1:1/token cannot be reached \(.*refused.*\)"):
        ClientCredentials(gone).token()
    with pytest.raises(TokenError, match=r"cannot be reached|does not answer"):
        client(endpoint, "https", "localhost").token()


OAUTH = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_oauthbearer_client_id": "foreshock",
    "sasl_oauthbearer_client_secret": SECRET,
}


@pytest.mark.parametrize(
    "address",
    ["login.example/token", "ftp://login.example/", "https://", "https://u:horse@h/", "https://[::1/"],
)
def test_what_is_no_address_names_the_setting(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^sasl_oauthbearer_token_endpoint_url: not a URL") as caught:
        KafkaSecurity.from_settings(load_settings(**OAUTH, sasl_oauthbearer_token_endpoint_url=address))
    assert "horse" not in str(caught.value)


def test_the_secret_leaves_this_machine_by_https_only_unless_told_so() -> None:
    there = {**OAUTH, "sasl_oauthbearer_token_endpoint_url": "http://login.example/token"}
    with pytest.raises(SettingsError, match=r"^sasl_oauthbearer_token_endpoint_url: .*login\.example.*--insecure"):
        KafkaSecurity.from_settings(load_settings(**there))
    for differing in (
        {"insecure": True},
        {"sasl_oauthbearer_token_endpoint_url": "https://login.example/token"},
        {"sasl_oauthbearer_token_endpoint_url": "http://[::1]:8080/token"},
    ):
        assert KafkaSecurity.from_settings(load_settings(**(there | differing))).tokens is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sasl_oauthbearer_client_id": "x"}, "sasl_oauthbearer_token_endpoint_url: not set, but other settings"),
        ({"sasl_oauthbearer_token_endpoint_url": "https://h/"}, "sasl_oauthbearer_client_id: not set, but"),
        ({**OAUTH, "sasl_oauthbearer_token_endpoint_url": "https://h/", "oauth_token_command": "x"},
         "sasl_oauthbearer_token_endpoint_url: is set, but oauth_token_command is set, too"),
        ({**OAUTH, "sasl_oauthbearer_token_endpoint_url": "https://h/", "sasl_oauthbearer_cafile": "/no/such"},
         "sasl_oauthbearer_cafile: /no/such is not a file"),
        ({"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p", "sasl_oauthbearer_scope": "s"},
         "sasl_oauthbearer_scope: is set, but sasl_mechanism is PLAIN"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_names_the_setting(settings: dict[str, Any], message: str) -> None:
    both = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", **settings}
    with pytest.raises(SettingsError) as caught:
        KafkaSecurity.from_settings(load_settings(**both))
    assert str(caught.value).startswith(message)


async def test_each_library_gets_tokens_of_the_endpoint(endpoint: Endpoint) -> None:
    endpoint.says({"access_token": "abc", "expires_in": 600})
    found = KafkaSecurity.from_settings(
        load_settings(**OAUTH, sasl_oauthbearer_token_endpoint_url=f"http://127.0.0.1:{endpoint.port}/")
    )
    assert found.kafka_python_options()["sasl_oauth_token_provider"].token() == "abc"
    assert await found.aiokafka_options()["sasl_oauth_token_provider"].token() == "abc"
    assert len(endpoint.asked) == 1
    assert "horse" not in f"{found!r} {found.faust_options()}"
