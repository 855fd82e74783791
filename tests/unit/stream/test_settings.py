"""Settings come from where they should, and a wrong one names its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.settings import Settings, SettingsError, load_settings, secret_settings


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


@pytest.mark.parametrize("key", sorted(Settings.model_fields))
def test_an_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(f"FORESHOCK_{key.upper()}", "")
    assert load_settings() == Settings.model_construct()
    file = tmp_path / "foreshock.toml"
    file.write_text("partitions = 5\n")
    assert load_settings(file).partitions == 5


def test_an_empty_name_of_the_file_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORESHOCK_CONFIG", "")
    assert load_settings().partitions == 4
    Path("foreshock.toml").write_text("partitions = 5\n")
    assert load_settings().partitions == 5


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, empty: str) -> None:
    assert load_settings(state_dir=empty).state_dir is None
    assert load_settings(database_url=empty).database_url is None
    file = tmp_path / "foreshock.toml"
    file.write_text(f'state_dir = "{empty}"\n')
    assert load_settings(file).state_dir is None
    for key in ("stack_dir", "bundle"):
        file.write_text(f'\n{key} = "{empty}"\n')
        with pytest.raises(SettingsError, match=f"^{key}: .*empty.*foreshock.toml, line 2"):
            load_settings(file)


def test_a_wrong_value_names_file_and_line_where_the_file_is_what_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "foreshock.toml"
    file.write_text('\ufeffapplication_id = "a"\n\npartitions = "many"\n[foreshock]\n', encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert f"(got 'many' in {file}, line 3)" in str(caught.value)
    assert f"in {file}, line 4)" in str(caught.value)
    with pytest.raises(SettingsError, match=r"partitions: [^;]*\(got 0\)"):
        load_settings(file, partitions=0)
    monkeypatch.setenv("FORESHOCK_PARTITIONS", "-1")
    with pytest.raises(SettingsError, match=r"partitions: [^;]*\(got '-1'\)"):
        load_settings(file)


def test_what_is_no_toml_is_a_settings_error(tmp_path: Path) -> None:
    file = tmp_path / "foreshock.toml"
    file.write_text("partitions = 4,\n")
    with pytest.raises(SettingsError, match=r"^config: .*foreshock\.toml, line 1, column 15: [^\n]*$"):
        load_settings(file)


def test_topics_carry_the_prefix() -> None:
    topics = load_settings(topic_prefix="risk.").topics
    assert topics.inputs == ("risk.repayments", "risk.transactions", "risk.activity", "risk.profiles")
    assert topics.replay_scores("march") == "risk.scores.replay.march"


@pytest.mark.parametrize("name", secret_settings())
def test_a_secret_from_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("correct horse\n")
    monkeypatch.setenv(f"FORESHOCK_{name.upper()}_FILE", str(file))
    found = getattr(load_settings(), name)
    assert (found if isinstance(found, str) else found.get_secret_value()) == "correct horse"

    monkeypatch.setenv(f"FORESHOCK_{name.upper()}", "x")
    with pytest.raises(SettingsError, match=rf"^{name}: both "):
        load_settings()
    monkeypatch.delenv(f"FORESHOCK_{name.upper()}")
    monkeypatch.setenv(f"FORESHOCK_{name.upper()}_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=rf"^{name}: .*_FILE names .*none, which cannot be read"):
        load_settings()


@pytest.mark.parametrize("name", secret_settings())
def test_a_secret_from_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a variable names the folder or the settings file does; a value that is given twice is refused."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / name).write_text("correct horse\n")
    (folder / "topic_prefix").write_text("risk.")
    file = tmp_path / "foreshock.toml"
    file.write_text(f'secrets_dir = "{folder}"\n')
    from_file = load_settings(file)
    monkeypatch.delenv("FORESHOCK_CONFIG")
    monkeypatch.setenv("FORESHOCK_SECRETS_DIR", str(folder))
    for settings in (from_file, load_settings()):
        found = getattr(settings, name)
        assert (found if isinstance(found, str) else found.get_secret_value()) == "correct horse"
        assert (settings.topic_prefix, settings.secrets_dir) == ("", folder)
    for variable, value in ((f"FORESHOCK_{name.upper()}", "x"), (f"FORESHOCK_{name.upper()}_FILE", str(file))):
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match=rf"^{name}: both .*{name}") as caught:
            load_settings()
        monkeypatch.delenv(variable)
        assert "horse" not in str(caught.value)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(SettingsError, match=rf"^{name}: secrets_dir holds .*{name}, which cannot be read"):
        load_settings()
    monkeypatch.setenv("FORESHOCK_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"^secrets_dir: .*none is not a folder"):
        load_settings()


def test_only_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prefix"
    file.write_text("risk.")
    monkeypatch.setenv("FORESHOCK_TOPIC_PREFIX_FILE", str(file))
    assert load_settings().topic_prefix == ""


@pytest.mark.parametrize("name", [*secret_settings(), "sasl_pasword"])
def test_no_message_repeats_a_secret(name: str, tmp_path: Path) -> None:
    file = tmp_path / "foreshock.toml"
    file.write_text(f'{name} = ["correct horse"]\n')
    with pytest.raises(SettingsError, match=rf"^{name}: ") as caught:
        load_settings(file)
    assert "horse" not in str(caught.value)


def test_other_messages_repeat_what_they_got(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHOCK_PARTITIONS", "many")
    with pytest.raises(SettingsError, match=r"\(got 'many'\)"):
        load_settings()


def test_insecure_holds_for_the_processes_of_a_command_too() -> None:
    assert not load_settings().insecure
    assert load_settings(insecure=True).insecure
    assert load_settings().insecure


@pytest.mark.parametrize("key", ["application_id", "readers_id", "topic_prefix"])
@pytest.mark.parametrize("value", ["a b", "a,b", "a=b", "a/b", "é", "a\n", "x" * 229])
def test_what_stands_in_names_of_topics_has_letters_that_kafka_takes(key: str, value: str) -> None:
    """A comma or an equals sign would end what is kept with offsets of who follows whom."""
    with pytest.raises(SettingsError, match=key):
        load_settings(**{key: value})
    assert getattr(load_settings(**{key: "Risk-1_a."}), key) == "Risk-1_a."


def test_readers_go_by_the_application_unless_they_have_an_id_of_their_own() -> None:
    assert Settings(application_id="new").readers == "new"
    assert Settings(application_id="new", readers_id="old").readers == "old"
