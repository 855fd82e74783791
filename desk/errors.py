"""What becomes of errors: problems for the API, pages for browsers. Says nothing of what only the log should hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import urlencode

import sqlalchemy.exc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from desk.access.refusals import Forbidden, ForeignForm, NotSignedIn, Refusal, SignInRefused, TooManyRequests
from desk.problems import Problem, encodable, problem
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.logs import told

logger = logging.getLogger("foreshock.desk")

ErrorPage: TypeAlias = Callable[[Request, int, str], Response]
"""Makes the page of an error for a browser, of its status and what to say."""

SIGN_IN = "/sign-in"

_API = ("/v1/", "/openapi.json", "/livez", "/readyz")

_KINDS = {
    400: "bad_request",
    401: "not_signed_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}

_AWAY = "the database cannot be reached or takes too long; try again in a moment"
_STATUS: dict[type[Refusal], int] = {
    NotSignedIn: 401,
    Forbidden: 403,
    ForeignForm: 403,
    SignInRefused: 401,
    TooManyRequests: 429,
}


def is_api(request: Request) -> bool:
    """Whether a program asks: its errors are problems, not pages."""
    return request.url.path.startswith(_API)


def install(app: FastAPI, page: ErrorPage) -> None:
    """Have an application answer errors so; `page` makes those for browsers."""

    def answer(
        request: Request, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Response:
        if is_api(request):
            return problem(status, _KINDS.get(status, "failed"), detail, headers, **more)
        response = page(request, status, detail)
        response.headers.update(headers or {})
        return response

    def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        headers: dict[str, str] = {}
        if isinstance(error, NotSignedIn):
            if not is_api(request):
                return to_sign_in(request)
            headers["WWW-Authenticate"] = 'Bearer realm="foreshock"'
        if isinstance(error, TooManyRequests):
            headers["Retry-After"] = str(error.retry_after_s)
        return answer(request, _STATUS.get(type(error), 403), str(error), headers)

    def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail) if error.status_code != 404 else f"there is nothing at {request.url.path}"
        return answer(request, error.status_code, detail, dict(error.headers or {}))

    def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if any(one["type"] == "json_invalid" for one in error.errors()):
            return answer(request, 400, "the body is not JSON")
        faults = list(faults_of(error.errors()))
        detail = "; ".join(f"{fault['at']}: {fault['message']}" for fault in faults[:5])
        return answer(request, 422, detail, errors=faults)

    def on_unavailable(request: Request, error: Exception) -> Response:
        logger.error("%s: %s", _asked(request), told(error))
        return answer(request, 503, _AWAY, {"Retry-After": "5"})

    def on_database(request: Request, error: Exception) -> Response:
        if isinstance(error, sqlalchemy.exc.DataError):
            return answer(request, 422, "a value is none that the database can hold, for instance U+0000 in a text")
        away = isinstance(
            error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError | sqlalchemy.exc.TimeoutError
        )
        return on_unavailable(request, error) if away else on_failure(request, error)

    def on_failure(request: Request, error: Exception) -> Response:
        logger.error("%s failed", _asked(request), exc_info=error)
        return answer(request, 500, "the desk has failed; its log says why")

    def on_problem(request: Request, error: Exception) -> Response:  # noqa: ARG001
        assert isinstance(error, Problem)
        headers = {"Retry-After": "5"} if error.status == 503 else None
        return problem(error.status, error.kind, str(error), headers, **error.more)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(DatabaseUnavailable, on_unavailable)
    app.add_exception_handler(DatabaseError, on_failure)
    app.add_exception_handler(sqlalchemy.exc.SQLAlchemyError, on_database)
    app.add_exception_handler(Exception, on_failure)


def _asked(request: Request) -> str:
    """Method and path of the route: the address itself may name a user."""
    return f"{request.method} {getattr(request.scope.get('route'), 'path', 'no route')}"


def to_sign_in(request: Request) -> Response:
    """Send a browser to the sign-in, from where it comes back if it only wanted to read."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = f"?{urlencode({'next': wanted})}" if request.method == "GET" and wanted != "/" else ""
    return RedirectResponse(f"{SIGN_IN}{query}", status_code=303)


def faults_of(errors: Iterable[Any]) -> Iterable[dict[str, str]]:
    """Where a request is wrong and how, without what it held: that may be personal, or a secret."""
    for error in errors:
        # The name of a member that should not be there may be no text that JSON can hold.
        at = ".".join(str(part) for part in error["loc"])[:200]
        yield {"at": encodable(at), "message": encodable(str(error["msg"])[:500])}
