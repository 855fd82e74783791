"""`POST /v1/score`: what a posted history comes to, and what it would come to without some of its events.

The history is scored by the workers' own scorer over rows that are let go afterwards: nothing is kept but that it was
asked. Events are read by the rules of the topics (`stream.scoring.intake`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta
from sqlalchemy import Connection
from starlette.responses import Response

from desk.access.audit import note_reads
from desk.access.dependencies import TokenMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.api.bodies import PredictionsBody
from desk.api.described import problems
from desk.api.idempotency import Answer, IdempotencyKey, body_of, once
from desk.context import desk_of
from desk.problems import Problem
from events.types import EVENT_TYPES, KINDS, Identifier, Kind
from model.bundle import BundleError
from stream.kafka.record import RawRecord
from stream.outputs import Offset, Partition
from stream.scoring.intake import Intake, Taken
from stream.scoring.prediction import Prediction

router = APIRouter(prefix="/v1", tags=["scoring"])

MOST_EVENTS = 3_000
"""Of a history: some seconds of work."""

AT_ONCE, WAITING = 1, 3
"""Histories that a process scores at once, and those that wait for it; more are told to come again."""

_TURN = threading.BoundedSemaphore(AT_ONCE)
_ROOM = threading.BoundedSemaphore(AT_ONCE + WAITING)

MOST_SHOWN = 20
"""Faults of a history that an answer names."""


class PostedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event of a history, with its place in the topics if that is known."""

    kind: Kind
    event: msgspec.Raw
    partition: Partition | None = None
    offset: Offset | None = None


class PostedHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user's events in the order in which they are to be applied."""

    user_id: Identifier
    events: Annotated[list[PostedEvent], Meta(min_length=1, max_length=MOST_EVENTS)]
    leave_out: Annotated[list[Identifier], Meta(max_length=MOST_EVENTS)] = []


def posted_schema(reference: str = "#/components/schemas/{name}") -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schema of the body, and of the events that it refers to, by name: those of the topics."""
    _, components = msgspec.json.schema_components(list(EVENT_TYPES.values()), ref_template=reference)
    forms = {
        f"Posted{event_type.__name__}": {
            "type": "object",
            "title": f"Posted{event_type.__name__}",
            "description": f"An event of the topic `{kind}`.",
            "additionalProperties": False,
            "required": ["kind", "event"],
            "properties": {
                "kind": {"const": kind, "type": "string"},
                "event": {"$ref": reference.format(name=event_type.__name__)},
                "partition": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1, "default": None},
                "offset": {
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "maximum": 2**63 - 1,
                    "default": None,
                    "description": "Its place in the topic; larger than that of the event of this kind before it.",
                },
            },
        }
        for kind, event_type in EVENT_TYPES.items()
    }
    identifier = {"type": "string", "minLength": 1, "maxLength": 128}
    body = {
        "type": "object",
        "title": "PostedHistory",
        "description": "One user's events in the order in which they are to be applied.",
        "additionalProperties": False,
        "required": ["user_id", "events"],
        "properties": {
            "user_id": {**identifier, "description": "That of every event."},
            "events": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_EVENTS,
                "items": {"oneOf": [{"$ref": reference.format(name=name)} for name in forms]},
            },
            "leave_out": {
                "type": "array",
                "maxItems": MOST_EVENTS,
                "items": identifier,
                "default": [],
                "description": "Ids of events without which the history is scored as well: what if they had not been?",
            },
        },
    }
    return body, {**components, **forms}


EXAMPLE: dict[str, Any] = {
    "user_id": "u0000003",
    "events": [
        {
            "kind": "profiles",
            "event": {"event_id": "p-1", "user_id": "u0000003", "occurred_at": "2026-01-01T08:00:00Z",
                      "income": 2400.0, "product": "instalment_loan"},
        },
        {
            "kind": "repayments",
            "event": {"event_id": "r-1", "user_id": "u0000003", "occurred_at": "2026-03-01T08:00:00Z",
                      "kind": "missed", "amount_due": 180.0, "days_past_due": 4.0, "balance": 5400.0},
        },
    ],
    "leave_out": ["r-1"],
}  # fmt: skip

_POST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/PostedHistory"},
                "examples": {"missed": {"summary": "A payment was missed; what if it had not been?", "value": EXAMPLE}},
            }
        },
    }
}


@router.post(
    "/score",
    summary="Score a posted history",
    responses={200: {"model": PredictionsBody, "description": "What it comes to."}, **problems(409, 413, 415)},
    openapi_extra=_POST,
)
def predict(
    request: Request,
    principal: Annotated[Principal, TokenMay(Permission.SCORE)],
    body: Annotated[bytes, Depends(body_of)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """What a worker would make of these events: score, horizons, level, alert and reasons.

    With `leave_out` the history is scored a second time without those events: what it would be, had they not been.
    """
    desk = desk_of(request)
    _require_json(request)
    history = _decoded(body)
    taken = _taken(history, round(desk.clock().timestamp() * 1000))
    left = [item for item in taken if item.event.event_id not in set(history.leave_out)]

    def note(connection: Connection, user_id: str) -> None:
        note_reads(connection, principal, "prediction", [user_id], desk.clock())

    def work(connection: Connection) -> Answer:
        try:
            with _turn():
                predictor = desk.model.predictor
                whole = predictor.predict(taken)
                without = predictor.predict(left) if history.leave_out and left else None
        except BundleError as error:
            raise Problem(503, "unavailable", f"the model cannot be loaded: {error}") from error
        if whole is None:
            raise Problem(422, "invalid", "events: none of them can be scored: each is of another currency")
        note(connection, history.user_id)
        body = msgspec.json.encode(
            {"prediction": _shown(whole), "without": None if without is None else _shown(without)}
        )
        return Answer(body, history.user_id)

    return once(desk, principal, idempotency_key, request, body, work, note)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for the processor; raises `Problem` where others wait already."""
    if not _ROOM.acquire(blocking=False):
        raise Problem(503, "busy", "too many histories are being scored; try again in a moment")
    try:
        with _TURN:
            yield
    finally:
        _ROOM.release()


def _require_json(request: Request) -> None:
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != "application/json":
        raise Problem(415, "unsupported_media_type", "the body must be application/json")


_decode = msgspec.json.Decoder(PostedHistory).decode


def _decoded(body: bytes) -> PostedHistory:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        broken = not isinstance(error, msgspec.ValidationError)
        raise Problem(400 if broken else 422, "bad_request" if broken else "invalid", f"body: {error}") from None


def _taken(history: PostedHistory, now_ms: int) -> list[Taken]:
    """The events as a worker takes them in. Raises `Problem` naming those that it would refuse."""
    key = history.user_id.encode()
    intakes = {kind: Intake(kind) for kind in KINDS}
    last: dict[Kind, int] = {}
    partition = next((one.partition for one in history.events if one.partition is not None), 0)
    taken: list[Taken] = []
    faults: list[dict[str, str]] = []
    for number, one in enumerate(history.events):
        at = f"events[{number}]"
        offset = last.get(one.kind, -1) + 1 if one.offset is None else one.offset
        if offset <= last.get(one.kind, -1):
            faults.append({"at": f"{at}.offset", "message": "is not larger than that of the event of its kind before"})
        if one.partition is not None and one.partition != partition:
            faults.append({"at": f"{at}.partition", "message": "is another one than that of the events before"})
        last[one.kind] = offset
        outcome = intakes[one.kind].take(RawRecord(one.kind, partition, offset, now_ms, key, bytes(one.event)), now_ms)
        if isinstance(outcome, Taken):
            taken.append(outcome)
        else:
            faults.append({"at": f"{at}.event", "message": f"{outcome.reason}: {outcome.message}"})
    if faults:
        detail = f"{len(faults)} of {len(history.events)} events are not as the topics ask for; a worker refuses them"
        raise Problem(422, "invalid", detail, errors=faults[:MOST_SHOWN])
    return taken


def _shown(found: Prediction) -> dict[str, Any]:
    """A prediction as the answer has it: the records byte for byte."""
    return {
        "score": msgspec.Raw(found.score),
        "alert": None if found.alert is None else msgspec.Raw(found.alert),
        "reasons": found.explanation.reasons,
        "scored": found.scored,
        "not_scored": [
            {"event_id": _event_id(letter.value), "reason": letter.reason, "message": letter.message}
            for letter in found.refused
        ],
    }


def _event_id(value: bytes | None) -> str:
    return "" if value is None else str(msgspec.json.decode(value).get("event_id", ""))
