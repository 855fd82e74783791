"""Commands `account` and `token`: who may use the desk and its API."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.options import AsJson, database_of, done_by, require_desk, takes_settings
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json, print_plain, tell
from stream.database.errors import DatabaseError, translated
from stream.desk_roles import DeskRole
from stream.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

account_app = typer.Typer(no_args_is_help=True, help="Accounts of people at the desk.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens of services for the API of the desk.")

Name = Annotated[str, typer.Argument(help="The account's name.", show_default=False)]
Role = Annotated[DeskRole, typer.Option("--role", help="What it may do: reader, collector, lead or operator.")]
Products = Annotated[
    str | None,
    typer.Option("--products", help="Only these products, with commas between them.", show_default="all"),
]

PASSWORD = "Password (at least 12 characters)"


@account_app.command("create")
@takes_settings("database_url", "stack_dir")
def create_account(
    *,
    settings: Settings,
    name: Name,
    role: Role,
    products: Products = None,
    display_name: Annotated[str | None, typer.Option(help="How pages call them.", show_default="the name")] = None,
    daily_cap: Annotated[
        int | None, typer.Option(min=0, help="Most cases a day, instead of desk_daily_cap.", show_default="the setting")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the pages.", show_default="the browser's")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an account that signs in by a password.

    The password is asked for, or read from the standard input where that is no terminal. Who signs in by the identity
    provider (`desk_oidc_issuer`) needs no account before.

        foreshock account create ann --role collector --products card,car_loan
    """
    require_desk()
    from desk.access import accounts
    from desk.access.passwords import hash_password

    with _changing(settings) as connection:
        if accounts.find(connection, name) is not None:
            fail(f"there is an account {name}; `foreshock account list` shows them")
        made = accounts.create(
            connection,
            name,
            role,
            password_hash=hash_password(_asked_password(), name),
            by=done_by(),
            now=_now(),
            display_name=display_name,
            products=_listed(products),
            daily_cap=daily_cap,
            language=language,
        )
    told = {"name": made.name, "role": made.role, "products": made.products}
    tell(as_json, told, f"account {made.name}, {made.role} of {_products(made.products)}")


@account_app.command("list")
@takes_settings("database_url", "stack_dir")
def list_accounts(*, settings: Settings, as_json: AsJson = False) -> None:
    """List all accounts."""
    require_desk()
    from desk.access import accounts

    with _changing(settings) as connection:
        found = accounts.listed(connection)
    if as_json:
        print_json(found)
        return
    table = Table("name", "role", "products", "signs in by", "state", Column("created", prose=True))
    now = _now()
    for one in found:
        locked = one.locked_until is not None and one.locked_until > now
        state = "disabled" if not one.active else "locked" if locked else "active"
        ways = ", ".join(one.signs_in_by) or "nothing"
        table.add_row(one.name, one.role, _products(one.products), ways, state, f"{one.created_at:%Y-%m-%d}")
    console.print(table)


@account_app.command("disable")
@takes_settings("database_url", "stack_dir")
def disable_account(*, settings: Settings, name: Name, as_json: AsJson = False) -> None:
    """Let an account in no longer; it is signed out at once."""
    _set_active(settings, name, active=False, as_json=as_json)


@account_app.command("enable")
@takes_settings("database_url", "stack_dir")
def enable_account(*, settings: Settings, name: Name, as_json: AsJson = False) -> None:
    """Let a disabled account in again."""
    _set_active(settings, name, active=True, as_json=as_json)


@account_app.command("password")
@takes_settings("database_url", "stack_dir")
def set_password(*, settings: Settings, name: Name, as_json: AsJson = False) -> None:
    """Give an account a new password; it is signed out everywhere.

    The password is asked for, or read from the standard input where that is no terminal. It also ends a lock.
    """
    require_desk()
    from desk.access import accounts
    from desk.access.passwords import hash_password

    with _changing(settings) as connection:
        if accounts.find(connection, name) is None:
            fail(f"there is no account {name!r}; `foreshock account list` shows them")
        accounts.set_password(connection, name, hash_password(_asked_password(), name))
    tell(as_json, {"name": name}, f"account {name} has a new password")


@token_app.command("create")
@takes_settings("database_url", "stack_dir")
def create_token(
    *,
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Which service it is for.", show_default=False)],
    role: Role,
    products: Products = None,
    days: Annotated[float, typer.Option(min=0.01, max=366, help="Days until it expires.")] = 90.0,
    as_json: AsJson = False,
) -> None:
    """Make a token, and print it: this once, and never again.

    The token alone goes to the standard output. A service sends it as `Authorization: Bearer fsk_…`.

        foreshock token create limit-service --role reader > token.txt
    """
    require_desk()
    from desk.access import tokens

    with _changing(settings) as connection:
        made, text = tokens.create(
            connection, name, role, products=_listed(products), days=days, by=done_by(), now=_now()
        )
    if as_json:
        print_json(
            {
                "token_id": made.token_id,
                "name": made.name,
                "role": made.role,
                "products": made.products,
                "expires_at": made.expires_at,
                "token": text,
            }
        )
        return
    errors.print(
        f"token {made.token_id} of {made.name}, {made.role} of {_products(made.products)}, until "
        f"{made.expires_at:%Y-%m-%d}; keep it as a secret, it is not shown again"
    )
    print_plain(text)


@token_app.command("list")
@takes_settings("database_url", "stack_dir")
def list_tokens(*, settings: Settings, as_json: AsJson = False) -> None:
    """List all tokens, without their secrets."""
    require_desk()
    from desk.access import tokens

    with _changing(settings) as connection:
        found = tokens.listed(connection)
    if as_json:
        print_json(found)
        return
    table = Table("id", "name", "role", "products", "state", "expires", "last used", Column("created", prose=True))
    for one in found:
        used = "never" if one.last_used_at is None else f"{one.last_used_at:%Y-%m-%d}"
        table.add_row(
            one.token_id,
            one.name,
            one.role,
            _products(one.products),
            one.state(_now()),
            f"{one.expires_at:%Y-%m-%d}",
            used,
            f"{one.created_at:%Y-%m-%d} by {one.created_by}",
        )
    console.print(table)


@token_app.command("revoke")
@takes_settings("database_url", "stack_dir")
def revoke_token(
    *,
    settings: Settings,
    token_id: Annotated[str, typer.Argument(help="The token's id, of `foreshock token list`.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """End a token at once."""
    require_desk()
    from desk.access import tokens

    with _changing(settings) as connection:
        tokens.revoke(connection, token_id, by=done_by(), now=_now())
    tell(as_json, {"token_id": token_id, "state": "revoked"}, f"token {token_id} is revoked")


@contextmanager
def _changing(settings: Settings) -> Iterator[Connection]:
    """A transaction; ends the command with what is wrong."""
    from desk.access.accounts import AccountError
    from desk.access.passwords import WeakPassword
    from desk.access.tokens import TokenError

    database = database_of(settings)
    engine = database.open_engine("foreshock-access")
    try:
        with translated(database.address), _unwrapped(), engine.begin() as connection:
            yield connection
    except (AccountError, TokenError, WeakPassword, DatabaseError) as error:
        fail(str(error))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """The driver's own errors, which `translated` knows."""
    import sqlalchemy.exc

    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        raise (error if error.orig is None else error.orig) from error


def _set_active(settings: Settings, name: str, *, active: bool, as_json: bool) -> None:
    require_desk()
    from desk.access import accounts

    with _changing(settings) as connection:
        accounts.set_active(connection, name, active=active)
    tell(as_json, {"name": name, "active": active}, f"account {name} is {'active' if active else 'disabled'}")


def _asked_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt(PASSWORD, hide_input=True, confirmation_prompt=True))


def _listed(products: str | None) -> list[str] | None:
    if products is None:
        return None
    found = [name.strip() for name in products.split(",") if name.strip()]
    if not found:
        raise typer.BadParameter("names no product; leave it out for all", param_hint="--products")
    return found


def _products(products: tuple[str, ...] | None) -> str:
    return "all products" if products is None else ", ".join(products)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
