from pathlib import Path

import pytest

from cxr_isnet.manifests.data_folder import how_to_build, set_folder, set_manifest


@pytest.fixture(autouse=True)
def unset(monkeypatch, tmp_path):
    """An empty working directory, and no variable that names another data folder."""
    monkeypatch.delenv("CXR_ISNET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_data_folder_is_data_or_what_the_variable_names(monkeypatch):
    assert set_folder("shenzhen") == Path("data/shenzhen")
    monkeypatch.setenv("CXR_ISNET_DATA", "/sets")
    assert set_manifest("shenzhen") == Path("/sets/shenzhen/manifest.csv")


def test_the_command_for_a_table_in_the_data_folder_needs_no_output():
    table = Path("data/shenzhen/manifest.csv")

    command, page = how_to_build(table).split("; ")
    assert command == "`cxr-isnet manifest build shenzhen <folder of the download>`"
    assert page == "the Shenzhen chest X-ray set is had from https://lhncbc.nlm.nih.gov/publication/pub9931"
    assert how_to_build(table.absolute()) == how_to_build(table)


def test_the_command_for_a_table_elsewhere_names_it():
    command = how_to_build(Path("/other/tbx11k/manifest.csv"))

    assert command.startswith(
        "`cxr-isnet manifest build tbx11k <folder of the download> -o /other/tbx11k/manifest.csv`; TBX11K is had from"
    )


@pytest.mark.parametrize("table", ["data/hospital/manifest.csv", "data/shenzhen/table.csv", "data/table/manifest.csv"])
def test_no_command_is_known_for_any_other_table(table):
    assert how_to_build(Path(table)) == ""
