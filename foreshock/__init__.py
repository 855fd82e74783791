"""The `foreshock` command: one Typer application, its commands grouped by what they are for.

A module holds the commands of one subject. Commands read options, call what does the work and print the result. A
module is imported when one of its commands is asked for, so that a worker starts without what only reports need.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, dict[str, str]] = {
    "Run": {
        "demo": "demo:demo",
        "up": "stack:up",
        "down": "stack:down",
        "worker": "services:worker",
        "sink": "services:sink",
        "desk": "desk:desk",
        "webhooks": "webhooks:webhooks_app",
        "doctor": "doctor:doctor",
        "status": "status:status",
    },
    "Data and topics": {
        "topics": "topics:topics_app",
        "db": "database:database_app",
        "dead-letters": "dead_letters:dead_letters_app",
        "retention": "retention:retention_app",
        "simulate": "simulation:simulate",
    },
    "Access to the desk": {"account": "access:account_app", "token": "access:token_app"},
    "People's data": {
        "forget": "people:forget",
        "export": "people:export",
        "pseudonym": "people:pseudonym",
    },
    "Replay": {"replay": "replay:replay_app", "shadow": "shadow:shadow_app", "archive": "archive:archive_app"},
    "Models": {
        "train": "training:train",
        "feedback": "feedback:feedback_app",
        "evaluate": "evaluation:evaluate",
        "compare": "comparison:compare",
        "tune": "experiments:tune",
        "ablate": "experiments:ablate",
        "card": "card:card",
        "reference": "card:reference",
        "bundle": "bundles:bundle_app",
        "models": "models:models_app",
        "reasons": "reasons:reasons_app",
    },
    "Reports": {
        "explain": "explanation:explain",
        "drift": "drift:drift",
        "outlook": "outlook:outlook",
    },
    "Development": {"bench": "bench:bench", "chaos": "chaos:chaos", "fuzz": "fuzz:fuzz", "docs": "documents:docs_app"},
}
"""Every command by its name, in the group and the order in which the help and docs/commands.md show them, and its
place: a module of this package, and the function or application in it."""


@functools.cache
def _command(name: str) -> Any:
    """The Click command of this name, made by its module; None where there is none of this name."""
    group = next((group for group, names in COMMANDS.items() if name in names), None)
    if group is None:
        return None
    module, _, place = COMMANDS[group][name].partition(":")
    found = getattr(import_module(f"{__name__}.{module}"), place)
    alone = typer.Typer(
        cls=TyperGroup, add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode="markdown"
    )
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, rich_help_panel=group)
    else:
        alone.command(name, rich_help_panel=group)(found)
    return typer.main.get_group(alone).commands[name]


class GroupedCommands(TyperGroup):
    """Lists the commands in the order of `COMMANDS`, and has each made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names of all commands."""
        return [name for names in COMMANDS.values() for name in names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of this name, or None."""
        return _command(cmd_name)


app = typer.Typer(
    name="foreshock",
    cls=GroupedCommands,
    help="Streaming credit early warning: scores every event of every borrower and warns before they default.",
    epilog="`foreshock COMMAND --help` explains a command; start with `foreshock demo`.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _root() -> None:
    """Makes the application a group: its commands are not known to Typer before they are asked for."""


def main() -> None:
    """Entry point of the `foreshock` script."""
    app()
