"""The `foreshock` command: one Typer application, its commands grouped by what they are for.

A module holds the commands of one subject. Commands read options, call what does the work and print the result; they
import PyTorch and other heavy packages only when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from foreshock import (
    bench,
    card,
    chaos,
    comparison,
    database,
    demo,
    doctor,
    documents,
    drift,
    evaluation,
    experiments,
    explanation,
    outlook,
    reasons,
    replay,
    services,
    simulation,
    stack,
    topics,
    training,
)

COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Run": {
        "demo": demo.demo,
        "up": stack.up,
        "down": stack.down,
        "worker": services.worker,
        "sink": services.sink,
        "doctor": doctor.doctor,
    },
    "Data and topics": {
        "topics": topics.topics_app,
        "db": database.database_app,
        "simulate": simulation.simulate,
    },
    "Replay": {"replay": replay.replay_app},
    "Models": {
        "train": training.train,
        "evaluate": evaluation.evaluate,
        "compare": comparison.compare,
        "tune": experiments.tune,
        "ablate": experiments.ablate,
        "card": card.card,
        "reference": card.reference,
        "reasons": reasons.reasons_app,
    },
    "Reports": {
        "explain": explanation.explain,
        "drift": drift.drift,
        "outlook": outlook.outlook,
    },
    "Development": {"bench": bench.bench, "chaos": chaos.chaos, "docs": documents.docs_app},
}
"""Every command by its name, in the group and the order in which the help and docs/commands.md show them."""


class GroupedCommands(TyperGroup):
    """Lists the commands in the order of `COMMANDS`; Typer would put every sub-application last."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names of all commands."""
        return [name for commands in COMMANDS.values() for name in commands]


app = typer.Typer(
    name="foreshock",
    cls=GroupedCommands,
    help="Streaming credit early warning: scores every event of every borrower and warns before they default.",
    epilog="`foreshock COMMAND --help` explains a command; start with `foreshock demo`.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)


def _register(group: str, name: str, command: Any) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, rich_help_panel=group)
    else:
        app.command(name, rich_help_panel=group)(command)


for _group, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        _register(_group, _name, _command)


def main() -> None:
    """Entry point of the `foreshock` script."""
    app()
