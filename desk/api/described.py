"""What OpenAPI says of every route beside its own: the problems that it may answer with, and the form of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from desk.problems import MEDIA_TYPE, TITLES

_MEANS: dict[int, str] = {
    400: "The request cannot be read.",
    401: "There is no token, or it is not known, has expired or was revoked.",
    403: "The role of the token may not do this.",
    404: "There is nothing of this name, or nothing that the token's products let it see.",
    409: "Somebody else was first, or a request with this `Idempotency-Key` is being done.",
    412: "It has changed since it was read.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A parameter or the body does not hold what is needed, or the action is not legal as the case stands.",
    429: "The token has used up its requests of the minute; `Retry-After` says when there are more.",
    500: "The desk has failed; its log says why.",
    503: "The desk cannot reach its database, or has too much to do; try again.",
}

EVERYWHERE = (400, 401, 403, 422, 429, 500, 503)


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    at: str = Field(description="Where it is wrong, e.g. `query.limit` or `events[3]`.")
    message: str = Field(description="What is wrong. It repeats nothing of what was sent.")


class ProblemDetails(BaseModel):
    """An error, after RFC 9457. A problem may have further members, which its `type` explains."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:foreshock:problem:not_found",
                    "title": "There is nothing of this name",
                    "status": 404,
                    "detail": "there is no score of user 'u0000003'",
                }
            ]
        },
    )

    type: str = Field(description="Which problem it is: " + ", ".join(f"`{name}`" for name in TITLES) + ", each after "
                      "`urn:foreshock:problem:`.")  # fmt: skip
    title: str = Field(description="The problem in words, always the same for a type.")
    status: int = Field(ge=400, le=599, description="The status of the answer.")
    detail: str = Field(description="What was wrong this time, and what to do.")
    errors: list[Fault] | None = Field(default=None, description="Of `invalid`: everything that is wrong.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: problems that every route may have, and those of `statuses`."""
    return {status: _response(status) for status in sorted({*EVERYWHERE, *statuses})}


def unavailable() -> dict[str, Any]:
    """The response of a route that fails while the desk cannot do its work."""
    return _response(503)


def _response(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _MEANS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    if status in (429, 503):
        found["headers"] = {
            "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
        }
    if status == 401:
        found["headers"] = {
            "WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}}
        }
    return found
