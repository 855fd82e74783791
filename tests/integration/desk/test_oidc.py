"""Sign-in by a real identity provider: a small one with a key of its own, on this machine."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, Request
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.testclient import TestClient

from desk.access import accounts
from desk.access.dependencies import SIGN_INS_A_MINUTE
from desk.app import create_app
from desk.context import Desk
from stream.database.connection import DatabaseConnection
from stream.settings import SettingsError, load_settings
from tests.integration.desk.conftest import NOON, SetClock, new_account

CLIENT, SECRET = "desk", "the desk's secret"
REDIRECT = "http://localhost/sign-in/oidc/callback"


class Provider:
    """What the provider says next, and what it was asked."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"}, private=True)
        self.signed_with = self.key
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.lies: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.issuer = ""
        self.asked = 0

    def be(self, subject: str, **claims: Any) -> None:
        self.claims = {"sub": subject, "preferred_username": subject, "groups": ["collections"], **claims}
        self.lies, self.signed_with, self.algorithm = {}, self.key, "RS256"


def provider_app(provider: Provider) -> FastAPI:
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    def metadata() -> dict[str, str]:
        provider.asked += 1
        return {
            "issuer": provider.issuer,
            "authorization_endpoint": f"{provider.issuer}/authorize",
            "token_endpoint": f"{provider.issuer}/token",
            "jwks_uri": f"{provider.issuer}/keys",
        }

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return dict(KeySet([provider.key]).as_dict(private=False))

    @app.get("/authorize")
    def authorize(request: Request) -> Response:
        query = dict(request.query_params)
        assert query["client_id"] == CLIENT
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == REDIRECT
        code = f"code{len(provider.codes)}"
        provider.codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?code={code}&state={query['state']}", 303)

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        asked = provider.codes.pop(form["code"][0], None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        digest = hashlib.sha256(form.get("code_verifier", [""])[0].encode()).digest()
        proven = asked and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        if request.headers.get("authorization") != f"Basic {basic}" or not proven or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(NOON.timestamp())
        claims = {"iss": provider.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= provider.claims | provider.lies
        header = {"alg": provider.algorithm, "kid": provider.signed_with.kid}
        signed = jwt.encode(header, claims, provider.signed_with, algorithms=[provider.algorithm])
        return JSONResponse({"access_token": "unused", "token_type": "Bearer", "expires_in": 300, "id_token": signed})

    return app


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    found = Provider()
    config = uvicorn.Config(provider_app(found), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    found.issuer = f"http://127.0.0.1:{port}"
    yield found
    server.should_exit = True
    thread.join(20)


OPTIONS: dict[str, Any] = {
    "desk_oidc_client_id": CLIENT,
    "desk_oidc_client_secret": SECRET,
    "desk_public_url": "http://localhost",
    "desk_oidc_roles": {"collections": "collector", "heads": "lead", "machines": "operator"},
    "desk_oidc_products_claim": "desk.products",
}


@pytest.fixture
def client(provider: Provider, desk_database: DatabaseConnection, clock: SetClock) -> Iterator[TestClient]:
    settings = load_settings(desk_oidc_issuer=provider.issuer, **OPTIONS)
    app = create_app(settings, desk_database, clock)
    with desk_database.connect() as connection:
        connection.execute("DELETE FROM request_counts")  # all tests sign in at the same time from the same address
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as found:
        yield found


@pytest.fixture
def desk(client: TestClient) -> Desk:
    found = client.app.state.desk  # type: ignore[attr-defined]
    assert isinstance(found, Desk)
    return found


def leave(client: TestClient, wanted: str = "/") -> str:
    """Go to the provider; returns the address that it sends the browser back to."""
    begun = client.get("/sign-in/oidc", params={"next": wanted})
    assert begun.status_code == 303, begun.text
    back = httpx2.get(begun.headers["location"], follow_redirects=False)
    return str(back.headers["location"])


def sign_in(client: TestClient, wanted: str = "/") -> Any:
    return client.get(leave(client, wanted))


def test_who_signs_in_gets_an_account_by_their_claims(client: TestClient, provider: Provider, desk: Desk) -> None:
    provider.be("ann", name="Ann Example", desk={"products": ["card", "loan"]})
    done = sign_in(client, "/queue?level=HIGH")
    assert (done.status_code, done.headers["location"]) == (303, "/queue?level=HIGH")
    assert client.cookies["foreshock"]
    assert "httponly" in done.headers["set-cookie"].lower()
    with desk.transaction() as connection:
        made = accounts.find(connection, "ann")
    assert made is not None
    assert (made.role, made.products, made.display_name) == ("collector", ("card", "loan"), "Ann Example")
    assert made.signs_in_by == ("oidc",)

    provider.be("ann", groups=["collections", "heads", "of no interest"], desk={"products": "loan"})
    assert sign_in(client).status_code == 303
    with desk.transaction() as connection:
        again = accounts.find(connection, "ann")
        assert again is not None
        assert (again.role, again.products) == ("lead", ("loan",)), "what the provider takes away is gone"
        accounts.set_active(connection, "ann", active=False)
    assert sign_in(client).status_code == 401
    assert provider.asked <= 2, "it is not asked anew each time"


@pytest.mark.parametrize("claims", [
    {"groups": []}, {"groups": "nothing"}, {"groups": ["collections", "machines"]}, {"groups": {"a": 1}},
    {"desk": {"products": []}}, {"desk": "card"}, {"groups": 7},
])  # fmt: skip
def test_who_has_no_role_or_no_product_is_not_let_in(
    client: TestClient, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.be("nell", **({"desk": {"products": ["card"]}} | claims))
    refused = sign_in(client)
    assert refused.status_code == 401
    assert "ask for one" in refused.text
    assert "foreshock" not in client.cookies


def test_a_name_is_not_taken_over(client: TestClient, provider: Provider, desk: Desk) -> None:
    new_account(desk.engine, "lead", "boss")
    provider.be("stranger", preferred_username="boss", desk={"products": ["card"]})
    refused = sign_in(client)
    assert (refused.status_code, "is there already" in refused.text) == (401, True)


LIES: list[dict[str, Any]] = [
    {"aud": "another client"}, {"aud": ["another client"]}, {"iss": "http://elsewhere"}, {"nonce": "another"},
    {"nonce": None}, {"exp": int(NOON.timestamp()) - 3600}, {"iat": int(NOON.timestamp()) + 3600},
    {"azp": "another client"}, {"sub": None}, {"at_hash": "wrong"},
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    client: TestClient, provider: Provider, lie: dict[str, Any]
) -> None:
    provider.be("eve", desk={"products": ["card"]})
    provider.lies = lie
    assert sign_in(client).status_code == 401
    assert "foreshock" not in client.cookies


def test_a_token_of_another_key_is_refused_and_a_new_key_is_fetched(client: TestClient, provider: Provider) -> None:
    provider.be("ida", desk={"products": ["card"]})
    provider.signed_with = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256"}, private=True)
    assert sign_in(client).status_code == 401
    provider.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig", "alg": "RS256"}, private=True)
    provider.be("ida", desk={"products": ["card"]})
    assert sign_in(client).status_code == 303


def test_a_browser_that_did_not_begin_it_ends_nothing(client: TestClient, provider: Provider, clock: SetClock) -> None:
    provider.be("mia", desk={"products": ["card"]})
    back = leave(client)
    with TestClient(client.app, base_url="http://localhost", follow_redirects=False) as other:
        assert other.get(back).status_code == 401, "a link that somebody sent"
    assert client.get(back.replace("state=", "state=x")).status_code == 401
    assert client.get(back).status_code == 401, "what was kept is used up"
    late = leave(client)
    clock.move(minutes=11)
    assert client.get(late).status_code == 401
    clock.move(minutes=-11)
    good = leave(client)
    query = parse_qs(urlsplit(good).query)
    assert client.get(f"{REDIRECT}?state={query['state'][0]}&error=access_denied").status_code == 401
    assert client.get(leave(client) + "&iss=http://elsewhere").status_code == 401
    assert client.get(leave(client)).status_code == 303


@pytest.mark.parametrize("wanted", ["https://elsewhere/", "//elsewhere/", "/\\elsewhere", "", "queue", "/a\r\nb"])
def test_nobody_is_sent_elsewhere_afterwards(client: TestClient, provider: Provider, wanted: str) -> None:
    provider.be("kim", desk={"products": ["card"]})
    assert sign_in(client, wanted).headers["location"] == "/"


def test_sign_ins_from_one_address_are_counted(client: TestClient, clock: SetClock) -> None:
    clock.move(days=1)
    answers = [client.get("/sign-in/oidc/callback").status_code for _ in range(SIGN_INS_A_MINUTE + 1)]
    assert answers == [401] * SIGN_INS_A_MINUTE + [429]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"desk_oidc_issuer": "http://idp.example"}, "desk_oidc_issuer: .* is not an https address"),
        ({"desk_oidc_client_id": None}, "desk_oidc_client_id: is needed"),
        ({"desk_public_url": None}, "desk_public_url: is needed"),
        ({"desk_oidc_roles": {}}, "desk_oidc_roles: is empty"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    desk_database: DatabaseConnection, change: dict[str, Any], said: str
) -> None:
    settings = load_settings(**({"desk_oidc_issuer": "https://idp.example"} | OPTIONS | change))
    with pytest.raises(SettingsError, match=said):
        create_app(settings, desk_database)
