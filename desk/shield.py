"""What every answer of the desk has, and every request must have, whatever the route: headers, host and size.

Plain ASGI, so that streams pass through it as they come. Knows no account.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desk.problems import problem

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

MOST_BODY_BYTES = 4 * 1024 * 1024
"""The largest body that is read: a history of a few thousand events."""

_TOO_LARGE = f"the body has more than {MOST_BODY_BYTES} bytes"

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_PRIVATE = b"no-store"
"""Pages and answers hold personal data: no cache on the way, and none in the browser, keeps them."""

_HSTS = "max-age=31536000"


class Shield:
    """ASGI middleware. `hosts` are the names that a request may ask for, None for any; `secure` says that browsers
    come by HTTPS."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, secure: bool) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        added = _HEADERS | ({"Strict-Transport-Security": _HSTS} if secure else {})
        # As bytes and in lower case, as ASGI has headers: every answer gets them.
        self._headers = [(name.lower().encode(), value.encode()) for name, value in added.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._completed(message.get("headers", ()), path)
            await send(message)

        headers = Headers(scope=scope)
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            response = problem(421, "misdirected", "the desk is not served under this host name; set desk_public_url")
            await response(scope, receive, shielded)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY_BYTES:
            await _too_large()(scope, receive, shielded)
            return
        await self._app(scope, _Bounded(receive), shielded)

    def _completed(self, headers: Iterable[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
        """The headers of an answer with those that it must have and does not set itself."""
        found = list(headers)
        named = {name.lower() for name, _ in found}
        found += [header for header in self._headers if header[0] not in named]
        if b"cache-control" not in named and not path.startswith("/static/"):
            found.append((b"cache-control", _PRIVATE))
        return found


class _Bounded:
    """Receives a body up to its limit; raises `HTTPException` when it has come to more."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = 0

    async def __call__(self) -> Message:
        message: dict[str, Any] = dict(await self._receive())
        self._read += len(message.get("body", b""))
        if self._read > MOST_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message


def _too_large() -> Any:
    return problem(413, "too_large", _TOO_LARGE)


def _host(header: str) -> str:
    """The name in a `Host` header, without the port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")
