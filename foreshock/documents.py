"""Commands `docs write` and `docs release-formats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.terminal import console, fail

FolderOption = Annotated[Path, typer.Option(help="The docs folder of the source tree.")]

docs_app = typer.Typer(help="Documents that are generated from the code.", no_args_is_help=True)


@docs_app.command("write")
def write(
    context: typer.Context,
    folder: FolderOption = Path("docs"),
) -> None:
    """Write the generated documents into the docs folder.

    These are the JSON Schemas, asyncapi.yaml, the references of commands, settings and metrics, the sample records of
    topics.md, and the tables of models.md from the reports beside it. Needs a source tree.

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


@docs_app.command("release-formats")
def release_formats(folder: FolderOption = Path("docs")) -> None:
    """Keep today's JSON Schemas as those of a release.

    They go to schemas/released, under the version of the record formats. From then on a test compares the formats with
    them, and says which version a change demands. Run it once for each release, after `docs write`. Needs a source
    tree.

        foreshock docs release-formats
    """
    from foreshock.reference_pages import FrozenFormats, freeze_formats

    try:
        for path in freeze_formats(folder):
            console.print(str(path))
    except FrozenFormats as error:
        fail(str(error))
