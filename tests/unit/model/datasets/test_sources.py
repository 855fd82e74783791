"""A source is opened by its name, and refuses names, paths and options that are not its own."""

import pytest

from model.datasets.dataset import SOURCES, DatasetError
from model.datasets.sources import open_dataset


def test_unknown_source_names_the_choices():
    with pytest.raises(DatasetError, match=r"'mars'.*simulator, taiwan, auto-loans, berka"):
        open_dataset("mars")


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "simulator"])
def test_real_sources_need_a_path_that_exists(source, tmp_path):
    with pytest.raises(DatasetError, match="--path"):
        open_dataset(source)
    with pytest.raises(DatasetError, match=r"nowhere.*--path|nowhere is not|nowhere is no file"):
        open_dataset(source, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no option users"):
        open_dataset(source, tmp_path, users=3)


def test_the_simulator_takes_its_options_and_no_path(tmp_path):
    assert open_dataset("simulator", users=3, months=1).name == "simulator"
    with pytest.raises(DatasetError, match="reads no file"):
        open_dataset("simulator", tmp_path)
    with pytest.raises(DatasetError, match="no option colour"):
        open_dataset("simulator", colour="red")
    with pytest.raises(DatasetError, match="months is 0"):
        open_dataset("simulator", months=0)
