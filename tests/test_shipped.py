"""Recipes and column mappings are found by name, in a clone and in an installed wheel."""

from pathlib import Path

import pytest

from cxr_isnet import shipped
from cxr_isnet.errors import InputError
from cxr_isnet.shipped import locate, recipes, shipped_folder

PROJECT = Path(__file__).resolve().parents[1]
MAPPING = "data_manifests/tb_shenzhen.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder that is not the clone."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def wheel_copy(tmp_path, monkeypatch):
    """The copy that a wheel has, with one recipe in it."""
    copy = tmp_path / "site-packages" / "_shipped"
    (copy / "pipelines" / "segmentation").mkdir(parents=True)
    (copy / "pipelines" / "segmentation" / "lungs.yaml").write_text("epochs: 1\n")
    monkeypatch.setattr(shipped, "_INSTALLED", copy)
    return copy


def test_in_a_clone_the_recipes_are_those_of_the_folder_pipelines():
    assert shipped_folder() == PROJECT
    assert set(recipes().values()) == set((PROJECT / "pipelines").rglob("*.yaml"))
    assert recipes()["segmentation/shenzhen"] == PROJECT / "pipelines" / "segmentation" / "shenzhen.yaml"


def test_an_installed_package_has_the_recipes_of_its_wheel(wheel_copy):
    assert shipped_folder() == wheel_copy
    assert recipes() == {"segmentation/lungs": wheel_copy / "pipelines" / "segmentation" / "lungs.yaml"}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tb_shenzhen_montgomery", "pipelines/tb_shenzhen_montgomery.yaml"),
        ("segmentation/shenzhen", "pipelines/segmentation/shenzhen.yaml"),
        ("pipelines/pretraining.yaml", "pipelines/pretraining.yaml"),
        (MAPPING, MAPPING),
    ],
)
def test_what_comes_with_the_package_is_found_from_any_folder(name, file):
    assert locate(name) == PROJECT / file


def test_a_file_of_the_user_comes_before_the_package_s(tmp_path):
    own = tmp_path / MAPPING
    own.parent.mkdir()
    own.write_text("table: own.csv\n")

    assert locate(MAPPING) == Path(MAPPING)
    assert locate(own) == own


def test_a_folder_does_not_hide_the_recipe_of_that_name(tmp_path):
    (tmp_path / "demo").mkdir()

    assert locate("demo") == PROJECT / "pipelines" / "demo.yaml"


def test_a_path_that_names_nothing_stays_as_it_is_for_the_caller_s_message():
    assert locate("nowhere/table.csv") == Path("nowhere/table.csv")
    assert locate("/nowhere/demo") == Path("/nowhere/demo")


def test_variables_of_the_environment_are_replaced(monkeypatch):
    monkeypatch.setenv("STUDY", "/studies/first")

    assert locate("${STUDY}/table.csv") == Path("/studies/first/table.csv")
    assert locate("${OTHER_STUDY:-/studies/second}/table.csv") == Path("/studies/second/table.csv")
    with pytest.raises(InputError, match="OTHER_STUDY"):
        locate("${OTHER_STUDY}/table.csv")
