"""Counts what is asked of the desk, how long it took and what came of it. Plain ASGI; changes nothing, keeps no
address.

Streams of news are no requests that take a time: they are counted while they are open (`desk.pages.live`).
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desk.access import oidc
from desk.figures import ProcessFigures, RequestKind

NO_ROUTE = "none"
ANSWERED_AS = "foreshock.answered_as"
"""Where a middleware that answers in the place of a route says of which, in the scope: method and path as the code has
them."""

_SIGN_INS = ("POST /sign-in", f"GET {oidc.CALLBACK}")


class Measured:
    """ASGI middleware, outside of all others."""

    def __init__(self, app: ASGIApp, *, figures: ProcessFigures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        status: int | None = None
        is_stream = False

        async def noted(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = status or 500
            raise
        finally:
            if status is not None and not is_stream:
                self._note(route_of(scope), status, time.perf_counter() - began_s)

    def _note(self, route: str, status: int, seconds: float) -> None:
        self._figures.note_request(RequestKind(route, f"{status // 100}xx"), seconds)
        if route in _SIGN_INS and status < 500:
            self._figures.note_sign_in("accepted" if status < 400 else "limited" if status == 429 else "refused")


def route_of(scope: MutableMapping[str, Any]) -> str:
    """Method and path of the route that took a request, as the code has them: of so many there are, and no more."""
    if (answered_as := scope.get(ANSWERED_AS)) is not None:
        return str(answered_as)
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    methods = getattr(route, "methods", None)
    return f"{scope['method']} {path}" if path is not None and scope["method"] in (methods or ()) else NO_ROUTE
