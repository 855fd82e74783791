"""The folder of an archive: whose it is, what is in it after an interruption, and who may write."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.event_archive import archive as module
from stream.event_archive.archive import Archive, Description, write_file
from stream.event_archive.check import check
from stream.event_archive.export import store
from stream.event_archive.manifest import ArchiveError, Manifest
from stream.event_archive.reader import ArchiveReader
from stream.kafka.record import RawRecord

OURS = Description("risk.", "watch")


class Killed(BaseException):
    """Stands for the end of the process."""


def test_an_archive_is_of_one_deployment(tmp_path: Path) -> None:
    made = Archive.make(tmp_path / "a" / "b", OURS)
    assert Archive.make(made.folder, OURS).description == OURS == Archive.open(made.folder).description
    assert made.folder.stat().st_mode & 0o077 == 0, "nobody else may read it"
    with pytest.raises(ArchiveError, match=r"is the archive of topic_prefix = 'risk\.'"):
        Archive.make(made.folder, Description("", "watch"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ArchiveError, match="is not empty and no archive"):
        Archive.make(tmp_path, OURS)
    with pytest.raises(ArchiveError, match=r"is no archive: it has no _archive\.json"):
        Archive.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"topic_prefix":"","application_id":"a","format":9}'])
def test_a_description_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "_archive.json").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"_archive\.json (is no description|has format 9)"):
        Archive.open(tmp_path)


def test_one_command_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.0)
    made = Archive.make(tmp_path / "a", OURS)
    with (
        made.locked(),
        pytest.raises(ArchiveError, match="another command writes"),
        Archive.open(made.folder).locked(),
    ):
        raise AssertionError
    with made.locked():
        pass


def test_files_without_their_manifest_are_not_taken_for_left_over(
    make_archive: Callable[..., Archive], some_records: Callable[..., list[RawRecord]]
) -> None:
    made = make_archive(some_records(range(5)))
    (made.folder / "_manifests" / "repayments" / "0.json").unlink()
    with pytest.raises(ArchiveError, match=r"has files of repayments-0 and no _manifests/repayments/0\.json"):
        made.manifest("repayments", 0)


def test_a_manifest_in_another_place_is_refused(
    make_archive: Callable[..., Archive], some_records: Callable[..., list[RawRecord]]
) -> None:
    made = make_archive(some_records(range(5)))
    place = made.folder / "_manifests" / "repayments" / "0.json"
    place.rename(place.with_name("1.json"))
    with pytest.raises(ArchiveError, match="is the manifest of repayments-0"):
        made.manifests()


def test_a_file_that_was_changed_is_refused(
    make_archive: Callable[..., Archive], some_records: Callable[..., list[RawRecord]]
) -> None:
    made = make_archive(some_records(range(5)))
    (manifest,) = made.manifests()
    file = next(manifest.files)
    place = made.folder / manifest.path_of(file)
    content = bytearray(place.read_bytes())
    content[40] ^= 1
    place.write_bytes(bytes(content))
    with pytest.raises(ArchiveError, match="is damaged: its SHA-256 is not that of the manifest"):
        made.content(manifest, file)
    place.unlink()
    with pytest.raises(ArchiveError, match="cannot be read: No such file"):
        made.content(manifest, file)


def test_what_is_not_listed_and_not_ours_stays(
    make_archive: Callable[..., Archive], some_records: Callable[..., list[RawRecord]]
) -> None:
    made = make_archive(some_records(range(5)))
    (manifest,) = made.manifests()
    folder = (made.folder / manifest.path_of(next(manifest.files))).parent
    for name in ("notes.txt", "part-0.parquet", f"{7:020d}.parquet", f".{8:020d}.parquet"):
        (folder / name).write_bytes(b"")
    assert [path.name for path in made.leftovers(manifest)] == [f".{8:020d}.parquet", f"{7:020d}.parquet"]
    assert made.tidy(manifest) == 2
    assert {"notes.txt", "part-0.parquet"} < {path.name for path in folder.iterdir()}


def dying(writes: int, *, renamed: bool) -> Callable[[Path, bytes], None]:
    """A `write_file` at whose last of so many writes the process ends, before or after the file gets its name."""
    count = iter(range(writes))

    def write(path: Path, content: bytes) -> None:
        last = next(count, None) is None
        if not last or renamed:
            write_file(path, content)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}").write_bytes(content[: len(content) // 2])
        if last:
            raise Killed

    return write


@given(data=st.data(), offsets=st.sets(st.integers(0, 60), min_size=1, max_size=40))
@settings(max_examples=40)
def test_whenever_an_export_ends_the_next_one_loses_nothing_and_has_nothing_twice(
    data: st.DataObject, offsets: set[int]
) -> None:
    """The process ends at any write, before or after it was renamed, again and again."""
    records = [RawRecord("t", 0, offset, (offset % 3) * 86_400_000, b"key", b"value", ()) for offset in sorted(offsets)]
    left = data.draw(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        made = Archive.make(Path(folder) / "a", OURS)
        made.save(Manifest("t", "id", 0, 0, 0))
        for writes, renamed in [*left, (10_000, True)]:
            patch.setattr(module, "write_file", dying(writes, renamed=renamed))
            manifest = made.manifest("t", 0)
            assert manifest is not None
            made.tidy(manifest)
            behind = [record for record in records if record.offset >= manifest.next_offset]
            most = data.draw(st.integers(1, 10))
            try:
                store(made, manifest, behind, 61, most_records=most)
            except Killed:
                continue
        (found,) = check(made)
        assert (found.faults, found.leftovers, found.records) == ((), 0, len(records))
        assert found.without_record == 61 - len(records)
        with ArchiveReader(made.folder) as reader:
            assert list(reader.each("t", 0)) == records
