"""Errors as `application/problem+json` (RFC 9457): one form for whatever the API refuses or cannot do."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

TITLES: dict[str, str] = {
    "bad_request": "The request cannot be read",
    "not_signed_in": "No valid token",
    "forbidden": "The role may not do this",
    "not_found": "There is nothing of this name",
    "method_not_allowed": "The path has no such method",
    "conflict": "Somebody else was first",
    "key_in_use": "A request with this Idempotency-Key is being done",
    "key_reused": "The Idempotency-Key was used for another request",
    "precondition_failed": "It has changed since it was read",
    "too_large": "The body is too large",
    "unsupported_media_type": "The body is of another type",
    "misdirected": "Another host was asked for",
    "invalid": "The request does not hold what is needed",
    "illegal": "This is not possible as things stand",
    "cap_reached": "The daily cap of cases is reached",
    "busy": "Too many histories are being scored",
    "too_many_requests": "The limit of requests is used up",
    "failed": "The desk has failed",
    "unavailable": "The desk cannot reach what it needs",
}
"""Every `type` of a problem, which is its name, and its `title`. `docs/api.md` explains each."""


class Problem(Exception):
    """Something that the API answers with a problem of `TITLES`; `more` are members of its own."""

    def __init__(self, status: int, kind: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.kind, self.more = status, kind, more


def problem(status: int, kind: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """The response of a problem of `TITLES`; `more` are members of its own."""
    body = {
        "type": f"urn:foreshock:problem:{kind}",
        "title": TITLES[kind],
        "status": status,
        "detail": encodable(detail),
        **more,
    }
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


def encodable(text: str) -> str:
    """A text without what UTF-8 cannot hold: half a surrogate pair, which JSON can name."""
    return text.encode(errors="backslashreplace").decode()
