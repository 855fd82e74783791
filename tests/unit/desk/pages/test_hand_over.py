"""What the operator's page says of hand-overs, whatever the brokers tell, and when they tell nothing."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from desk.pages import hand_over
from desk.pages.hand_over import HandOvers, Seen, in_words
from desk.pages.language import LANGUAGES, Language
from stream.hand_over.standing import standing_of
from stream.kafka.provisioning import ProvisioningError
from stream.settings import load_settings
from stream.topics import Topics
from tests.unit.stream.hand_over.test_situation import offsets

AT = dt.datetime(2026, 6, 1, 12, 0, 5, tzinfo=dt.UTC)
ENGLISH = Language("en", ZoneInfo("Europe/Berlin"))


def shown(given: Any, taken: Any) -> hand_over.ShownHandOver:
    found = in_words(Seen(AT, [standing_of(Topics(""), "f", "may", given, taken)]), ENGLISH)
    assert found.note == "As the brokers told at 14:00:05."
    assert found.again_s > 0
    (one,) = found.shadows
    return one


def states(one: hand_over.ShownHandOver) -> list[tuple[int, str, str]]:
    return [(part.partition, part.leader, part.state) for part in one.partitions]


def test_before_a_hand_over_it_says_how_far_the_shadow_is_behind_and_what_to_run() -> None:
    one = shown(offsets("", 1_000), offsets("following=f", 4))
    assert states(one) == [(part, "f", "f-shadow-may is 3,984 events behind") for part in (0, 1)]
    assert (one.done, one.command) == ("The shadow leads in 0 of 2 partitions.", "foreshock replay promote may")


def test_a_partition_is_led_when_the_new_workers_have_committed() -> None:
    one = shown(offsets("handed-over=f-shadow-may"), offsets("following=f"))
    assert [state for _, _, state in states(one)] == ["Handed over; the new workers have not committed yet"] * 2
    assert one.command == "foreshock replay promote may", "the same command goes on"
    done = shown(offsets("handed-over=f-shadow-may"), offsets(""))
    assert states(done) == [(part, "f-shadow-may", "Handed over") for part in (0, 1)]
    assert done.command == ""
    assert "f itself" in done.against or "no worker of f" in done.against, "why there is no way back yet"


def test_after_it_the_way_back_is_shown_where_somebody_follows() -> None:
    one = shown(offsets("following=f-shadow-may", 7), offsets("", 10))
    assert states(one) == [(part, "f-shadow-may", "f is 12 events behind") for part in (0, 1)]
    assert (one.done, one.command) == ("The shadow leads in 2 of 2 partitions.", "foreshock replay rollback may")


def test_what_stands_against_it_is_said() -> None:
    one = shown(offsets(""), {})
    assert one.partitions == []
    assert "no worker of f-shadow-may has followed f" in one.against
    assert one.command == ""


def test_what_others_have_written_is_no_part_of_a_command() -> None:
    """The names in what groups have committed are whatever those wrote who may commit."""
    one = shown(offsets("handed-over=`reboot`\x1b[2J\u202e"), offsets("following=f"))
    assert one.command == ""
    assert "over to `reboot`" in one.against
    assert one.against.isprintable()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seen", [Seen(AT, asked=False), Seen(AT, failed=True), Seen(AT)])
def test_that_nothing_is_known_is_said_in_every_language(seen: Seen, language: str) -> None:
    found = in_words(seen, Language(language, ZoneInfo("UTC")))
    assert not found.shadows
    assert found.note


def test_brokers_are_asked_now_and_then_and_their_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def standings(*_: Any) -> Any:
        asked.append(now[0])
        if len(asked) == 1:
            raise ProvisioningError("no broker answers")
        return []

    monkeypatch.setattr(hand_over, "standings", standings)
    now = [AT]
    desk: Any = SimpleNamespace(kafka=object(), settings=load_settings(), clock=lambda: now[0])
    hand_overs = HandOvers()
    assert hand_overs.of(desk).failed
    assert hand_overs.of(desk).failed, "a moment later"
    now[0] += dt.timedelta(seconds=2)
    assert not hand_overs.of(desk).failed
    assert len(asked) == 2
    assert not HandOvers().of(SimpleNamespace(kafka=None, clock=desk.clock)).asked  # type: ignore[arg-type]
