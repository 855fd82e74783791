"""`doctor` says what to do, and prints findings as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshock import app
from foreshock.doctor import print_finding
from stream.kafka.provisioning import Finding

runner = CliRunner()


def test_doctor_without_anything_says_what_to_do(tmp_path: Path) -> None:
    result = runner.invoke(app, ["doctor", "--stack-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "foreshock up" in result.output


@pytest.mark.parametrize("user", ["[red]x[/]", "[/foo]", "\x1b[31mx", "two\nlines"])
def test_what_a_finding_names_is_printed_as_it_is(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_finding(Finding("error", f"user {user}", f"{user} is on two partitions", f"look at {user}"))
    shown = user.replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert capsys.readouterr().out.splitlines() == [
        f"error   user {shown}: {shown} is on two partitions",
        f"        → look at {shown}",
    ]
