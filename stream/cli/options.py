"""Options that many commands share, and the settings and addresses that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Never

import typer
from rich.console import Console

from stream.embedded.stack import running
from stream.settings import Settings, SettingsError, load_settings

console = Console()
errors = Console(stderr=True)

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", show_default="foreshock.toml")
]
BootstrapServers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Your own Kafka, host:port,…", show_default="embedded stack")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="Your own PostgreSQL, postgresql://…", show_default="embedded stack"),
]
TopicPrefix = Annotated[str | None, typer.Option("--topic-prefix", help="Put before every topic name.")]
ApplicationId = Annotated[str | None, typer.Option("--application-id", help="Consumer group of the workers.")]
Partitions = Annotated[int | None, typer.Option("--partitions", help="Partitions of every topic.")]
BundlePath = Annotated[Path | None, typer.Option("--bundle", help="Model bundle folder.", show_default="pretrained")]
StackDir = Annotated[Path | None, typer.Option("--stack-dir", help="Folder of the embedded stack.")]
Report = Annotated[Path | None, typer.Option("--report", help="Also write the figures to this JSON file.")]


def fail(message: str, code: int = 1) -> Never:
    """End the command with an error that says what to do."""
    errors.print(f"[bold red]error:[/] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def settings_of(config: Path | None = None, **flags: Any) -> Settings:
    """Settings of a command; a wrong one ends it."""
    try:
        return load_settings(config, **flags)
    except SettingsError as error:
        fail(str(error), code=2)


def with_addresses(settings: Settings, *, database: bool = True) -> tuple[str, str]:
    """Broker and database of a command: the user's own, else the embedded stack that `foreshock up` left running."""
    servers, url = settings.bootstrap_servers, settings.database_url
    if servers is None or (database and url is None):
        stack = running(settings.stack_dir)
        if stack is None:
            missing = "--bootstrap-servers" if servers is None else "--database-url"
            fail(
                f"no {missing} given and no embedded stack runs in {settings.stack_dir}: give it, or run `foreshock up`"
            )
        servers, url = servers or stack.bootstrap_servers, url or stack.database_url
    return servers, url or ""
