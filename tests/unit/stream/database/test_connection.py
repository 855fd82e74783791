from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.settings import Settings, SettingsError


def parameters_of(url: str, application_name: str = "foreshock") -> dict[str, str]:
    return {
        key: str(value)
        for key, value in conninfo_to_dict(DatabaseConnection(url).connection_string(application_name)).items()
    }


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_scheme_of_the_ecosystem_is_taken(scheme: str) -> None:
    parameters = parameters_of(f"{scheme}://ann:s%40fe@db.example:6543/risk")

    assert parameters["host"] == "db.example"
    assert parameters["port"] == "6543"
    assert parameters["dbname"] == "risk"
    assert parameters["password"] == "s@fe"


def test_socket_folder_and_several_hosts_are_taken() -> None:
    assert parameters_of("postgresql://ann@/risk?host=/run/pg")["host"] == "/run/pg"
    assert parameters_of("postgresql://ann@one,two/risk")["host"] == "one,two"


def test_the_address_overrules_our_timeouts_and_name() -> None:
    ours = parameters_of("postgresql://h/d", "foreshock-sink")
    theirs = parameters_of("postgresql://h/d?connect_timeout=60&application_name=desk")

    assert (ours["connect_timeout"], ours["application_name"]) == ("5", "foreshock-sink")
    assert (theirs["connect_timeout"], theirs["application_name"]) == ("60", "desk")


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgresql://h/d?client_encoding=LATIN1", "host=h"])
def test_every_connection_speaks_utf_8(url: str) -> None:
    assert parameters_of(url)["client_encoding"] == "UTF8"


@pytest.mark.parametrize("url", ["mysql://ann:secret@h/d", "risk", "postgresql://ann:secret@h/d?colour=blue"])
def test_what_is_no_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"database_url: .*expected postgresql://") as caught:
        DatabaseConnection(url).connection_string()

    assert "secret" not in str(caught.value)


def test_nothing_that_is_printed_has_a_password() -> None:
    database = DatabaseConnection("postgresql://ann:secret@db.example:6543/risk")

    assert database.address == str(database) == "db.example:6543/risk"
    assert "secret" not in repr(database)
    assert DatabaseConnection("postgresql://ann:secret@db.example/risk").address == "db.example:5432/risk"


def test_made_from_settings() -> None:
    assert DatabaseConnection.from_settings(Settings()) is None
    found = DatabaseConnection.from_settings(Settings(database_url="postgresql://127.0.0.1/d"))
    assert found == DatabaseConnection("postgresql://127.0.0.1/d")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/risk is not available") as caught:
        DatabaseConnection("postgresql://ann:secret@127.0.0.1:1/risk").connect()

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_the_password_may_stand_apart() -> None:
    settings = Settings(database_url="postgresql://ann@localhost/risk", database_password="sec'ret \\")
    found = DatabaseConnection.from_settings(settings)
    assert found is not None
    assert conninfo_to_dict(found.connection_string())["password"] == "sec'ret \\"
    assert "sec'ret" not in f"{found!r} {found} {settings!r}"

    both = Settings(database_url="postgresql://ann:first@localhost/risk", database_password="second")
    with pytest.raises(SettingsError, match=r"^database_password: ") as caught:
        DatabaseConnection.from_settings(both)
    assert not any(word in str(caught.value) for word in ("first", "second"))


def test_what_is_no_address_names_the_setting() -> None:
    with pytest.raises(SettingsError, match=r"^database_url: ") as caught:
        DatabaseConnection.from_settings(Settings(database_url="mysql://ann:secret@h/d"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example/d",
        "postgresql://10.0.0.4/d?sslmode=prefer",
        "postgresql://ann:secret@localhost,db.example/d",
        "postgresql:///d?hostaddr=10.0.0.4",
        "host=db.example sslmode=disable",
    ],
)
def test_rows_leave_this_machine_without_tls_only_when_told_so(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^database_url: .*sslmode=verify-full.*--insecure") as caught:
        DatabaseConnection.from_settings(Settings(database_url=url))
    assert "secret" not in str(caught.value)
    assert DatabaseConnection.from_settings(Settings(database_url=url, insecure=True)) == DatabaseConnection(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/d",
        "postgresql://[::1]:5433/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql:///d",
        "postgresql://db.example/d?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://db.example/d?sslmode=require",
        "service=bank",
    ],
)
def test_what_stays_on_this_machine_or_is_encrypted(url: str) -> None:
    assert DatabaseConnection.from_settings(Settings(database_url=url)) == DatabaseConnection(url)


def test_the_environment_of_libpq_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert DatabaseConnection.from_settings(Settings(database_url="postgresql://db.example/d")) is not None
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(SettingsError, match=r"to db\.example without"):
        DatabaseConnection.from_settings(Settings(database_url="postgresql:///d"))
