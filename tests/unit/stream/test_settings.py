"""Settings come from where they should, and a wrong one names its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.settings import SettingsError, load_settings


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().partitions == 4
    file = tmp_path / "foreshock.toml"
    file.write_text('partitions = 5\napplication_id = "from-file"\n')
    assert load_settings(file).partitions == 5
    monkeypatch.setenv("FORESHOCK_PARTITIONS", "6")
    assert load_settings(file).partitions == 6
    settings = load_settings(file, partitions=7)
    assert (settings.partitions, settings.application_id) == (7, "from-file")


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        ({"partitions": 0}, "partitions"),
        ({"log_level": "loud"}, "log_level"),
        ({"alert_extreme_score": 2.0}, "alert_extreme_score"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"resident_users": 10}, "resident_users"),
    ],
)
def test_a_wrong_value_names_its_key(flags: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key}: "):
        load_settings(**flags)


def test_a_wrong_variable_names_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHOCK_GRACE_DAYS", "soon")
    with pytest.raises(SettingsError, match="grace_days"):
        load_settings()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml is not a file"):
        load_settings(tmp_path / "no.toml")


def test_topics_carry_the_prefix() -> None:
    topics = load_settings(topic_prefix="risk.").topics
    assert topics.inputs == ("risk.repayments", "risk.transactions", "risk.activity", "risk.profiles")
    assert topics.replay_scores("march") == "risk.scores.replay.march"
