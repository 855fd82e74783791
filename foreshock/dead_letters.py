"""Commands `dead-letters list`, `dead-letters show` and `dead-letters replay`."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, get_args

import msgspec
import typer
from kafka.errors import KafkaError

from events.types import KINDS
from foreshock.options import (
    TIME,
    TIMES,
    AsJson,
    Yes,
    confirmed,
    event_progress,
    kafka_failure,
    kafka_of,
    takes_settings,
    utc_ms,
)
from foreshock.people import AsIs, known_as
from foreshock.tables import Column, Table, facts_table
from foreshock.terminal import console, errors, fail, print_json
from stream.dead_letters.letters import LetterCounts, LetterFilter, Letters, StoredLetter, stored_letter
from stream.dead_letters.sending_back import Plan, Sender, SendingFailed, inputs_of, sent_back_so_far
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError, create_topics, sent_back_specification
from stream.kafka.recent_records import RecentRecords
from stream.kafka.rights import require_rights
from stream.kafka.topic_reader import TopicReader, TopicUnreadable
from stream.least_rights import send_back_rights
from stream.outputs import ForeignRecord, RefusalCode, moment_of, shortened
from stream.settings import Settings

dead_letters_app = typer.Typer(help="List, show and send back what was refused.", no_args_is_help=True)

MOST_SHOWN = 4_000
"""Characters of a refused value that `show` prints; `--json` has all of it."""

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", metavar="CODE", help="Only this refusal code; may be repeated.")
]
InputTopics = Annotated[
    list[str] | None, typer.Option("--topic", metavar="TOPIC", help="Only of this input topic; may be repeated.")
]
Since = Annotated[
    dt.datetime | None, typer.Option(formats=TIMES, metavar=TIME, help="Only what was refused from then on, UTC.")
]
Until = Annotated[
    dt.datetime | None, typer.Option(formats=TIMES, metavar=TIME, help="Only what was refused before then, UTC.")
]
User = Annotated[str | None, typer.Option(metavar="USER", help="Only what is about this user.", show_default=False)]


@dead_letters_app.command("list")
@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir")
def list_(
    *,
    settings: Settings,
    reason: Reasons = None,
    topic: InputTopics = None,
    user: User = None,
    as_is: AsIs = False,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason, input topic and day, with examples.

    An example is `partition:offset` in the topic of dead letters, which `show` takes. Needs Kafka. Reads the topic from
    its beginning.

        foreshock dead-letters list --since 2024-05-01
    """
    wanted = _filter(settings, reason, topic, user, as_is, since, until)
    kafka = kafka_of(settings)
    with _failures(kafka), TopicReader(kafka) as reader:
        letters = Letters(reader, settings)
        counts = LetterCounts(sent_back_so_far(reader, settings.topics.sent_back))
        for stored in _with_progress(letters, quiet=as_json):
            if wanted.takes(stored):
                counts.add(stored)
    if as_json:
        print_json({"letters": counts.letters, "groups": counts.groups, "skipped": letters.skipped.total()})
        return
    table = Table(
        "reason", "topic", "refused on", Column("letters", numeric=True), Column("sent back", numeric=True), "examples"
    )
    for group in counts.groups:
        cells = (group.reason, group.topic, str(group.day), f"{group.letters:,}", f"{group.sent_back:,}")
        table.add_row(*cells, " ".join(group.examples))
    if counts.groups:
        console.print(table)
    console.print(f"{counts.letters:,} dead letters")
    _tell_of_others(letters)


@dead_letters_app.command("show")
@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir")
def show(
    *,
    settings: Settings,
    place: Annotated[
        str, typer.Argument(metavar="LETTER", help="Its partition:offset, or its id (the header foreshock.id).")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why, from where, headers and original.

    Needs Kafka. By an id, the topic is read from its beginning. Control characters are shown as escapes.

        foreshock dead-letters show 3:27
    """
    kafka = kafka_of(settings)
    with _failures(kafka):
        stored = _found(kafka, settings, place)
    letter = stored.letter
    told = {
        "letter": stored.place,
        "id": letter.dead_letter_id,
        "reason": letter.reason,
        "message": letter.message,
        "refused at": moment_of(stored.refused_ms).isoformat(),
        "refused by": letter.application_id or "(not known)",
        "record": stored.origin,
        "recorded at": _moment(letter.timestamp_ms),
        "sent back before": str(letter.sent_back),
    }
    if as_json:
        plain = {name.replace(" ", "_"): value for name, value in told.items()}
        content = {"key": _as_json(letter.key), "headers": [[name, _as_json(each)] for name, each in letter.headers]}
        print_json(plain | content | {"value": _as_json(letter.value), "left_out": letter.left_out})
        return
    console.print(facts_table(told.items()))
    for part, left_out in letter.left_out.items():
        console.print(f"{part}: {left_out.size:,} bytes were left out, SHA-256 {left_out.sha256}")
    console.print(f"key: {_text(letter.key)}")
    for name, each in letter.headers:
        console.print(f"header {name!r}: {_text(each)}")
    console.print("value:")
    console.print(shortened(_text(letter.value, indented=True), MOST_SHOWN), soft_wrap=True)


@dead_letters_app.command("replay")
@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir")
def send_back(
    *,
    settings: Settings,
    reason: Reasons = None,
    topic: InputTopics = None,
    user: User = None,
    as_is: AsIs = False,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send originals back to their input topics, each once.

    For after a fix. Key, value and headers are those of the refused record, on its partition, with a header that marks
    it. A letter is sent once, whatever happens: the command may be interrupted, killed and run again. What cannot be
    sent is named; repeats (`duplicate_event_id`) never are sent. Needs Kafka.

        foreshock dead-letters replay --reason in_the_future --dry-run
    """
    wanted = _filter(settings, reason, topic, user, as_is, since, until)
    kafka = kafka_of(settings)
    with _failures(kafka):
        if not dry_run:
            require_rights(kafka, send_back_rights(settings))
        sender = Sender(settings, inputs_of(kafka, settings), wanted)
        with TopicReader(kafka) as reader:
            letters, partitions = Letters(reader, settings), reader.partitions(settings.topics.dead_letters)
            book = sent_back_so_far(reader, settings.topics.sent_back)
            with event_progress(errors if as_json else console) as progress:
                task = progress.add_task("reading", total=letters.size)
                plan = sender.plan(letters, book, lambda read: progress.update(task, completed=read))
                progress.update(task, completed=letters.size)  # the ends of transactions are no records
        if not as_json:
            _show_plan(plan)
            _tell_of_others(letters)
        sent = 0
        if plan.letters and not dry_run:
            confirmed(f"Send {plan.letters:,} records back to their input topics?", yes=yes)
            create_topics(kafka, settings, [sent_back_specification(settings, partitions)])
            sent = _send(kafka, sender, plan, quiet=as_json)
    if as_json:
        print_json(_plan_json(plan) | {"sent": sent})
    elif not dry_run:
        console.print(f"{sent:,} records sent back")


def _send(kafka: KafkaConnection, sender: Sender, plan: Plan, *, quiet: bool) -> int:
    with TopicReader(kafka) as reader, event_progress(errors if quiet else console) as progress:
        task = progress.add_task("sending", total=plan.letters)
        try:
            return asyncio.run(
                sender.send(kafka, reader, plan, lambda sent: progress.update(task, completed=sent)),
            )
        except KeyboardInterrupt:
            done = int(progress.tasks[task].completed)
            fail(f"interrupted: {done:,} records were sent back; the same command sends the rest", code=130)


def _show_plan(plan: Plan) -> None:
    table = Table("reason", "to topic", Column("records", numeric=True))
    for (reason, topic), count in sorted(plan.to_send.items()):
        table.add_row(reason, topic, f"{count:,}")
    if plan.to_send:
        console.print(table)
    console.print(f"{plan.letters:,} records to send back, {plan.already:,} were sent before")
    for why, count in sorted(plan.kept_back.items()):
        console.print(f"{count:,} not sent: {why}; e.g. {', '.join(plan.examples[why])}")


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "to_send": [{"reason": reason, "topic": topic, "records": n} for (reason, topic), n in plan.to_send.items()],
        "sent_before": plan.already,
        "not_sent": [{"why": why, "letters": n, "examples": plan.examples[why]} for why, n in plan.kept_back.items()],
    }


def _filter(
    settings: Settings,
    reasons: list[str] | None,
    topics: list[str] | None,
    user: str | None,
    as_is: bool,
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> LetterFilter:
    codes = get_args(RefusalCode)
    for reason in reasons or ():
        if reason not in codes:
            fail(f"--reason {reason}: is none of {', '.join(codes)}", code=2)
    names = {str(kind): settings.topics.of_kind(kind) for kind in KINDS}
    for topic in topics or ():
        if topic not in names and topic not in names.values():
            fail(f"--topic {topic}: is none of {', '.join(names.values())}", code=2)
    return LetterFilter(
        frozenset(reasons or ()),
        frozenset(names.get(topic, topic) for topic in topics or ()),
        None if user is None else known_as(settings, user, as_is),
        None if since is None else utc_ms(since),
        None if until is None else utc_ms(until),
    )


def _found(kafka: KafkaConnection, settings: Settings, place: str) -> StoredLetter:
    topic = settings.topics.dead_letters
    if numbers := re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18})", place):
        with RecentRecords(kafka) as records:
            found = records.at(topic, int(numbers[1]), int(numbers[2]))
        if found is None:
            fail(f"{topic} has no record at {place}, or none any more; `foreshock dead-letters list` shows places")
        try:
            return stored_letter(found)
        except ForeignRecord as error:
            fail(f"{topic}:{place} is no dead letter of ours: {error}")
    with TopicReader(kafka) as reader:
        named = next((each for each in Letters(reader, settings).all() if each.letter.dead_letter_id == place), None)
    if named is not None:
        return named
    return fail(
        f"no dead letter in {topic} has the id {place!r}; give partition:offset, or an id as foreshock.id has it"
    )


def _with_progress(letters: Letters, *, quiet: bool) -> Iterator[StoredLetter]:
    with event_progress(errors if quiet else console) as progress:
        task = progress.add_task("reading", total=letters.size)
        yield from letters.all(lambda read: progress.update(task, completed=read))
        progress.update(task, completed=letters.size)  # the ends of transactions are no records


def _tell_of_others(letters: Letters) -> None:
    if count := letters.skipped.total():
        why, _ = letters.skipped.most_common(1)[0]
        errors.print(f"{count:,} records of others were left out, e.g.: {why}")


@contextmanager
def _failures(kafka: KafkaConnection) -> Iterator[None]:
    try:
        yield
    except (TopicUnreadable, ProvisioningError, SendingFailed) as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))


def _text(content: bytes | None, *, indented: bool = False) -> str:
    """Bytes as one may read them: JSON, text, or the bytes with escapes. The console escapes control characters."""
    if content is None:
        return "(none)"
    if indented:
        try:
            return json.dumps(msgspec.json.decode(content), indent=2, ensure_ascii=False)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    try:
        return content.decode()
    except UnicodeDecodeError:
        return repr(content)


def _as_json(content: bytes | None) -> Any:
    """Bytes in a JSON document: `json` as it was meant, else `text`, else `base64`."""
    if content is None:
        return None
    try:
        return {"json": msgspec.json.decode(content)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": content}


def _moment(ms: int) -> str:
    try:
        return moment_of(ms).isoformat()
    except OverflowError:
        return f"{ms} ms since 1970-01-01"
