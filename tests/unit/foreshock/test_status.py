"""The screen of `status`: every part is there, in trouble or not, and nothing from outside reaches the terminal raw."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io

import pytest
from typer.testing import CliRunner

from foreshock import app
from foreshock.status import _ago, screen
from foreshock.terminal import TerminalConsole
from stream.outputs import Alert
from stream.status import (
    Cluster,
    Database,
    Group,
    Lag,
    LastAlerts,
    Member,
    Refusals,
    Scoring,
    Status,
    Trouble,
)

NOW_MS = 1_700_000_000_000
MOMENT = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
ALERT = Alert(
    transition_id="t", alert_id="a", user_id="\x1b[31mu\u202e", kind="opened", occurred_at=MOMENT, opened_at=MOMENT,
    level_from="LOW", level_to="HIGH", score=0.5, baseline=0.1, delta=0.4, reference_pd=None, days_past_due=None,
    triggers=[], reasons=[], weighed_most=[], sequence=1, source_topic="s", source_partition=0, source_offset=0,
    policy="p", model="m",
)  # fmt: skip
WELL = Status(
    at_ms=NOW_MS,
    cluster=Cluster((1, 2), 2),
    workers=Group(
        "foreshock", "Stable", (Member("worker-1", "/10.0.0.1", (0, 1)), Member("worker-2", "/10.0.0.2", ()))
    ),
    sink=Group("foreshock-sink", "Empty", ()),
    webhooks=Group("foreshock-webhooks", "Stable", ()),
    lag=[Lag("activity", 1_234, NOW_MS - 90_000, 5.25, 4.0)],
    sink_lag=[Lag("scores", 0)],
    webhook_lag=[Lag("alert-actions", 7, NOW_MS - 5_000)],
    scoring=Scoring(NOW_MS - 3_000, ("1d75", "2e86")),
    alerts=LastAlerts(((NOW_MS - 7_200_000, ALERT),), ("47a5",)),
    refusals=Refusals({"not_json": 2_000, "null_key": 1}, False),
    database=Database("0003", "0004"),
)


def shown(status: Status) -> str:
    file = io.StringIO()
    TerminalConsole(file=file, width=100, force_terminal=False).print(screen(status))
    return file.getvalue()


def test_everything_that_was_found_is_on_the_screen() -> None:
    said = shown(WELL)
    for words in (
        "2023-11-14 22:13:20 UTC",
        "2 up (1, 2), controller 2",
        "group foreshock: Stable, 2 members",
        "worker-1 /10.0.0.1: partitions 0 1",
        "worker-2 /10.0.0.2: partitions none",
        "group foreshock-sink: Empty, 0 members",
        "group foreshock-webhooks: Stable, 0 members",
        "last committed 3 s ago, models 1d75, 2e86",
        "policy 47a5",
        "in the last day: 2,000 not_json, 1 null_key among the newest; there are more",
        "at revision 0003; this release needs 0004: `foreshock db upgrade`",
        "LOW → HIGH",
    ):
        assert words in said
    (row,) = [line.split() for line in said.splitlines() if "activity" in line]
    assert row == ["workers", "activity", "1,234", "90", "s", "5.2", "4.0"]
    (row,) = [line.split() for line in said.splitlines() if "alert-actions" in line]
    assert row == ["webhooks", "alert-actions", "7", "5", "s"]
    assert not WELL.troubled


def test_what_comes_from_outside_is_escaped() -> None:
    assert "\\x1b[31mu\\u202e" in shown(WELL)
    assert all(line.isprintable() for line in shown(WELL).splitlines())


PARTS = [field.name for field in dataclasses.fields(Status) if field.name != "at_ms"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_in_trouble_is_shown_with_the_others(part: str) -> None:
    status = dataclasses.replace(WELL, **{part: Trouble("the broker\x1b[2J is away")})
    assert status.troubled
    said = shown(status)
    assert "cannot be looked at: the broker\\x1b[2J is away" in said
    assert "2023-11-14 22:13:20 UTC" in said
    assert ("group foreshock: Stable" in said) == (part != "workers")


def test_nothing_there_yet() -> None:
    said = shown(
        dataclasses.replace(
            WELL, scoring=Scoring(None, ()), alerts=LastAlerts((), ()), refusals=Refusals({}, True), database=None,
            webhooks=None, webhook_lag=None,
        )
    )  # fmt: skip
    assert "webhooks" not in said, "nobody ever delivered any"
    assert "in the last day: none\n" in said
    assert "no address was given" in said
    assert "last alerts" not in said


@pytest.mark.parametrize(
    ("ms", "words"), [(-5, "0 s"), (119_000, "119 s"), (120_000, "2 minutes"), (7_200_000, "2 hours"), (9e8, "10 days")]
)
def test_how_long_ago(ms: float, words: str) -> None:
    assert _ago(ms) == words


def test_without_any_server_it_says_so_and_ends_with_1() -> None:
    result = CliRunner().invoke(app, ["status", "--stack-dir", "no-such-stack", "--interval", "0"])
    assert result.exit_code == 1
    assert "no embedded stack runs" in result.stdout
