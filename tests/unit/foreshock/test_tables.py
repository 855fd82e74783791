"""Tables fit terminals of 80 and of 200 columns, and are whole lines of plain text in a pipe."""

from __future__ import annotations

import io

import pytest

from foreshock.tables import Column, Table, bytes_text, facts_table
from foreshock.terminal import TerminalConsole, styled

REASON = "a payment is 31 days past due; the balance is near the limit: 97 % of it, up from 60 % a month ago"
IDS = ["u0000123", "[red]x[/]", "[/foo]", "\x1b[31mred", "two\nlines"]


def worst_users(*ids: str) -> Table:
    table = Table(
        "user",
        "level",
        *(Column(heading, numeric=True) for heading in ("score", "usual", "days late")),
        "alert since",
        Column("because (when it last rose)", prose=True),
        title="the most worrying users",
    )
    for user_id in ids:
        table.add_row(user_id, styled("HIGH", "red"), "0.812", "0.100", "31", "2023-11-02", REASON)
    return table


def printed(table: Table, width: int | None) -> list[str]:
    """Lines without styles, on a terminal of `width` columns or in a pipe."""
    file = io.StringIO()
    console = TerminalConsole(file=file, width=width, force_terminal=width is not None)
    console._color_system = None
    console.print(table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut_off(width: int) -> None:
    lines = printed(worst_users(*IDS), width)
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    for part in ("u0000123", "[red]x[/]", "[/foo]", r"\x1b[31mred", r"two\nlines", "2023-11-02"):
        assert part in text
    assert text.count("".join(REASON.split())) == len(IDS)


def test_at_80_columns_the_prose_stands_below_its_row() -> None:
    lines = printed(worst_users("u0000123"), 80)
    row = next(number for number, line in enumerate(lines) if line.startswith("u0000123"))
    assert lines[row].split() == ["u0000123", "HIGH", "0.812", "0.100", "31", "2023-11-02"]
    assert lines[row + 1].startswith("    a payment is 31 days past due; the balance is near the limit")
    assert len(lines) == row + 3


def test_at_100_columns_the_prose_is_wrapped_beside_its_row() -> None:
    lines = printed(worst_users("u0000123"), 100)
    row = next(number for number, line in enumerate(lines) if line.startswith("u0000123"))
    assert "2023-11-02   a payment is 31 days past due" in lines[row]
    assert all(len(line.split()) >= 2 for line in lines[row + 1 :]), "no line holds a single word"


@pytest.mark.parametrize("width", [200, None])
def test_where_there_is_room_a_row_is_one_line(width: int | None) -> None:
    lines = printed(worst_users("u0000123"), width)
    assert lines == [
        "the most worrying users",
        "user      level  score  usual  days late  alert since  because (when it last rose)",
        f"u0000123  HIGH   0.812  0.100         31  2023-11-02   {REASON}",
    ]


def test_a_pipe_gets_every_row_as_one_line_however_long() -> None:
    lines = printed(worst_users("u" * 500, *IDS), None)
    assert len(lines) == 2 + 1 + len(IDS)
    assert all(line.endswith(REASON) for line in lines[2:])
    assert "\x1b" not in "".join(lines)


def test_an_id_that_is_wider_than_the_terminal_is_folded() -> None:
    lines = printed(worst_users("u" * 128), 80)
    assert max(map(len, lines)) <= 80
    assert "".join("".join(lines).split()).count("u") >= 128
    assert any(line.strip() == "score: 0.812" for line in lines)


def test_wide_characters_are_counted_as_two_columns() -> None:
    table = Table("user", Column("score", numeric=True))
    table.add_row("客户", "1")
    table.add_row("u1", "10")
    assert printed(table, 80) == ["user  score", "客户      1", "u1       10"]


def test_long_headings_stand_on_several_lines() -> None:
    table = Table("name", *(Column(f"a long heading {number}", numeric=True) for number in range(6)))
    table.add_row("x", *"012345")
    lines = printed(table, 80)
    assert max(map(len, lines)) <= 80
    assert lines[-1].split() == ["x", *"012345"]


def test_facts_have_no_headings() -> None:
    table = facts_table([("events", "12"), ("lost", ", ".join(["[/foo]"] * 30))], "what came of it")
    assert printed(table, None)[:2] == ["what came of it", "events  12"]
    assert all(len(line) <= 80 for line in printed(table, 80))


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="2 columns has 1 cells"):
        Table("a", "b").add_row("1")


def test_a_table_without_rows_shows_its_headings() -> None:
    assert printed(Table("a", "b"), 80) == ["a  b"]


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2.5e9, "2.5 GB"), (7e15, "7,000.0 TB")],
)
def test_bytes_as_text(count: float | None, words: str) -> None:
    assert bytes_text(count) == words
