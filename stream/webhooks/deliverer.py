"""Sends what the table of deliveries holds: for each webhook a lane of its own, so that a receiver that fails or hangs
holds up no other.

A lane claims what is due, up to so many messages at a time; of a receiver that is not at work it claims one, after a
pause, to see whether it is back. What was sent and could not be noted, because the database went away, is sent again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
from collections.abc import Callable
from functools import partial

from stream.database.errors import DatabaseUnavailable
from stream.settings import Settings
from stream.webhooks.deliveries import PRUNED_AT_ONCE, Claimed, DeliveryTable
from stream.webhooks.figures import WebhookFigures
from stream.webhooks.receivers import Webhook
from stream.webhooks.schedule import STRUGGLING_FAILURES, Answer, Outcome
from stream.webhooks.sealing import SealError, SealingKeys
from stream.webhooks.sender import Sender
from stream.webhooks.signing import signed_headers

LOOK_EVERY_S = 1.0
"""How often a process looks for what other processes have added, for webhooks that are new, and for what is due."""

FIGURES_EVERY_S = 15.0
PRUNE_EVERY_S = 600.0
SETTLE_AGAIN_S = 0.5

DEAD = "dead"
"""What came of the last try of a delivery, for the figures, where it failed as those before."""

logger = logging.getLogger("foreshock.webhooks")


def lease_s(settings: Settings) -> float:
    """How long a claim holds: a try, and as long again to note what came of it."""
    return 2 * settings.webhook_timeout_s + 1


class Deliverer:
    """The lanes of one process."""

    def __init__(
        self,
        settings: Settings,
        table: DeliveryTable,
        keys: SealingKeys,
        sender: Sender,
        figures: WebhookFigures,
        *,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._table, self._keys, self._sender, self._figures = table, keys, sender, figures
        self._now, self._monotonic, self._chance = now, monotonic, chance
        self._webhooks: dict[str, Webhook] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._woken: dict[str, asyncio.Event] = {}
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None

    def wake(self) -> None:
        """There may be something to send."""
        for woken in self._woken.values():
            woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop; what is being sent then is sent to its end."""
        counted_s = pruned_s = -PRUNE_EVERY_S
        while not stopping.is_set():
            try:
                await self._look()
                if self._monotonic() - counted_s >= FIGURES_EVERY_S:
                    self._figures.waiting = await asyncio.to_thread(self._table.standings)
                    counted_s = self._monotonic()
                if self._monotonic() - pruned_s >= PRUNE_EVERY_S:
                    # One part at a look: between two parts, deliveries go on.
                    gone = await asyncio.to_thread(self._table.prune, self._settings.webhook_keep_days)
                    if gone < PRUNED_AT_ONCE:
                        pruned_s = self._monotonic()
            except DatabaseUnavailable as error:
                self._note_outage(error)
            await _either(stopping, LOOK_EVERY_S)
        self._stopping.set()
        self.wake()
        await asyncio.gather(*self._lanes.values())

    async def _look(self) -> None:
        """Learn of webhooks, and begin a lane for each that is new."""
        found = {webhook.name: webhook for webhook in await asyncio.to_thread(self._table.webhooks)}
        self._figures.waits_for_database = False
        self._webhooks = found
        if self._failure is not None:
            raise self._failure
        for name in found.keys() - self._lanes.keys():
            self._woken[name] = asyncio.Event()
            self._lanes[name] = asyncio.create_task(self._lane(name, self._woken[name]))
        for name in [name for name, lane in self._lanes.items() if lane.done()]:
            self._lanes.pop(name).result()  # which raises what it may have ended with
            del self._woken[name]

    async def _lane(self, name: str, woken: asyncio.Event) -> None:
        """Send to one webhook until it is removed."""
        under_way: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set() and (webhook := self._webhooks.get(name)) is not None:
            woken.clear()
            claimed: list[Claimed] = []
            began_s = self._monotonic()
            try:
                if (room := self._room(webhook) - len(under_way)) > 0:
                    claimed = await asyncio.to_thread(self._table.claim, name, room, lease_s(self._settings))
            except DatabaseUnavailable as error:
                self._note_outage(error)
            for one in claimed:
                task = asyncio.create_task(self._deliver(webhook, one, began_s))
                under_way.add(task)
                task.add_done_callback(partial(self._done, under_way, woken))
            await _either(woken, LOOK_EVERY_S)
        if under_way:
            await asyncio.gather(*under_way)

    def _room(self, webhook: Webhook) -> int:
        """How many messages may be under way to it."""
        if webhook.state != "active" or (webhook.paused_until is not None and webhook.paused_until > self._now()):
            return 0
        return 1 if webhook.failures >= STRUGGLING_FAILURES else self._settings.webhook_concurrency

    def _done(self, under_way: set[asyncio.Task[None]], woken: asyncio.Event, task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        woken.set()

    async def _deliver(self, webhook: Webhook, claimed: Claimed, began_s: float) -> None:
        """One try. `began_s` is when it was claimed: who was frozen since has lost the claim, and sends nothing."""
        if self._monotonic() - began_s > self._settings.webhook_timeout_s:
            try:
                await asyncio.to_thread(self._table.release, claimed)
            except DatabaseUnavailable as error:
                self._note_outage(error)  # the lease ends by itself
            return
        started_s = self._monotonic()
        try:
            secrets = webhook.secrets(self._keys, self._now())
        except SealError as error:
            answer = Answer(None, str(error))
        else:
            timestamp_s = int(self._now().timestamp())
            headers = signed_headers(secrets, claimed.message_id, timestamp_s, claimed.body)
            answer = await self._sender.send(webhook.url, headers, claimed.body)
        seconds = self._monotonic() - started_s
        dead = answer.outcome in (Outcome.REFUSED, Outcome.UNAVAILABLE) and (
            claimed.attempts >= self._settings.webhook_attempts
        )
        self._figures.note_try(claimed.webhook, DEAD if dead else str(answer.outcome), seconds)
        self._tell(claimed, answer, dead=dead)
        await self._settle(claimed, answer, began_s)

    async def _settle(self, claimed: Claimed, answer: Answer, began_s: float) -> None:
        """Note what came of a try; while the claim holds, also through an outage of the database."""
        while True:
            try:
                noted = await asyncio.to_thread(
                    self._table.settle, claimed, answer, self._settings.webhook_attempts, self._chance()
                )
                if noted is Outcome.GONE:
                    await self._look()
            except DatabaseUnavailable as error:
                self._note_outage(error)
                if self._monotonic() - began_s > lease_s(self._settings):
                    return
                await asyncio.sleep(SETTLE_AGAIN_S)
                continue
            if noted is None:
                logger.info("%s: %s was claimed by another process or told again meanwhile", *_names(claimed))
            return

    def _tell(self, claimed: Claimed, answer: Answer, *, dead: bool) -> None:
        fields = {"webhook": claimed.webhook, "message_id": claimed.message_id, "attempts": claimed.attempts}
        if dead:
            logger.error(
                "%s: %s is dead after %d tries, the last: %s; `foreshock webhooks replay` tells it again",
                *_names(claimed), claimed.attempts, answer.words, extra=fields,
            )  # fmt: skip
        elif answer.outcome is Outcome.GONE:
            logger.error("%s is disabled: it wants no more messages (status 410)", claimed.webhook, extra=fields)
        elif answer.outcome is not Outcome.DELIVERED:
            logger.warning("%s: %s: %s", *_names(claimed), answer.words, extra=fields)

    def _note_outage(self, error: DatabaseUnavailable) -> None:
        if not self._figures.waits_for_database:
            logger.warning("%s; what was sent meanwhile may be sent again", error)
        self._figures.note_outage()


def _names(claimed: Claimed) -> tuple[str, str]:
    return claimed.webhook, claimed.message_id


async def _either(event: asyncio.Event, longest_s: float) -> None:
    """Until the event, at most so long."""
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        pass
