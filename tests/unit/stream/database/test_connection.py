from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.settings import Settings


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
    assert DatabaseConnection.from_settings(Settings(database_url="postgresql://h/d")) == DatabaseConnection(
        "postgresql://h/d"
    )


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/risk is not available") as caught:
        DatabaseConnection("postgresql://ann:secret@127.0.0.1:1/risk").connect()

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
