"""Options that many commands share, and the settings and addresses that they come to."""

from __future__ import annotations

import datetime as dt
import functools
import getpass
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from foreshock.terminal import console, fail
from model.progress import LongWork
from stream.kafka.connection import KafkaConnection
from stream.kafka.refusal import BrokerRefuses
from stream.logs import logs_json, set_up_logging, told
from stream.settings import Settings, SettingsError, load_settings
from stream.shadow.names import is_shadow_name

if TYPE_CHECKING:
    from stream.database.connection import DatabaseConnection
    from stream.embedded.stack import StackAddress

SETTINGS_PANEL = "Settings"
"""Heading in the help of the options that set a setting."""


def _setting(text: str, *names: str, default: str | bool = True, **more: Any) -> Any:
    return typer.Option(*names, help=text, show_default=default, rich_help_panel=SETTINGS_PANEL, **more)


def _folder(text: str, *names: str, default: str | bool = True) -> Any:
    return _setting(text, *names, default=default, parser=_path, metavar="PATH")


def _path(text: str | Path) -> Path:
    """An empty path, as from a variable of the shell that is not set, would be the current folder."""
    if not str(text).strip():
        raise typer.BadParameter("is empty; name a folder, or leave the option out")
    return Path(text)


OPTIONS: dict[str, Any] = {
    "config": Annotated[Path | None, _setting("TOML file with settings.", "--config", default="foreshock.toml")],
    "bootstrap_servers": Annotated[str | None, _setting("Your own Kafka, host:port,…", default="embedded stack")],
    "database_url": Annotated[str | None, _setting("Your own PostgreSQL, postgresql://…", default="embedded stack")],
    "insecure": Annotated[
        bool | None,
        _setting("Allow connections without TLS to servers on other machines.", "--insecure", default=False),
    ],
    "topic_prefix": Annotated[str | None, _setting("Put before every topic name.")],
    "application_id": Annotated[str | None, _setting("Consumer group of the workers.")],
    "partitions": Annotated[int | None, _setting("Partitions of every topic.")],
    "bundle": Annotated[Path | None, _folder("Model bundle folder.", default="pretrained")],
    "state_dir": Annotated[
        Path | None, _folder("Keep users on disk here, one folder for each worker.", default="memory")
    ],
    "resident_users": Annotated[int | None, _setting("Most users in memory, with --state-dir.")],
    "stack_dir": Annotated[Path | None, _folder("Folder of the embedded stack.")],
    "metrics_port": Annotated[
        int | None, _setting("Port for /metrics, /livez and /readyz; 0 takes a free one.", default="none")
    ],
    "desk_host": Annotated[str | None, _setting("Address to serve on.", "--host", default="127.0.0.1")],
    "desk_port": Annotated[int | None, _setting("Port to serve on; 0 takes a free one.", "--port", default="8400")],
    "desk_workers": Annotated[int | None, _setting("Processes, which share the port.", "--workers", default="1")],
    "desk_public_url": Annotated[
        str | None, _setting("Address as browsers see it, https://….", "--public-url", default="host and port")
    ],
    "desk_tls_certfile": Annotated[
        Path | None, _setting("PEM file of the certificate and its chain.", "--tls-certfile", default="no TLS")
    ],
    "desk_tls_keyfile": Annotated[
        Path | None, _setting("PEM file of its private key.", "--tls-keyfile", default="in the certificate's file")
    ],
    "desk_behind_proxy": Annotated[
        bool | None,
        _setting("A proxy in front speaks HTTPS, and sets X-Forwarded-….", "--behind-proxy", default=False),
    ],
    "log_format": Annotated[str | None, _setting("Lines of the log: text or json.", metavar="FORMAT", default="text")],
}
"""Options that set a setting, by the setting's name."""

Report = Annotated[Path | None, typer.Option("--report", help="Also write the figures to this JSON file.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
"""Forms in which a command takes a time."""

TIME = "TIME"
"""What the help shows for an option that takes one of `TIMES`."""

LateOption = Annotated[
    float, typer.Option("--late", min=0, max=1, help="Share of the events that arrive late, by up to three days.")
]
TwiceOption = Annotated[
    float, typer.Option("--twice", min=0, max=1, help="Share of the events that arrive twice, by up to six days apart.")
]


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options `--config` and those of `names`, and hand it the `settings` that they come to.

    Whoever takes the address of a server takes `--insecure`, too. Who takes `--log-format` runs long, and gets its
    logging set up. A wrong setting ends the command with a message that
    names its key, TLS or SASL that fails one that says which and what to do.
    """
    if {"bootstrap_servers", "database_url"} & set(names):
        names = (*names, "insecure")

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            config = values.pop("config")
            flags = {name: values.pop(name) for name in names}
            try:
                settings = load_settings(config, **flags)
            except SettingsError as error:
                fail(str(error), code=2)
            if "log_format" in names:
                set_up_logging(settings)
            try:
                command(settings=settings, **values)
            except SettingsError as error:  # a value that is only looked at where it is used
                fail(str(error), code=2)
            except BrokerRefuses as error:
                fail(str(error))
            except (typer.Exit, typer.Abort, typer.BadParameter):
                raise
            except Exception as error:
                if not logs_json():
                    raise
                logging.getLogger("foreshock").critical("stops: %s", told(error), exc_info=error)
                raise typer.Exit(1) from None

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OPTIONS[name])
            for name in ("config", *names)
        ]
        everything = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
        run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in everything}
        del run.__wrapped__
        return run

    return decorate


def kafka_of(settings: Settings) -> KafkaConnection:
    """How a command reaches Kafka: the user's own, else that of the embedded stack that `foreshock up` left running."""
    return KafkaConnection.from_settings(settings) or _stack_of(settings, "--bootstrap-servers").kafka


def database_of(settings: Settings) -> DatabaseConnection:
    """How a command reaches PostgreSQL: the user's own, else that of the embedded stack."""
    from stream.database.connection import DatabaseConnection

    return DatabaseConnection.from_settings(settings) or _stack_of(settings, "--database-url").database


def _stack_of(settings: Settings, missing: str) -> StackAddress:
    from stream.embedded.stack import running

    stack = running(settings.stack_dir)
    if stack is None:
        fail(f"no {missing} given and no embedded stack runs in {settings.stack_dir}: give it, or run `foreshock up`")
    return stack


def kafka_failure(error: Exception, kafka: KafkaConnection) -> str:
    """What to say of an error of a client library: the right that is missing, or what it is called."""
    from stream.kafka.rights import denial

    return str(denial(error, kafka) or f"{kafka}: {error!r}; `foreshock doctor` tells what is wrong")


@contextmanager
def interruptible(then: str) -> Iterator[None]:
    """A command that takes long: where it is interrupted (Ctrl-C), it ends with what becomes `then` of what it did."""
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; {then}", code=130)


def confirmed(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`; end the command where the answer is no, or nobody is there to answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail("nobody is there to be asked; add --yes", code=2)
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def require_desk() -> None:
    """End the command where the extra of the desk is not installed."""
    try:
        import desk.serving  # noqa: F401
    except ImportError as error:
        fail(f"{error}: the desk is extra, install it with pip install -c constraints.txt '.[desk]'")


def shadow_name(text: str) -> str:
    """A shadow's name as an argument of a command."""
    if not is_shadow_name(text):
        raise typer.BadParameter("use up to 100 letters, digits, dots, dashes and underscores, no dot or dash first")
    return text


def utc(at: dt.datetime) -> dt.datetime:
    """A time without an offset is UTC."""
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


def utc_ms(at: dt.datetime) -> int:
    """Milliseconds since 1970-01-01, as records have their times; a time without an offset is UTC."""
    return round(utc(at).timestamp() * 1000)


def machine_user() -> str | None:
    """The user of this machine; None where it has no name for who runs this, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def done_by(actor: str | None = None) -> str:
    """Who is on record for what a command does: who is named, else the user of this machine."""
    return actor or machine_user() or f"uid {os.getuid()}"


def event_progress(shown_on: Console = console) -> Progress:
    """How many events of how many; on `errors` where the standard output is for a program to read.

    Nothing there where the log is JSON: then all that goes to standard error is.
    """
    return LongWork(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=shown_on,
        disable=shown_on.stderr and logs_json(),
    )
