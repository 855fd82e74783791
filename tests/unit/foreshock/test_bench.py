"""What `bench` shows of a measurement fits the terminal and has every figure."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bench.rendering import TABLES, read_results
from foreshock.bench import table_of
from foreshock.terminal import TerminalConsole

RESULTS = read_results(Path(__file__).resolve().parents[3] / "bench" / "results")


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("width", [80, 200, None])
def test_a_table_fits_and_has_every_figure(name: str, width: int | None) -> None:
    file = io.StringIO()
    TerminalConsole(file=file, width=width, force_terminal=width is not None).print(table_of(RESULTS[name]))
    lines = file.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[3m", "").splitlines()
    if width is not None:
        assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    assert all("".join(cell.split()) in shown for row in TABLES[name](RESULTS[name])[1] for cell in row)
