import json
from pathlib import Path

import pytest

from model.datasets import realism
from model.datasets.simulator import Simulator
from model.presentation.sections import SectionError

ROOT = Path(__file__).resolve().parents[4]


def test_the_page_shows_the_figures_of_its_file():
    page = (ROOT / realism.PAGE).read_text(encoding="utf-8")
    figures = json.loads((ROOT / realism.JSON_FILE).read_text(encoding="utf-8"))

    assert realism.written_into(page, realism.tables(figures)) == page


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(SectionError, match="no section between <!-- truths:begin -->"):
        realism.written_into("<!-- marginals:begin -->\n<!-- marginals:end -->\n", {"marginals": "x", "truths": "y"})


def test_tables_have_a_row_for_every_figure_and_leave_unknown_ones_empty():
    figures = {
        "marginals": {"simulator": {"a": 0.5, "b": 12.34}, "taiwan": {"b": 1.0}},
        "truths": [{"c": 0.25}, {"c": 0.75, "d": 1.0}],
        "ceiling": {"true hazard": {"AUC": 0.9, "AUC without arrears": 0.8, "mean": 0.02}},
    }

    parts = realism.tables(figures)

    assert "| a | 0.500 |  |  |  |" in parts["marginals"]
    assert "| b | 12.3 | 1.000 |  |  |" in parts["marginals"]
    assert "| c | 0.500 | 0.250 | 0.750 |" in parts["truths"]
    assert "| true hazard | 0.900 | 0.800 | 0.020 |" in parts["ceiling"]


def test_the_ceiling_is_measured_on_events_that_were_observed():
    figures = realism.ceiling(Simulator(users=40, months=9, seed=2), share=0.05)

    assert figures["what came"]["events"] > 10
    assert 0 <= figures["true hazard"]["mean"] <= 1
    assert figures["what events tell of it"]["mean"] >= 0


def test_missing_paths_are_named(capsys):
    with pytest.raises(SystemExit):
        realism.main(["--taiwan", "somewhere"])
    assert "--auto-loans, --berka" in capsys.readouterr().err
