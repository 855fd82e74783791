"""Commands on people's data: `forget`, `export` and `pseudonym`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import typer
from kafka.errors import KafkaError

from events.pseudonyms import Pseudonyms
from events.types import EVENT_TYPES, KINDS, Kind, encode_event
from foreshock.options import AsJson, Yes, database_of, event_progress, interruptible, kafka_of, takes_settings
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings, SettingsError

if TYPE_CHECKING:
    from stream.event_archive.erasing import Erased
    from stream.people.places import Place

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]
AsIs = Annotated[
    bool, typer.Option("--as-is", help="USER is the id that stands in the topics; no pseudonym is computed.")
]
ArchiveFolder = Annotated[
    Path | None, typer.Option("--archive", help="Folder of an archive of topics.", show_default=False)
]
WithoutDatabase = Annotated[bool, typer.Option("--without-database", help="There is no PostgreSQL.")]


@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir")
def forget(
    *,
    settings: Settings,
    user: UserArgument,
    as_is: AsIs = False,
    without_database: WithoutDatabase = False,
    archive: ArchiveFolder = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 60.0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Forget a user: state, scores, alerts, rows of the database.

    Sends a tombstone to the topic `profiles`, waits until the workers have forgotten the state, deletes the rows in
    PostgreSQL, erases what an archive holds, and says which topics keep records of the user and until when. Stop
    sending events of the user first: a later one begins a new history. Needs Kafka, running workers and PostgreSQL;
    safe to run again.

        foreshock forget customer-4711 --config production.toml
    """
    from stream.database import person
    from stream.database.errors import DatabaseError
    from stream.kafka.provisioning import ProvisioningError
    from stream.people.forgetting import NotForgotten, send_tombstones, wait_for_workers
    from stream.people.places import places

    name = known_as(settings, user, as_is)
    kafka = kafka_of(settings)
    database = None if without_database else database_of(settings)
    if not yes and not typer.confirm(f"Forget {name!r} for good?", err=True):
        raise typer.Exit(1)
    try:
        with interruptible(f"{name!r} is not forgotten yet; the same command goes on with it"):
            # Counted before: the sink may come to a tombstone first.
            before = Counter() if database is None else person.count(database, name)
            offsets = send_tombstones(kafka, settings, name)
            with errors.status("waiting for the workers to forget …"):
                late = wait_for_workers(kafka, settings, offsets, wait)
            deleted = {} if database is None else person.forget(database, name)
            held = places(kafka, settings)
    except (NotForgotten, ProvisioningError, DatabaseError) as error:
        fail(str(error))
    except KafkaError as error:
        fail(f"{kafka}: {error!r}; run the command again, a second time does no harm")
    rows = {relation: max(count, before[relation]) for relation, count in deleted.items()}
    if not as_json:
        _show_forgotten(rows, held)
    elif late:
        print_json(_forgotten(name, rows, held, late))
    if late:
        fail(
            f"{name!r} is not forgotten yet: within {wait:.0f} s no worker has committed the tombstone on partitions "
            f"{sorted(late)} of {settings.topics.of_kind('profiles')}. It stays there; start the workers, and run the "
            "command again to see that it is done"
        )
    erased = _forget_in_archive(kafka, archive, name, as_json=as_json)
    if as_json:
        print_json(_forgotten(name, rows, held) | {"archive": [msgspec.to_builtins(one) for one in erased]})
        return
    console.print(f"forgot {name!r}; the sink deletes what it has yet to write of them when it comes to the tombstones")


@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "application_id", "bundle", "stack_dir")
def export(
    *,
    settings: Settings,
    user: UserArgument,
    out: Annotated[Path | None, typer.Option(help="Write to this file.", show_default="standard output")] = None,
    as_is: AsIs = False,
    without_database: WithoutDatabase = False,
    archive: ArchiveFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is held about a user as one JSON document.

    Records of all topics and of an archive, the state in words, and the rows of the database. Reads every topic from
    its beginning. Needs Kafka, PostgreSQL, and the workers' bundle for the words of the state.

        foreshock export customer-4711 --out 4711.json --config production.toml
    """
    from model.bundle import Bundle, BundleError
    from stream.database.errors import DatabaseError
    from stream.event_archive.manifest import ArchiveError
    from stream.kafka.provisioning import ProvisioningError
    from stream.kafka.topic_reader import TopicUnreadable
    from stream.people.export import export as write

    name = known_as(settings, user, as_is)
    kafka = kafka_of(settings)
    database = None if without_database else database_of(settings)
    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        again = interruptible("nothing was written; the same command begins anew")
        with again, _written(out) as file, event_progress(errors) as progress:
            task = progress.add_task("reading", total=None)
            counts = write(
                file, name, settings, kafka, database, bundle, archive,
                lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
    except (BundleError, ProvisioningError, TopicUnreadable, DatabaseError, ArchiveError) as error:
        fail(str(error))
    except KafkaError as error:
        fail(f"{kafka}: {error!r}; is the broker up? `foreshock doctor` tells")
    if out is not None and as_json:
        print_json({"user": name, "file": str(out), "found": dict(counts)})
    elif out is not None:
        found = ", ".join(f"{place} {count:,}" for place, count in counts.items())
        console.print(f"wrote {out}: {found or 'nothing is held'}")


@takes_settings()
def pseudonym(
    *,
    settings: Settings,
    user: Annotated[str | None, typer.Argument(metavar="[USER]", help="The user's id.", show_default=False)] = None,
    events: Annotated[
        Path | None, typer.Option(help="JSON lines of events to turn; - is standard input.", allow_dash=True)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --events: the file.", show_default="standard output")] = None,
) -> None:
    """Print a user's pseudonym, or put pseudonyms into events.

    A line of `--events` is `{"topic": …, "event": {…}}`, as `simulate --out` writes them. Fields that no schema has are
    left out, since they might name somebody. Ends at the first line that is no event, and says which. Needs the secret
    `pseudonym_key`, which stays where events enter Kafka.

        foreshock pseudonym customer-4711
        foreshock pseudonym --events events.jsonl --out pseudonymous.jsonl
    """
    if (user is None) == (events is None):
        fail("give either a user or --events", code=2)
    pseudonyms = _pseudonyms(settings)
    if user is not None:
        console.print(pseudonyms.of(user))
        return
    try:
        opened = sys.stdin.buffer if events is None or str(events) == "-" else events.open("rb")
    except OSError as error:
        fail(f"{events} cannot be read: {error.strerror}")
    with opened as lines, _written(out) as file:
        for line in _pseudonymous(lines, pseudonyms):
            file.write(line)


def _show_forgotten(rows: Mapping[str, int], held: Iterable[Place]) -> None:
    for relation, count in rows.items():
        console.print(f"{relation}: {count:,} rows {'changed' if relation == 'replay_runs' else 'deleted'}")
    table = Table("topic", Column("what it holds of the user stays", prose=True))
    for place in held:
        table.add_row(place.topic, place.until)
    console.print(table)


def _forgotten(
    user_id: str, rows: Mapping[str, int], held: Iterable[Place], late: Iterable[int] = ()
) -> dict[str, Any]:
    """JSON-ready: `waits_for_partitions` are those whose workers have not forgotten the user yet."""
    topics = {place.topic: place.until for place in held}
    return {"user": user_id, "rows": dict(rows), "topics": topics, "waits_for_partitions": sorted(late)}


def _forget_in_archive(kafka: KafkaConnection, folder: Path | None, user_id: str, *, as_json: bool) -> Sequence[Erased]:
    """Erase a user in an archive, or say that archives keep them."""
    from stream.event_archive.manifest import ArchiveError
    from stream.kafka.provisioning import ProvisioningError
    from stream.kafka.topic_reader import TopicUnreadable
    from stream.people.archived import erase_in_archive

    if folder is None:
        shown_on = errors if as_json else console
        shown_on.print(
            "archives of topics (`foreshock archive`) keep their records: --archive FOLDER erases them there"
        )
        return ()
    try:
        stays = interruptible("the archive may still hold the user's records: run `foreshock archive forget`")
        with stays, _progress(shown=True) as on_progress:
            erased = erase_in_archive(kafka, folder, user_id, on_progress)
    except (ArchiveError, TopicUnreadable, ProvisioningError, KafkaError) as error:
        fail(f"{error}; the archive may still hold records of {user_id!r}: run `foreshock archive forget` again")
    if not as_json:
        print_erased(erased, folder)
    return erased


def print_erased(erased: Sequence[Erased], folder: Path) -> None:
    """Say what was erased in an archive."""
    for one in erased:
        if one.records:
            console.print(f"{one.topic}-{one.partition}: {one.records:,} records erased in {one.files:,} files")
    console.print(f"{folder} holds nothing of the user but tombstones; copies of it are yours to clean")


class _Line(msgspec.Struct):
    topic: str
    event: msgspec.Raw


def _pseudonymous(lines: Iterable[bytes], pseudonyms: Pseudonyms) -> Iterator[bytes]:
    decode = {kind: msgspec.json.Decoder(of_kind).decode for kind, of_kind in EVENT_TYPES.items()}
    for number, line in enumerate(lines, start=1):
        try:
            found = msgspec.json.decode(line, type=_Line)
            event = pseudonyms.put_on(decode[_kind_of(found.topic)](found.event))
        except (ValueError, RecursionError) as error:  # of msgspec, of UTF-8, and our own
            fail(f"line {number}: {error}")
        yield b'{"topic":%s,"event":%s}\n' % (msgspec.json.encode(found.topic), encode_event(event))


def _kind_of(topic: str) -> Kind:
    """The kind of event in a topic, whatever its prefix. Raises `ValueError`."""
    for kind in KINDS:
        if topic.endswith(kind):
            return kind
    raise ValueError(f"the topic {topic!r} is none of {', '.join(KINDS)}")


def _pseudonyms(settings: Settings) -> Pseudonyms:
    found = settings.pseudonyms
    if found is None:
        raise SettingsError(
            "pseudonym_key: is not set; make a key with `openssl rand -hex 32`, and give it as "
            "FORESHOCK_PSEUDONYM_KEY_FILE"
        )
    return found


def known_as(settings: Settings, user: str, as_is: bool) -> str:
    """The id under which a user stands in the topics: the pseudonym where there is a key, unless it is one already."""
    pseudonyms = settings.pseudonyms
    if as_is or pseudonyms is None or pseudonyms.covers(user):
        return user
    return pseudonyms.of(user)


@contextmanager
def _written(out: Path | None) -> Iterator[BinaryIO]:
    """The file, which only its owner may read, whole or not at all; or the standard output."""
    if out is None:
        yield sys.stdout.buffer
        return
    is_special = out.exists() and not out.is_file()  # a pipe, for instance
    draft = out if is_special else out.with_name(f"{out.name}.part")
    try:
        file = os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}")
    try:
        with file:
            yield file
    except BaseException:
        if not is_special:
            draft.unlink(missing_ok=True)
        raise
    if not is_special:
        draft.replace(out)


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """What to call with the records done and all of them; a bar would stand in the midst of the standard output."""
    if not shown:
        yield lambda _done, _total: None
        return
    with event_progress(errors) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
