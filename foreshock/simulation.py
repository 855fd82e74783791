"""The `simulate` command: the events of made-up borrowers, published to the input topics or written to a file."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from foreshock.options import AsJson, LateOption, TwiceOption, event_progress, kafka_failure, kafka_of, takes_settings
from foreshock.terminal import console, errors, fail, tell
from model.datasets.dataset import DatasetError
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from stream.kafka.publisher import open_publisher
from stream.kafka.rights import require_rights
from stream.least_rights import publisher_rights
from stream.settings import Settings


@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir", "log_format")
def simulate(
    *,
    settings: Settings,
    users: Annotated[int, typer.Option(min=1, help="Borrowers in the portfolio.")] = 2_000,
    months: Annotated[int, typer.Option(min=1, help="Simulated months.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write JSON lines to this file instead of publishing.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")] = None,
    late: LateOption = 0.0,
    twice: TwiceOption = 0.0,
    as_json: AsJson = False,
) -> None:
    """Publish the events of simulated borrowers to the input topics.

    Needs Kafka with its topics, or `--out` for a file of JSON lines. Events come in order of event time. With `--late
    0.02 --twice 0.005` some arrive late or twice, as in an ordinary feed. With the setting `pseudonym_key`, borrowers
    stand under their pseudonyms.

        foreshock simulate --users 1000 --months 12 --out events.jsonl
    """
    try:
        dataset = open_dataset("simulator", None, users=users, months=months, seed=seed)
    except DatasetError as error:
        fail(str(error))
    arrivals, pseudonyms = arrivals_of(dataset, late, twice, seed), settings.pseudonyms
    events = itertools.islice(arrivals if pseudonyms is None else pseudonyms.put_on_all(arrivals), limit)
    shown_on = errors if as_json else console
    if out is not None:
        number = 0
        with out.open("wb") as file, event_progress(shown_on) as progress:
            task = progress.add_task("writing", total=limit)
            for number, (kind, _, value, _) in enumerate(events, start=1):
                file.write(b'{"topic":"%s","event":%s}\n' % (settings.topics.of_kind(kind).encode(), value))
                if number % 1_000 == 0:
                    progress.update(task, completed=number)
        tell(as_json, {"events": number, "file": str(out)}, f"wrote {out}")
        return
    kafka = kafka_of(settings)
    require_rights(kafka, publisher_rights(settings))

    async def publish() -> int:
        with event_progress(shown_on) as progress:
            task = progress.add_task("publishing", total=limit)
            async with open_publisher(kafka, settings.topics) as publisher:
                return await publisher.publish(events, lambda sent, _: progress.update(task, completed=sent))

    try:
        published = asyncio.run(publish())
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
    tell(as_json, {"events": published}, f"published {published:,} events")
