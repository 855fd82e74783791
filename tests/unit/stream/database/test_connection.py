import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from stream.database.connection import address_of, connect, connection_string
from stream.database.errors import DatabaseError, DatabaseUnavailable


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_scheme_of_the_ecosystem_is_taken(scheme: str) -> None:
    parameters = conninfo_to_dict(connection_string(f"{scheme}://ann:s%40fe@db.example:6543/risk"))

    assert parameters["host"] == "db.example"
    assert parameters["port"] == "6543"
    assert parameters["dbname"] == "risk"
    assert parameters["password"] == "s@fe"


def test_socket_folder_and_several_hosts_are_taken() -> None:
    assert conninfo_to_dict(connection_string("postgresql://ann@/risk?host=/run/pg"))["host"] == "/run/pg"
    assert conninfo_to_dict(connection_string("postgresql://ann@one,two/risk"))["host"] == "one,two"


def test_the_address_overrules_our_timeouts_and_name() -> None:
    ours = conninfo_to_dict(connection_string("postgresql://h/d", "foreshock-sink"))
    theirs = conninfo_to_dict(connection_string("postgresql://h/d?connect_timeout=60&application_name=desk"))

    assert (ours["connect_timeout"], ours["application_name"]) == ("5", "foreshock-sink")
    assert (theirs["connect_timeout"], theirs["application_name"]) == ("60", "desk")


@pytest.mark.parametrize("url", ["mysql://ann:secret@h/d", "risk", "postgresql://ann:secret@h/d?colour=blue"])
def test_what_is_no_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"database_url: .*expected postgresql://") as caught:
        connection_string(url)

    assert "secret" not in str(caught.value)


def test_address_in_messages_has_no_user_and_no_password() -> None:
    assert address_of("postgresql://ann:secret@db.example:6543/risk") == "db.example:6543/risk"
    assert address_of("postgresql://ann:secret@db.example/risk") == "db.example:5432/risk"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/risk is not available") as caught:
        connect("postgresql://ann:secret@127.0.0.1:1/risk")

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
