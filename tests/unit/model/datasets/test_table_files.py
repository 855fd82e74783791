"""A path names the files that are meant, and says so where it would leave one out."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.datasets.dataset import DatasetError
from model.datasets.table_files import files_of, name_from


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n1\n")
    return folder / "mapping.toml"


def names(mapping: Path, *paths: str) -> list[str]:
    return [name_from(mapping.parent, file) for file in files_of(mapping, paths)]


def test_a_folder_has_its_tables_whatever_the_case_of_their_endings(tmp_path: Path) -> None:
    tables = ["t/FEB.CSV", "t/a.Parquet", "t/apr.TXT.GZ", "t/jan.csv", "t/mar.csv.gz"]
    mapping = made(tmp_path, *tables, "t/notes.md", "t/_hidden.csv", "t/.hidden.csv", "t/.git/x.csv")
    assert names(mapping, "t") == tables


@pytest.mark.parametrize(
    "name",
    ["feb.csv.zip", "FEB.XLSX", "feb.csv.bz2", "feb.json", "feb.csv.zst", "feb.arrow", "feb.dat"],
)
def test_a_table_in_another_form_is_not_left_out_in_silence(tmp_path: Path, name: str) -> None:
    mapping = made(tmp_path, "t/jan.csv", f"t/{name}")
    with pytest.raises(DatasetError, match=rf"{name} is in a form that is not read; write it as text"):
        files_of(mapping, ["t"])
    assert names(mapping, "t/*.csv") == ["t/jan.csv"], "the remedy works"


def test_folders_in_a_folder_are_not_left_out_in_silence(tmp_path: Path) -> None:
    mapping = made(tmp_path, "t/jan.csv", "t/2023/dec.csv")
    with pytest.raises(DatasetError, match=r"dec.csv is in a folder within 't'.*path = \"t/\*\*/\*.csv\""):
        files_of(mapping, ["t"])
    assert names(mapping, "t/**/*.csv") == ["t/2023/dec.csv", "t/jan.csv"], "the remedy works"


def test_a_pattern_says_what_it_leaves_out_by_its_capitals(tmp_path: Path) -> None:
    mapping = made(tmp_path, "t/jan.csv", "t/FEB.CSV")
    with pytest.raises(DatasetError, match=r"FEB.CSV differs from 't/\*.csv' in capitals only"):
        files_of(mapping, ["t/*.csv"])
    assert names(mapping, "t/*.[cC][sS][vV]") == ["t/FEB.CSV", "t/jan.csv"]


def test_a_table_packed_and_plain_is_one_table(tmp_path: Path) -> None:
    mapping = made(tmp_path, "t/jan.csv", "t/jan.csv.gz")
    for path in (["t"], ["t/jan*"], ["t/jan.csv", "t/jan.csv.gz"]):
        with pytest.raises(DatasetError, match=r"jan.csv.gz: the same table is there as jan.csv; keep one"):
            files_of(mapping, path)


def test_a_file_that_two_paths_name_is_read_once(tmp_path: Path) -> None:
    mapping = made(tmp_path, "t/jan.csv", "u/feb.csv")
    (tmp_path / "again.csv").symlink_to(tmp_path / "t" / "jan.csv")
    assert names(mapping, "t", "t/*.csv", "u/../t/jan.csv", "again.csv", "u/feb.csv") == ["t/jan.csv", "u/feb.csv"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    mapping = made(tmp_path / "m", "y2023/part-0.csv", "../y2024/part-0.csv")
    assert names(mapping, "y2023", "../y2024") == ["y2023/part-0.csv", "../y2024/part-0.csv"]
    assert names(mapping, str(tmp_path / "y2024" / "*.csv")) == ["../y2024/part-0.csv"]


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"path 'x.csv' is no file, no folder with tables and no pattern"):
        files_of(made(tmp_path, "t/a.csv"), ["x.csv"])
