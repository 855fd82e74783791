"""Whether a process of the desk lives and can do its work, for whoever restarts it and sends it requests."""

from __future__ import annotations

import functools

from fastapi import APIRouter, Request
from sqlalchemy import text
from starlette.responses import Response

from desk.access.dependencies import open_to_all
from desk.api.described import unavailable
from desk.context import desk_of
from desk.problems import problem
from stream.database.migration import head

_needed = functools.cache(head)

router = APIRouter(tags=["health"], dependencies=[open_to_all])


@router.get(
    "/livez",
    summary="Whether the process lives",
    response_class=Response,
    responses={200: {"description": "It does."}},
)
def livez() -> Response:
    """Answers as long as requests are taken at all; looks at nothing else."""
    return Response(b"ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    summary="Whether the process can answer",
    response_class=Response,
    responses={200: {"description": "It can."}, 503: unavailable()},
)
def readyz(request: Request) -> Response:
    """Fails while the database is away or of another release, and while the process ends."""
    desk = desk_of(request)
    if desk.stopping.is_set():
        return problem(503, "unavailable", "this process is ending")
    with desk.transaction() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if found != _needed():
        return problem(
            503,
            "unavailable",
            f"the database is at revision {found}, this release needs {_needed()}: `foreshock db upgrade`",
        )
    return Response(b"ok\n", media_type="text/plain")
