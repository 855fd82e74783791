"""`/v1/portfolio/…`: expected new defaults of the portfolio, or of a token's products."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from desk.access.dependencies import TokenMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.api.bodies import ForecastBody
from desk.api.described import problems
from desk.context import Desk, desk_of
from desk.problems import Problem
from model.bundle import BundleError
from stream.database.errors import DatabaseError, DatabaseUnavailable

router = APIRouter(prefix="/v1/portfolio", tags=["portfolio"])

RENEWED_EVERY = dt.timedelta(minutes=15)
"""It reads every user's latest score, and the months before."""

_KEPT = 32


class Forecasts:
    """Forecasts of one process by scope, made when they are asked for and kept for `RENEWED_EVERY`.

    One is made at a time. Meanwhile others get the one before, or are told to come again where there is none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[frozenset[str] | None, tuple[dt.datetime, bytes]] = OrderedDict()

    def of(self, desk: Desk, products: frozenset[str] | None) -> tuple[dt.datetime, bytes]:
        """When it was made, and its JSON. Raises `Problem`."""
        now, found = desk.clock(), self._known.get(products)
        if found is not None and now - found[0] < RENEWED_EVERY:
            return found
        if not self._lock.acquire(blocking=False):
            if found is None:
                raise Problem(503, "busy", "a forecast is being made; try again in a moment")
            return found
        try:
            found = self._known[products] = (now, _forecast(desk, products, now))
            self._known.move_to_end(products)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return found
        finally:
            self._lock.release()


@router.get(
    "/forecast",
    summary="Expected new defaults by horizon",
    responses={
        200: {
            "model": ForecastBody,
            "description": "The outlook.",
            "headers": {"Age": {"description": "Seconds since it was computed.", "schema": {"type": "integer"}}},
        },
        **problems(404),
    },
)
def forecast(request: Request, principal: Annotated[Principal, TokenMay(Permission.SEE_PORTFOLIO)]) -> Response:
    """How many borrowers of today's portfolio are expected to default within 30, 60 and 90 days, with intervals.

    In all and by level, corrected by how past outlooks turned out; of a token with products, of their borrowers alone.
    Made anew every 15 minutes at most.
    """
    desk = desk_of(request)
    forecasts: Forecasts = request.app.state.forecasts
    made_at, body = forecasts.of(desk, principal.products)
    age = max(0, int((desk.clock() - made_at).total_seconds()))
    return Response(body, 200, {"Age": str(age)}, "application/json")


def _forecast(desk: Desk, products: frozenset[str] | None, now: dt.datetime) -> bytes:
    from model.outlook.outlook import STALE_DAYS
    from reports.outlook import OutlookError, outlook_of_database

    try:
        found = outlook_of_database(
            desk.database,
            desk.model.bundle,
            STALE_DAYS,
            by_level=True,
            products=None if products is None else sorted(products),
        )
    except BundleError as error:
        raise Problem(503, "unavailable", f"the model cannot be loaded: {error}") from error
    except DatabaseUnavailable:
        raise
    except (OutlookError, DatabaseError) as error:
        raise Problem(404, "not_found", f"there is no forecast: {error}") from error
    return msgspec.json.encode(
        {
            "at": found.at,
            "model": found.fingerprint,
            "computed_at": now,
            "outlooks": found.outlooks,
            "past_origins": {str(days): number for days, number in found.origins.items()},
            "past_ratio": {str(days): ratio for days, ratio in found.past_ratio.items()},
        }
    )
