"""Generated documents are current, and the schemas describe what is published."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from events.types import FORMATS_VERSION
from foreshock import COMMANDS, app
from foreshock.reference_pages import (
    DESK_PAGE,
    RELEASED,
    SCHEMAS,
    TOPICS_PAGE,
    FrozenFormats,
    commands_page,
    desk_page,
    freeze_formats,
    reference,
    reliability_page,
    topics_page,
)
from model.comparison.page import PAGE, models_page
from model.presentation.sections import SectionError
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


def test_the_sample_records_are_current() -> None:
    assert (DOCS / TOPICS_PAGE).read_text() == topics_page(DOCS), "run `foreshock docs write`"


def test_the_life_of_a_case_is_current() -> None:
    assert (DOCS / DESK_PAGE).read_text() == desk_page(DOCS), "run `foreshock docs write`"


def test_the_chaos_report_is_told_as_it_is() -> None:
    assert (DOCS / "reliability.md").read_text() == reliability_page(DOCS), "run `foreshock docs write`"


def test_a_page_without_its_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOPICS_PAGE).write_text("# Topics\n<!-- samples:end -->\n")
    with pytest.raises(SectionError, match="samples:begin"):
        topics_page(tmp_path)
    (tmp_path / TOPICS_PAGE).write_text("# Topics\n<!-- samples:begin -->\n<!-- samples:end -->\n")
    with pytest.raises(SectionError, match="letter-headers:begin"):
        topics_page(tmp_path)


def test_a_release_keeps_its_formats_and_no_other_ones(tmp_path: Path) -> None:
    kept = freeze_formats(tmp_path)
    assert {path.name: path.read_text() for path in kept} == {
        path.name: (DOCS / SCHEMAS / path.name).read_text() for path in kept
    }
    assert all(path.parent == tmp_path / SCHEMAS / RELEASED / FORMATS_VERSION for path in kept)
    assert freeze_formats(tmp_path) == kept
    kept[0].write_text("{}")
    with pytest.raises(FrozenFormats, match=r"raise FORMATS_VERSION"):
        freeze_formats(tmp_path)
    assert kept[0].read_text() == "{}"


def test_the_commands_stand_in_their_groups_and_hidden_options_are_left_out() -> None:
    page = commands_page(ROOT)
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(COMMANDS)
    assert "`--name`" not in page
    assert page.index("## Replay") < page.index("### `foreshock replay run`") < page.index("## Models")
