"""Sign-in by an identity provider: OpenID Connect, code flow with PKCE, state and nonce, by authlib.

    begin   → the browser goes to the provider; a cookie and a row of `oidc_sign_ins` keep what it must come back with
    finish  → the code is exchanged, the token's signature and claims are checked, and the account is made or renewed

Role and products come from the token each time, so what the provider takes away is gone with the next sign-in. Accounts
are told apart by issuer and subject; a name that another account has is never taken over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Connection, delete, insert, select, update

from desk.access import accounts
from desk.access.accounts import AccountError, ListedAccount
from desk.access.refusals import SignInRefused
from desk.access.roles import strongest
from stream.database.access_tables import Account, OidcSignIn
from stream.desk_roles import DeskRole
from stream.settings import Settings, SettingsError, on_this_machine

logger = logging.getLogger("foreshock.desk")

CALLBACK = "/sign-in/oidc/callback"

MINUTES = 10
"""For so long a sign-in at the provider may take."""

TIMEOUT_S = 10.0
LEEWAY_S = 60
_KEPT_S = 3600.0

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
"""Signatures by a private key alone: with a shared secret, whoever knows it could make tokens."""

_REFUSED = "the sign-in at the identity provider did not succeed; try again, and ask who runs it if it fails again"


class _Provider(NamedTuple):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class Begun(NamedTuple):
    """What was kept of a sign-in when its browser left."""

    state: str
    nonce: str
    code_verifier: str
    go_on_to: str
    expires_at: dt.datetime


class OidcError(Exception):
    """A sign-in that fails; the message is for the log."""


class IdentityProvider:
    """The provider of the settings. What it says of itself is asked for when it is first needed, and once an hour."""

    def __init__(self, settings: Settings) -> None:
        if settings.desk_oidc_issuer is None:
            raise SettingsError("desk_oidc_issuer: is not set")
        for name in ("desk_oidc_client_id", "desk_public_url"):
            if not getattr(settings, name):
                raise SettingsError(f"{name}: is needed for the sign-in by {settings.desk_oidc_issuer}")
        if not settings.desk_oidc_roles:
            raise SettingsError("desk_oidc_roles: is empty, so nobody could sign in; name a role for a value of "
                                f"the claim {settings.desk_oidc_role_claim}")  # fmt: skip
        _require_https("desk_oidc_issuer", settings.desk_oidc_issuer)
        self._settings = settings
        self._issuer = settings.desk_oidc_issuer
        self._client_id = settings.desk_oidc_client_id or ""
        self._lock = threading.Lock()
        self._known: tuple[float, _Provider, KeySet] | None = None

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends browsers back to; it must know it."""
        return f"{(self._settings.desk_public_url or '').rstrip('/')}{CALLBACK}"

    def begin(self, connection: Connection, go_on_to: str, now: dt.datetime) -> tuple[str, str]:
        """Begin a sign-in; returns where the browser goes, and what its cookie holds. Raises `SignInRefused`."""
        browser, state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        try:
            provider, _ = self._provider()
            with self._client() as client:
                url, _ = client.create_authorization_url(
                    provider.authorization_endpoint, state=state, nonce=nonce, code_verifier=verifier
                )
        except (OidcError, AuthlibBaseError, httpx2.HTTPError, ValueError) as error:
            raise _refused(error) from error
        connection.execute(delete(OidcSignIn).where(OidcSignIn.expires_at <= now))
        connection.execute(
            insert(OidcSignIn).values(
                browser_sha256=_digest(browser),
                state=state,
                nonce=nonce,
                code_verifier=verifier,
                go_on_to=go_on_to,
                expires_at=now + dt.timedelta(minutes=MINUTES),
            )
        )
        return str(url), browser

    def claims_of(self, begun: Begun | None, query: Mapping[str, str], now: dt.datetime) -> dict[str, Any]:
        """The checked claims of who comes back with `query`. Raises `SignInRefused`."""
        try:
            if begun is None or begun.expires_at <= now:
                raise OidcError("this browser has begun no sign-in, or too long ago")
            if not hmac.compare_digest(query.get("state", "").encode(), begun.state.encode()):
                raise OidcError("the state is not that of this browser")
            if "error" in query:
                raise OidcError(f"the provider says {query['error'][:200]!r}")
            if "code" not in query:
                raise OidcError("the provider has sent no code")
            return self._exchange(query, begun, now)
        except (OidcError, AuthlibBaseError, JoseError, httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise _refused(error) from error

    @staticmethod
    def take(connection: Connection, browser: str | None) -> Begun | None:
        """What was kept of the sign-in of a browser, which is used up by it, whatever comes of it."""
        row = connection.execute(
            delete(OidcSignIn)
            .where(OidcSignIn.browser_sha256 == _digest(browser or ""))
            .returning(*(getattr(OidcSignIn, name) for name in Begun._fields))
        ).one_or_none()
        return None if row is None else Begun(*row)

    def account_of(self, connection: Connection, claims: Mapping[str, Any], now: dt.datetime) -> ListedAccount:
        """The account of checked claims, made where there is none, with the role and products they give it.

        Raises `SignInRefused`.
        """
        settings, subject = self._settings, str(claims["sub"])
        role = role_of(claims, settings.desk_oidc_role_claim, settings.desk_oidc_roles)
        if role is None:
            raise SignInRefused("your account at the identity provider has no role at this desk; ask for one")
        claim = settings.desk_oidc_products_claim
        products = None if claim is None else sorted(set(values_at(claims, claim)))
        if products == []:
            raise SignInRefused("your account at the identity provider has no product at this desk; ask for one")
        name = str(claims.get(settings.desk_oidc_name_claim) or subject)
        own = (Account.oidc_issuer == self._issuer, Account.oidc_subject == subject)
        known = connection.execute(select(Account.name, Account.active).where(*own)).one_or_none()
        if known is None:
            try:
                accounts.create(connection, name, role, password_hash=None, by=self._issuer, now=now,
                                products=products, oidc=(self._issuer, subject))  # fmt: skip
            except AccountError as error:
                logger.warning("sign-in by %s refused: %s", self._issuer, error)
                raise SignInRefused(f"an account of the name {name} is there already; ask for another name") from error
        elif not known.active:
            raise SignInRefused("your account at this desk is disabled")
        shown = str(claims.get("name") or name)[:200]
        connection.execute(update(Account).where(*own).values(role=role, products=products, display_name=shown))
        found = accounts.find(connection, known.name if known is not None else name)
        assert found is not None
        return found

    def _exchange(self, query: Mapping[str, str], begun: Begun, now: dt.datetime) -> dict[str, Any]:
        provider, keys = self._provider()
        if query.get("iss", provider.issuer) != provider.issuer:
            raise OidcError(f"the answer is of {query['iss'][:200]!r}, not of {provider.issuer}")
        with self._client() as client:
            token = client.fetch_token(provider.token_endpoint, code=query["code"], code_verifier=begun.code_verifier,
                                       grant_type="authorization_code")  # fmt: skip
        text = token["id_token"]
        try:
            decoded = jwt.decode(text, keys, algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            provider, keys = self._provider(again=True)
            decoded = jwt.decode(text, keys, algorithms=ALGORITHMS)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": self._client_id},
                "nonce": {"essential": True, "value": begun.nonce},
            },
            {"nonce": begun.nonce, "client_id": self._client_id, "access_token": token.get("access_token")},
        )
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY_S)
        return dict(claims)

    def _provider(self, *, again: bool = False) -> tuple[_Provider, KeySet]:
        with self._lock:
            if self._known is not None and not again and time.monotonic() - self._known[0] < _KEPT_S:
                return self._known[1:]
            with self._client() as client:
                said = _json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if str(said.get("issuer", "")).rstrip("/") != self._issuer.rstrip("/"):
                    raise OidcError(f"{self._issuer} calls itself {said.get('issuer')!r}")
                provider = _Provider(*(str(said[name]) for name in _Provider._fields))
                for name, url in zip(_Provider._fields[1:], provider[1:], strict=True):
                    _require_https(name, url)
                keys = KeySet.import_key_set(_json(client, provider.jwks_uri))  # type: ignore[arg-type]
            self._known = (time.monotonic(), provider, keys)
            return provider, keys

    def _client(self) -> Any:
        secret, cafile = self._settings.desk_oidc_client_secret, self._settings.desk_oidc_cafile
        return OAuth2Client(
            client_id=self._client_id,
            client_secret=None if secret is None else secret.get_secret_value(),
            scope=self._settings.desk_oidc_scope,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=True,
            verify=True if cafile is None else ssl.create_default_context(cafile=str(cafile)),
        )


def values_at(claims: Mapping[str, Any], path: str) -> list[str]:
    """The values of a claim: one text or a list of them, at a path such as `realm_access.roles`.

    A claim of that very name comes first, since names may hold dots.
    """
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [value for value in found if isinstance(value, str)] if isinstance(found, list) else []


def role_of(claims: Mapping[str, Any], path: str, roles: Mapping[str, DeskRole]) -> DeskRole | None:
    """The role that a token gives: of several the one that may do most, None for none."""
    return strongest(frozenset(roles[value] for value in values_at(claims, path) if value in roles))


def _json(client: Any, page: str) -> dict[str, Any]:
    response = client.request("GET", page, withhold_token=True)
    response.raise_for_status()
    said = response.json()
    if not isinstance(said, dict):
        raise OidcError(f"{page} is no JSON object")
    return said


def _require_https(name: str, page: str) -> None:
    parts = urlsplit(page)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and on_this_machine(parts.hostname):
        return
    raise SettingsError(f"{name}: {page!r} is not an https address; the identity provider must be one")


def _refused(error: Exception) -> SignInRefused:
    logger.warning("sign-in by the identity provider failed: %s: %s", type(error).__name__, error)
    return SignInRefused(_REFUSED)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
