"""A user in an archive of topics: erased there, after what the topics have beyond it was brought in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stream.event_archive.archive import Archive
from stream.event_archive.erasing import Erased, erase
from stream.event_archive.export import ExportRange, export
from stream.kafka.connection import KafkaConnection
from stream.people.export import letter_is_about
from stream.topics import Topics


def erase_in_archive(
    kafka: KafkaConnection | None,
    folder: Path,
    user_id: str,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Erased]:
    """Erase a user's records in an archive; returns what was erased by partition.

    With `kafka`, all topics that it holds are exported first: what they have of the user beyond it would come with the
    next export. `on_progress` gets bytes of the archive done and all. Raises `ArchiveError`, `TopicUnreadable`,
    `ProvisioningError` and `KafkaError`.
    """
    archive = Archive.open(folder)
    letters = Topics(archive.description.topic_prefix).dead_letters
    with archive.locked():
        if kafka is not None:
            held = sorted({manifest.topic for manifest in archive.manifests()})
            for _ in export(kafka, archive, held, ExportRange()):
                pass
        about = {letters: lambda record: letter_is_about(record, user_id)}
        return list(erase(archive, user_id.encode(), about, on_progress))
