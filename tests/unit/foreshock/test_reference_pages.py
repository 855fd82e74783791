"""Generated documents are current, and the schemas describe what is published."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from foreshock import app
from foreshock.reference_pages import reference
from model.comparison.page import PAGE, models_page
from stream.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("path", reference(ROOT), ids=str)
def test_committed_documents_are_current(path: Path) -> None:
    assert (DOCS / path).read_text() == reference(ROOT)[path], "run `foreshock docs write`"


def test_the_tables_of_the_models_are_those_of_the_reports() -> None:
    assert (DOCS / PAGE).read_text() == models_page(DOCS), "run `foreshock docs write`"


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())
