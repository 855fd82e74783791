"""`replay run` and `replay diff` take the run's name alike."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from foreshock import app

runner = CliRunner()


NOWHERE = ["--stack-dir", "no-such-stack"]
SERVERS = ["--bootstrap-servers", "localhost:1", "--database-url", "postgresql://localhost:1/x"]
RANGE = ["--from", "2023-03-01", "--to", "2023-04-01", *NOWHERE]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "march", *RANGE], 1, "foreshock up"),
        (["run", "--name", "march", *RANGE], 1, "foreshock up"),
        (["run", "march", "--name", "march", *RANGE], 1, "foreshock up"),
        (["run", "march", "--name", "april", *RANGE], 2, "NAME is 'march' but --name is 'april'"),
        (["run", *RANGE], 2, "NAME is missing"),
        (
            ["run", "a b", *RANGE, *SERVERS],
            1,
            "NAME 'a b': use",
        ),
        (["diff", "march", *NOWHERE], 1, "foreshock up"),
        (["diff", *NOWHERE], 2, "NAME"),
    ],
)
def test_the_name_of_the_run(arguments: list[str], code: int, said: str) -> None:
    result = runner.invoke(app, ["replay", *arguments])
    assert result.exit_code == code
    assert said in result.stderr


def test_the_option_for_the_name_is_not_shown() -> None:
    result = runner.invoke(app, ["replay", "run", "--help"])
    assert "NAME" in result.output
    assert "--name" not in result.output
