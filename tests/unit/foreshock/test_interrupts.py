"""What commands that take long say when they are interrupted: what becomes of what they did, and how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Never

import pytest
from typer.testing import CliRunner

from foreshock import app

NOWHERE = ("--bootstrap-servers", "localhost:1")
RANGE = ("--from", "2023-01-01", "--to", "2024-01-01")

AT_WORK = [
    ("replay plan may", (*RANGE, *NOWHERE), "foreshock.replay.plan_replay", "it has changed nothing"),
    ("replay run may", (*RANGE, *NOWHERE), "foreshock.replay.require_rights", "the same command goes on"),
    ("replay diff may", NOWHERE, "stream.database.replay_runs.find", "compares anew"),
    ("replay promote may", NOWHERE, "stream.hand_over.promotion.Promotion.run", "goes on with the others"),
    ("replay rollback may", NOWHERE, "stream.hand_over.promotion.Promotion.run", "goes on with the others"),
    ("shadow report may", NOWHERE, "stream.published_outputs.compare_outputs", "compares anew"),
    ("archive export a", NOWHERE, "foreshock.archive.require_pyarrow", "the same command goes on behind it"),
    ("archive import a", NOWHERE, "foreshock.archive.Archive.open", "the same command goes on"),
    ("archive check a", (), "foreshock.archive.Archive.open", "it has changed nothing"),
    ("archive forget a u --yes", NOWHERE, "foreshock.archive.erase_in_archive", "the same command goes on with it"),
    ("retention apply --yes", NOWHERE, "foreshock.retention.make_plan", "the same command makes the others"),
    ("forget u --yes", NOWHERE, "stream.people.forgetting.send_tombstones", "is not forgotten yet; the same command"),
    ("export u", NOWHERE, "stream.people.export.export", "nothing was written"),
]


def interrupt(*_: object, **__: object) -> Never:
    raise KeyboardInterrupt


class Reader:
    """Of topics of one partition, whose beginning is there."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def partitions(self, _topic: str) -> int:
        return 1


@pytest.mark.parametrize(("command", "options", "work", "said"), AT_WORK, ids=[each[0] for each in AT_WORK])
@pytest.mark.parametrize("as_json", [False, True])
def test_it_says_what_becomes_of_it(
    command: str, options: tuple[str, ...], work: str, said: str, as_json: bool,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def nothing(*_: Any) -> None: ...

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORESHOCK_DATABASE_URL", "postgresql://ann@127.0.0.1:1/d")
    monkeypatch.setattr("stream.kafka.rights.require_rights", nothing)
    monkeypatch.setattr("stream.hand_over.promotion.require_history", nothing)
    monkeypatch.setattr("foreshock.promotion.TopicReader", Reader)
    monkeypatch.setattr("stream.database.person.count", nothing)
    monkeypatch.setattr(work, interrupt)
    result = CliRunner().invoke(app, [*command.split(), *options, *(["--json"] if as_json else [])])
    assert (result.exit_code, result.stdout if as_json else "") == (130, ""), result.output
    assert result.stderr.replace("\n", " ").rstrip().count("interrupted; ") == 1
    assert said in result.stderr.replace("\n", " ")


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "u.json"
    out.write_text("of before")

    def half(file: Any, *_: Any) -> Never:
        file.write(b'{"half":')
        raise KeyboardInterrupt

    monkeypatch.setattr("stream.people.export.export", half)
    result = CliRunner().invoke(app, ["export", "u", "--without-database", "--out", str(out), *NOWHERE])
    assert result.exit_code == 130, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["u.json"]
    assert out.read_text() == "of before"
