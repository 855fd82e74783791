"""`account` and `token`: who may use the desk, by commands."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest
from typer.testing import CliRunner

from desk.access import accounts, passwords, tokens
from desk.access.refusals import NotSignedIn
from foreshock import app
from stream.database.connection import DatabaseConnection
from tests.integration.desk.conftest import PASSWORD

NOW = dt.datetime.now(dt.UTC)


def run(database: DatabaseConnection, *arguments: str, given: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--database-url", database.url], input=given)
    assert result.exit_code == code, result.output
    return result.output


def test_an_account_from_its_making_to_its_end(desk_database: DatabaseConnection) -> None:
    made = run(desk_database, "account", "create", "ann", "--role", "collector", "--products", "card, loan",
               "--daily-cap", "40", given=f"{PASSWORD}\n")  # fmt: skip
    assert "account ann, collector of card, loan" in made
    engine = desk_database.open_engine()
    assert accounts.sign_in(engine, "ann", PASSWORD, NOW).daily_cap == 40
    assert "there is an account ann" in run(desk_database, "account", "create", "ann", "--role", "lead", code=1)
    run(desk_database, "account", "password", "ann", given="another horse of colours\n")
    assert accounts.sign_in(engine, "ann", "another horse of colours", NOW).name == "ann"
    told = json.loads(run(desk_database, "account", "disable", "ann", "--json"))
    assert told == {"name": "ann", "active": False}
    (listed,) = json.loads(run(desk_database, "account", "list", "--json"))
    assert (listed["active"], listed["products"], listed["signs_in_by"]) == (False, ["card", "loan"], ["password"])
    assert "disabled" in run(desk_database, "account", "list")
    run(desk_database, "account", "enable", "ann")
    assert accounts.sign_in(engine, "ann", "another horse of colours", NOW).active


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (("create", "bob", "--role", "lead"), "short\n", "at least 12"),
        (("create", "bob", "--role", "lead"), "aaaaaaaaaaaaaa\n", "same few characters"),
        (("create", "b b", "--role", "lead"), f"{PASSWORD}\n", "cannot be a name"),
        (("create", "@me", "--role", "lead"), f"{PASSWORD}\n", "no dash or @ at its beginning"),
        (("create", "Foreshock", "--role", "lead"), f"{PASSWORD}\n", "what Foreshock does by itself stands under it"),
        (("password", "nobody"), f"{PASSWORD}\n", "there is no account"),
        (("disable", "nobody"), "", "there is no account"),
    ],
)
def test_what_cannot_be_done_is_said(
    desk_database: DatabaseConnection, arguments: tuple[str, ...], given: str, said: str
) -> None:
    assert said in " ".join(run(desk_database, "account", *arguments, given=given, code=1).split())


def test_a_token_is_printed_once(desk_database: DatabaseConnection) -> None:
    asked = ["token", "create", "limits", "--role", "reader", "--products", "card", "--days", "2"]
    made = CliRunner().invoke(app, [*asked, "--database-url", desk_database.url])
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    assert re.fullmatch(r"fsk_[0-9a-z]{12}_[0-9A-Za-z_-]{43}", text)
    assert "not shown again" in made.stderr
    engine = desk_database.open_engine()
    with engine.begin() as connection:
        principal = tokens.principal_of(connection, text, NOW)
    assert (principal.name, principal.role, principal.products) == ("limits", "reader", frozenset({"card"}))
    listed = run(desk_database, "token", "list")
    assert text.split("_")[1] in listed
    assert text.split("_", 2)[2] not in run(desk_database, "token", "list", "--json")
    told = json.loads(run(desk_database, "token", "revoke", text.split("_")[1], "--json"))
    assert told == {"token_id": text.split("_")[1], "state": "revoked"}
    with engine.begin() as connection, pytest.raises(NotSignedIn):
        tokens.principal_of(connection, text, NOW)
    another = json.loads(run(desk_database, "token", "create", "other", "--role", "reader", "--json"))
    assert (another["name"], another["products"]) == ("other", None)
    with engine.begin() as connection:
        assert tokens.principal_of(connection, another["token"], NOW).name == "other"
    assert "no token has the id" in run(desk_database, "token", "revoke", "nothing", code=1)
    assert "names no product" in run(desk_database, "token", "create", "x", "--role", "lead", "--products", ",", code=2)


def test_tables_that_are_not_there_are_told_of(database: DatabaseConnection) -> None:
    for arguments in (("account", "list"), ("token", "list")):
        assert "foreshock db upgrade" in " ".join(run(database, *arguments, code=1).split())
    assert "foreshock db upgrade" in " ".join(run(database, "desk", code=1).split())


def test_passwords_that_are_little_more_than_the_name(desk_database: DatabaseConnection) -> None:
    del desk_database
    with pytest.raises(passwords.WeakPassword, match="little more than"):
        passwords.hash_password("annabella123", "annabella")
    assert passwords.hash_password("annabella and 9 horses", "annabella").startswith("$argon2id$")
    assert not passwords.is_password("no hash", "x")
    assert not passwords.is_password(None, "x")
