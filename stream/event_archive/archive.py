"""The folder of an archive: its description, manifests, files and lock. Knows nothing of brokers.

    _archive.json                                     whose topics these are
    _manifests/TOPIC/PARTITION.json                   what is held of a partition; what is not listed there, is not held
    topic=…/date=…/partition=…/FIRST OFFSET.parquet   records

A file is written under another name, synced and renamed; then the manifest that lists it, in the same way. Whatever
moment a command ends at, the manifest lists whole files only, and a file that it does not list is left over: the next
command that writes removes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stream.embedded.lock import file_lock
from stream.event_archive.manifest import (
    FORMAT,
    TOPIC_NAME,
    ArchivedFile,
    ArchiveError,
    Manifest,
    decode_manifest,
    is_file_name,
)

LOCK_WAIT_S = 1.0


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose topics an archive holds."""

    topic_prefix: str
    application_id: str
    format: int = FORMAT


class Archive:
    """An archive in a folder. Readers need no lock; who writes holds `locked`."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder = folder
        self.description = description

    @classmethod
    def open(cls, folder: Path) -> Archive:
        """One that is there. Raises `ArchiveError`."""
        place = folder / "_archive.json"
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            raise ArchiveError(
                f"{folder} is no archive: it has no _archive.json; `foreshock archive export {folder}` makes one"
            ) from None
        except OSError as error:
            raise ArchiveError(f"{place} cannot be read: {error.strerror}") from None
        return cls(folder, decode_description(content, str(place)))

    @classmethod
    def make(cls, folder: Path, description: Description) -> Archive:
        """A new one, whose folder only its owner may read, or one that is there and of the same topics. Raises
        `ArchiveError`."""
        if (folder / "_archive.json").exists():
            found = cls.open(folder)
            if found.description != description:
                raise ArchiveError(
                    f"{folder} is the archive of topic_prefix = {found.description.topic_prefix!r} and application_id "
                    f"= {found.description.application_id!r}, not of {description.topic_prefix!r} and "
                    f"{description.application_id!r}; name another folder, or set these"
                )
            return found
        try:
            if folder.is_dir() and {each.name for each in folder.iterdir()} - {"_lock", "._archive.json"}:
                raise ArchiveError(f"{folder} is not empty and no archive; name another folder")
            make_folder(folder, 0o700)
            write_file(folder / "_archive.json", msgspec.json.format(msgspec.json.encode(description)) + b"\n")
        except OSError as error:
            raise ArchiveError(f"{folder} cannot be written: {error.strerror}; name another folder") from None
        return cls(folder, description)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While one command writes, others that would do so end with `ArchiveError`."""
        with file_lock(
            self.folder / "_lock",
            LOCK_WAIT_S,
            lambda: ArchiveError(f"another command writes to {self.folder}; wait until it has ended"),
        ):
            yield

    def manifests(self) -> list[Manifest]:
        """All of them, by topic and partition. Raises `ArchiveError`."""
        places = sorted(self.folder.glob("_manifests/*/*.json"))
        found = [self._read(place) for place in places if not place.name.startswith(".")]
        return sorted(found, key=lambda manifest: (manifest.topic, manifest.partition))

    def manifest(self, topic: str, partition: int) -> Manifest | None:
        """What is held of a partition; None if nothing ever was. Raises `ArchiveError`."""
        place = self._place(topic, partition)
        if place.exists():
            return self._read(place)
        files = next(self.folder.glob(f"topic={topic}/date=*/partition={partition}/*.parquet"), None)
        if files is not None:
            raise ArchiveError(
                f"{self.folder} has files of {topic}-{partition} and no {place.relative_to(self.folder)}; restore it "
                "from a backup, or move these files away"
            )
        return None

    def save(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the former one, in one step. Raises `OSError`."""
        write_file(
            self._place(manifest.topic, manifest.partition),
            msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n",
        )

    def content(self, manifest: Manifest, file: ArchivedFile) -> bytes:
        """The bytes of a file, which are those that were written. Raises `ArchiveError`."""
        place = self.folder / manifest.path_of(file)
        try:
            content = place.read_bytes()
        except OSError as error:
            raise ArchiveError(
                f"{place} cannot be read: {error.strerror}; if no other command was writing to the archive meanwhile, "
                "restore it from a backup"
            ) from None
        if len(content) != file.size_bytes or hashlib.sha256(content).hexdigest() != file.sha256:
            raise ArchiveError(f"{place} is damaged: its SHA-256 is not that of the manifest; restore it from a backup")
        return content

    def add(self, manifest: Manifest, file: ArchivedFile, content: bytes) -> None:
        """Write a file that no manifest lists yet. Raises `OSError`."""
        write_file(self.folder / manifest.path_of(file), content)

    def leftovers(self, manifest: Manifest) -> list[Path]:
        """Files of a partition that interrupted commands have left."""
        listed = {self.folder / manifest.path_of(file) for file in manifest.files}
        found = self.folder.glob(f"topic={manifest.topic}/date=*/partition={manifest.partition}/*")
        return sorted(path for path in found if path not in listed and is_file_name(path.name.removeprefix(".")))

    def tidy(self, manifest: Manifest) -> int:
        """Remove them; returns how many. Raises `OSError`."""
        left = self.leftovers(manifest)
        for path in left:
            path.unlink()
        return len(left)

    def _place(self, topic: str, partition: int) -> Path:
        if not TOPIC_NAME.fullmatch(topic):
            raise ArchiveError(f"{topic!r:.100} is no name of a topic")
        return self.folder / "_manifests" / topic / f"{partition}.json"

    def _read(self, place: Path) -> Manifest:
        try:
            content = place.read_bytes()
        except OSError as error:
            raise ArchiveError(f"{place} cannot be read: {error.strerror}") from None
        found = decode_manifest(content, str(place))
        if self._place(found.topic, found.partition) != place:
            raise ArchiveError(f"{place} is the manifest of {found.topic}-{found.partition}; restore it from a backup")
        return found


def decode_description(content: bytes, place: str) -> Description:
    """A description. Raises `ArchiveError`, which names its `place`."""
    try:
        found = msgspec.json.decode(content, type=Description)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveError(f"{place} is no description of an archive: {error}; restore it from a backup") from None
    if found.format != FORMAT:
        raise ArchiveError(f"{place} has format {found.format}, this release reads {FORMAT}; use a newer release")
    return found


def write_file(path: Path, content: bytes) -> None:
    """Write a file under another name, sync it, and move it to its place in one step. Raises `OSError`."""
    make_folder(path.parent)
    staging = path.with_name(f".{path.name}")
    with staging.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    staging.replace(path)
    _sync(path.parent)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, and see to it that they last. Raises `OSError`."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
