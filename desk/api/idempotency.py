"""Requests that may be sent again: with the same `Idempotency-Key` they are done once, and answered as the first time.

The key is locked, the work is done and the answer is kept in one transaction: whoever ends in between leaves nothing,
and a process that is killed no key that stays in use. Only what was done is kept; a refusal may be tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request
from sqlalchemy import Connection, delete, func, insert, select
from starlette.responses import Response

from desk.access.expiry import ANSWERS_KEPT
from desk.access.principals import Principal
from desk.context import Desk
from desk.problems import Problem
from stream.database.access_tables import IdempotentRequest

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A text of your own, for instance a UUID: a request that is sent again with it within a day is "
        "done once, and answered as the first time.",
    ),
]


@dataclass(frozen=True)
class Answer:
    """What a request comes to: the JSON of its answer, and whom that tells of."""

    body: bytes
    user_id: str | None = None
    status: int = 200


async def body_of(request: Request) -> bytes:
    """The bytes of the request's body."""
    return await request.body()


def once(
    desk: Desk,
    principal: Principal,
    key: str | None,
    request: Request,
    body: bytes,
    work: Callable[[Connection], Answer],
    seen_again: Callable[[Connection, str], None] = lambda _connection, _user_id: None,
) -> Response:
    """Do `work` in a transaction and answer; with a `key`, once for the same request of the same principal.

    `seen_again` is told of the user of an answer that is given again. Raises `Problem` for a key that is in use or was
    used for another request.
    """
    with desk.transaction() as connection:
        if key is None:
            return _response(work(connection))
        if not _locked(connection, principal.key, key):
            raise Problem(409, "key_in_use", "a request with this Idempotency-Key is being done; wait for its answer")
        now = desk.clock()
        asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()
        mine = (IdempotentRequest.principal == principal.key, IdempotentRequest.key == key)
        connection.execute(delete(IdempotentRequest).where(*mine, IdempotentRequest.created_at <= now - ANSWERS_KEPT))
        kept = connection.execute(
            select(
                IdempotentRequest.request_sha256,
                IdempotentRequest.status,
                IdempotentRequest.response,
                IdempotentRequest.user_id,
            ).where(*mine)
        ).one_or_none()
        if kept is not None:
            if bytes(kept.request_sha256) != asked:
                raise Problem(
                    422, "key_reused", "this Idempotency-Key was used for another request within a day; take a new one"
                )
            if kept.user_id is not None:
                seen_again(connection, kept.user_id)
            return _response(Answer(bytes(kept.response), kept.user_id, kept.status), again=True)
        answer = work(connection)
        connection.execute(
            insert(IdempotentRequest).values(
                principal=principal.key,
                key=key,
                request_sha256=asked,
                user_id=answer.user_id,
                status=answer.status,
                response=answer.body,
                created_at=now,
            )
        )
    return _response(answer)


def _locked(connection: Connection, principal: str, key: str) -> bool:
    """Whether the key is this transaction's alone, until it ends."""
    digest = hashlib.sha256(f"{principal}\n{key}".encode()).digest()
    number = int.from_bytes(digest[:8], signed=True)
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(number))).scalar_one())


def _response(answer: Answer, *, again: bool = False) -> Response:
    headers = {"Idempotent-Replayed": "true"} if again else None
    media_type = "application/json" if answer.body else None
    return Response(answer.body or None, answer.status, headers, media_type)
