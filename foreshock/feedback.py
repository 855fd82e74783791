"""Command `feedback export`: what people found out about alerts, for training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from foreshock.options import AsJson, database_of, takes_settings
from foreshock.terminal import fail, tell
from stream.database.errors import DatabaseError
from stream.settings import Settings

feedback_app = typer.Typer(help="What people found out about alerts, for training.", no_args_is_help=True)


@feedback_app.callback()
def _group() -> None:
    """Keeps `export` a command of its own name while it is the only one."""


@feedback_app.command("export")
@takes_settings("database_url", "stack_dir")
def export(
    *,
    settings: Settings,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, a line of JSON for each alert.")],
    as_json: AsJson = False,
) -> None:
    """Write how cases were closed, for `train --feedback`.

    And how promises to pay were kept. Cases that nobody touched are left out. Needs PostgreSQL, as the role
    foreshock_reader. Holds ids of borrowers.

        foreshock feedback export feedback.jsonl
    """
    from stream.database.feedback import feedback

    counts: Counter[str] = Counter()
    draft = out.with_name(f"{out.name}.part")
    try:
        with draft.open("wb") as file:
            for one in feedback(database_of(settings)):
                file.write(msgspec.json.encode(one) + b"\n")
                counts["false alarms" if one.was_false else "treated" if one.was_treated else "others"] += 1
        draft.replace(out)
    except DatabaseError as error:
        draft.unlink(missing_ok=True)
        fail(str(error))
    except OSError as error:
        fail(f"{out} cannot be written ({error.strerror})")
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    facts = {"alerts": counts.total(), "file": str(out), "by_outcome": dict(counts)}
    tell(as_json, facts, f"{counts.total():,} alerts in {out}{f': {told}' if told else ''}")
