"""Command `docs write`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.terminal import console, fail

docs_app = typer.Typer(help="Documents that are generated from the code.", no_args_is_help=True)


@docs_app.command("write")
def write(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="The docs folder of the source tree.")] = Path("docs"),
) -> None:
    """Write the generated documents into the docs folder.

    These are the JSON Schemas, the command reference, the settings reference, the sample records of topics.md, and the
    tables of models.md from the reports beside it. Needs a source tree.

        foreshock docs write
    """
    from foreshock.reference_pages import write_reference
    from model.comparison.page import PageError
    from model.presentation.sections import SectionError

    try:
        for path in write_reference(folder, context.find_root().command):
            console.print(str(path))
    except (PageError, SectionError) as error:
        fail(str(error))
