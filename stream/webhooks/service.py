"""One process that takes what webhooks are told of from the topics and sends it, until it is told to stop.

Any number of them share the work: partitions of the topics by the consumer group, messages to send by claims.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stream.database.connection import DatabaseConnection
from stream.database.probe import DatabaseProbe
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import topic_id, topic_states
from stream.kafka.rights import denial
from stream.kafka.stall import StallWatch
from stream.logs import log_end, told
from stream.settings import Settings, SettingsError
from stream.telemetry.health import Standing
from stream.webhooks.addresses import AddressRules
from stream.webhooks.deliverer import Deliverer
from stream.webhooks.deliveries import DeliveryTable
from stream.webhooks.figures import WebhookFigures
from stream.webhooks.intake import Intake, sources
from stream.webhooks.sealing import SealError, SealingKeys
from stream.webhooks.sender import Sender

logger = logging.getLogger("foreshock.webhooks")


def sealing_keys(settings: Settings) -> SealingKeys:
    """The keys that secrets are encrypted with. Raises `SettingsError`."""
    if settings.webhook_key is None:
        raise SettingsError(
            "webhook_key: is needed to encrypt the secrets of webhooks; `openssl rand -hex 32` makes one, keep it as "
            "you keep passwords"
        )
    try:
        return SealingKeys.from_hex(settings.webhook_key.get_secret_value())
    except SealError as error:
        raise SettingsError(f"webhook_key: {error}") from None


def address_rules(settings: Settings) -> AddressRules:
    """Where webhooks may point."""
    return AddressRules.parse(settings.webhook_networks, insecure=settings.insecure)


def topic_ids(kafka: KafkaConnection, settings: Settings) -> dict[str, str]:
    """Of the topics that webhooks are told of, as far as they exist; `alerts` must. Raises `ProvisioningError`."""
    there = topic_states(kafka, lambda name: name in sources(settings))
    actions = settings.topics.alert_actions
    if actions not in there:
        logger.warning("there is no topic %s; what is done about alerts is told once it is there at the start", actions)
    wanted = [topic for topic in sources(settings) if topic != actions or topic in there]
    return {topic: topic_id(kafka, topic) for topic in wanted}


@dataclass
class WebhookService:
    """The process. `figures` are for its metrics."""

    settings: Settings
    kafka: KafkaConnection
    database: DatabaseConnection
    keys: SealingKeys
    figures: WebhookFigures = field(default_factory=WebhookFigures)
    error: BaseException | None = None

    def run(self, on_look: Callable[[float], None] = lambda _: None) -> int:
        """Until SIGINT or SIGTERM, or until it fails; returns the exit code. `on_look` as `StallWatch` has it."""
        logger.info("webhooks start: application %s", self.settings.application_id)
        try:
            asyncio.run(self._run(on_look))
        except Exception as error:
            self.error = error
            log_end(logger, "webhooks stop", error, denial(error, self.kafka))
            return 1
        return 0

    async def _run(self, on_look: Callable[[float], None]) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        watch = StallWatch(loop, self.settings.stall_timeout_s, "webhooks", on_look=on_look)
        watch.start()
        # Two connections: a batch that is being written does not hold up what is being sent.
        incoming, outgoing = DeliveryTable(self.database), DeliveryTable(self.database)
        settings = self.settings
        try:
            ids = await asyncio.to_thread(topic_ids, self.kafka, settings)
            async with Sender(address_rules(settings), settings.webhook_timeout_s, settings.webhook_cafile) as sender:
                deliverer = Deliverer(settings, outgoing, self.keys, sender, self.figures)
                intake = Intake(settings, self.kafka, incoming, self.figures, ids, deliverer.wake)
                await _together(stopping, intake.run(stopping), deliverer.run(stopping))
        finally:
            watch.stop()
            incoming.close()
            outgoing.close()


async def _together(stopping: asyncio.Event, *parts: Any) -> None:
    """Run all until they end; the first that fails has the others stop."""
    tasks = [asyncio.create_task(part) for part in parts]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    stopping.set()
    await asyncio.gather(*tasks)


def standing_of(service: WebhookService, probe: DatabaseProbe) -> Standing:
    """Whether it has work, does it, and has partitions and a database of this release's schema."""
    figures = service.figures
    excuse: str | None = None
    unready = probe.problem
    if unready is not None or figures.waits_for_database:
        excuse = unready = unready or "the database is not available"
    if (unreachable_s := figures.unreachable_s) > 0:
        excuse = unready = f"no broker has answered for {unreachable_s:.0f} s"
    if figures.assigned is None:
        excuse = "the group shares out its partitions"
        unready = unready or excuse
    return Standing(
        commits=figures.batches,
        polls=figures.polls,
        work=figures.is_writing or any(figures.lag.values()),
        partitions=len(figures.assigned or ()),
        excuse=excuse,
        unready=unready,
        ends=None if service.error is None else told(service.error),
    )
