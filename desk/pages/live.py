"""News of cases as Server-Sent Events: one listener per process, and a stream for each page that is open.

A page is told which case has changed, by its id, and asks for the page itself again; news hold no figures. Events of a
stream:

    anew     what came before is not known here: read the page again, then it is live
    resumed  nothing was missed since the event that the browser named as its last
    case     a case has changed: its `alert_id`
    beat     nothing was missed up to now
    deaf     the database is not heard: what the page shows may be old

The number of an event, `EPOCH-NUMBER`, counts within one listening of one process. A browser that comes back with the
number of another listening, or of one that is kept no more, is told `anew`: so is what NOTIFY lost while nobody
listened. Sessions and scopes are looked at anew whenever a stream begins; a stream ends after `STREAM_S`, for the
browser to begin another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated

import psycopg
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from desk.access.dependencies import SessionMay
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.context import Desk, desk_of
from stream.database.case_tables import CASE_CHANNEL, Case
from stream.database.errors import DatabaseError

logger = logging.getLogger("foreshock.desk.live")

KEPT = 1_000
"""News that a browser may have missed and still be told."""

BEAT_S = 15.0
STREAM_S = 60.0
RETRY_S = 2.0
_LISTEN_S = 0.5
"""How long the listener waits at once, before it looks whether it is to end."""

_MOST_AT_ONCE = 200


@dataclass(frozen=True)
class News:
    """One case has changed. `product` is the case's, for whom it concerns; None where that is not known."""

    number: int
    alert_id: str
    product: str | None


@dataclass(eq=False)
class Subscriber:
    """One open page; `woken` is set in its event loop when there is something to tell."""

    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Board:
    """What was heard in this process, for all its streams. Safe to use from threads.

    `epoch` names the present listening; it is empty while the database is not heard.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news: deque[News] = deque(maxlen=KEPT)
        self._subscribers: set[Subscriber] = set()
        self.epoch = ""
        self.latest = 0

    def begin(self) -> None:
        """A new listening: nothing is known of what came before it."""
        with self._lock:
            self.epoch = secrets.token_hex(6)
            self.latest = 0
            self._news.clear()
        self._wake()

    def deaf(self) -> None:
        """The database is not heard any more."""
        with self._lock:
            self.epoch = ""
        self._wake()

    def tell(self, changed: list[tuple[str, str | None]]) -> None:
        """Cases (id and product) that have changed, in order."""
        with self._lock:
            for alert_id, product in changed:
                self.latest += 1
                self._news.append(News(self.latest, alert_id, product))
        self._wake()

    def since(self, epoch: str, number: int) -> list[News] | None:
        """What came after a number of a listening; None where that cannot be told."""
        with self._lock:
            if not epoch or epoch != self.epoch or number > self.latest:
                return None
            oldest = self._news[0].number if self._news else self.latest + 1
            if number + 1 < oldest:
                return None
            return [news for news in self._news if news.number > number]

    def stand(self) -> tuple[str, int]:
        """The present listening and its latest number."""
        with self._lock:
            return self.epoch, self.latest

    @contextmanager
    def told(self, subscriber: Subscriber) -> Iterator[None]:
        """Wake a subscriber meanwhile."""
        with self._lock:
            self._subscribers.add(subscriber)
        try:
            yield
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)

    @property
    def subscribers(self) -> int:
        """How many pages are told."""
        return len(self._subscribers)

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._subscribers)
        for each in waiting:
            # A loop that is closed has nobody who waits.
            with suppress(RuntimeError):
                each.loop.call_soon_threadsafe(each.woken.set)


class Listener:
    """The thread that listens to the database and tells the board. Starts with the first stream, ends with the desk."""

    def __init__(self, desk: Desk, board: Board) -> None:
        self._desk = desk
        self._board = board
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen from now on; once is enough."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._listen, name="desk-listener", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        while not self._desk.stopping.is_set():
            try:
                self._listen_once()
            except (psycopg.Error, DatabaseError, OSError) as error:
                self._board.deaf()
                logger.warning("the desk does not hear of changes: %s; it tries again in %s s", error, RETRY_S)
                self._desk.stopping.wait(RETRY_S)
        self._board.deaf()

    def _listen_once(self) -> None:
        with self._desk.database.connect("foreshock-desk-listener") as connection:
            connection.execute(f"LISTEN {CASE_CHANNEL}")
            # Only now: what changes between a page's reading and this is told of by `anew`.
            self._board.begin()
            while not self._desk.stopping.is_set():
                heard = [one.payload for one in connection.notifies(timeout=_LISTEN_S, stop_after=_MOST_AT_ONCE)]
                if heard:
                    self._board.tell(self._with_products(list(dict.fromkeys(heard))))
                else:
                    # A server that is gone is noticed by asking it, not by its silence.
                    connection.execute("SELECT 1")

    def _with_products(self, alert_ids: list[str]) -> list[tuple[str, str | None]]:
        with self._desk.transaction() as connection:
            rows = connection.execute(select(Case.alert_id, Case.product).where(Case.alert_id.in_(alert_ids)))
            products = {row.alert_id: row.product for row in rows}
        # A case that is gone, since its borrower was forgotten, is told of to those who see all products.
        return [(alert_id, products.get(alert_id)) for alert_id in alert_ids]


def frame(event: str, data: str, number: str | None = None) -> bytes:
    """One event as it goes over the wire."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {event}\ndata: {data}\n\n".encode()


def parse(last_event_id: str | None) -> tuple[str, int]:
    """Listening and number of a `Last-Event-ID`; no listening where it is none of ours."""
    epoch, _, number = (last_event_id or "").partition("-")
    return (epoch, int(number)) if number.isascii() and number.isdigit() and len(number) < 16 else ("", 0)


async def stream(
    board: Board,
    desk: Desk,
    products: frozenset[str] | None,
    last_event_id: str | None,
    *,
    beat_s: float = BEAT_S,
    stream_s: float = STREAM_S,
) -> AsyncIterator[bytes]:
    """What one page is told, until `stream_s` have passed or the desk ends."""
    loop = asyncio.get_running_loop()
    subscriber = Subscriber(loop)
    until = loop.time() + stream_s
    epoch, number = parse(last_event_id)
    first = True
    with board.told(subscriber), desk.figures.listening():
        yield b"retry: 2000\n\n"
        while loop.time() < until and not desk.stopping.is_set():
            subscriber.woken.clear()
            missed = board.since(epoch, number)
            if missed is None:
                epoch, number = board.stand()
                yield frame("anew", "{}", f"{epoch}-{number}") if epoch else frame("deaf", "{}")
            elif first:
                yield frame("resumed", "{}", f"{epoch}-{number}")
            first = False
            for news in missed or ():
                number = news.number
                if products is None or news.product in products:
                    yield frame("case", f'{{"alert_id": {json.dumps(news.alert_id)}}}', f"{epoch}-{number}")
            if not await _woken(subscriber, min(beat_s, until - loop.time())) and epoch:
                yield frame("beat", "{}", f"{epoch}-{number}")


async def _woken(subscriber: Subscriber, seconds: float) -> bool:
    try:
        await asyncio.wait_for(subscriber.woken.wait(), max(seconds, 0.01))
    except TimeoutError:
        return False
    return True


router = APIRouter(include_in_schema=False)


@router.get("/live")
async def live(
    request: Request,
    session: Annotated[Session, SessionMay(Permission.SEE_USERS)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The stream of news for one page."""
    desk = desk_of(request)
    board: Board = request.app.state.board
    request.app.state.listener.start()
    return StreamingResponse(
        stream(board, desk, session.principal.products, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
