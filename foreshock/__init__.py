"""The `foreshock` command: one Typer application, its commands grouped by who uses them.

`operate` starts and checks what Foreshock needs, `run` is the running parts, `learn` and `search` are the model,
`replay`, `demo` and `bench` speak for themselves. Commands parse and print; the work is elsewhere.
"""

from __future__ import annotations

import typer

from foreshock import (
    bench,
    card,
    compare,
    demo,
    drift,
    explain,
    learn,
    operate,
    outlook,
    reasons,
    replay,
    run,
    search,
)

app = typer.Typer(
    name="foreshock",
    help="Streaming credit early warning: scores every event of every borrower and warns before they default.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)

app.command("demo")(demo.demo)
app.command("up")(operate.up)
app.command("down")(operate.down)
app.add_typer(operate.topics_app, name="topics")
app.add_typer(operate.database_app, name="db")
app.command("doctor")(operate.doctor)
app.command("worker")(run.worker)
app.command("sink")(run.sink)
app.command("simulate")(run.simulate)
app.add_typer(replay.replay_app, name="replay")
app.command("train")(learn.train)
app.command("evaluate")(learn.evaluate)
app.command("tune")(search.tune)
app.command("ablate")(search.ablate)
app.command("compare")(compare.compare)
app.command("explain")(explain.explain)
app.add_typer(reasons.reasons_app, name="reasons")
app.command("card")(card.card)
app.command("reference")(card.reference)
app.command("drift")(drift.drift)
app.command("outlook")(outlook.outlook)
app.command("bench")(bench.bench)
app.add_typer(operate.docs_app, name="docs")


def main() -> None:
    """Entry point of the `foreshock` script."""
    app()
