"""The recipes of the segmenter, and the tables of the COVID sets that it reads and completes."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from cxr_isnet.commands.segment import SegmentCrossvalidateConfig
from cxr_isnet.imaging import read_mask
from cxr_isnet.manifests import read_manifest
from cxr_isnet.segmentation import QualityLimits
from cxr_isnet.segmentation.quality import measure_mask
from cxr_isnet.segmentation.training import SegmentTrainConfig

PROJECT = Path(__file__).resolve().parents[2]
RECIPES = sorted((PROJECT / "pipelines" / "segmentation").glob("*.yaml"))


def read(recipe: Path) -> SegmentTrainConfig:
    """The training that a recipe describes."""
    kind = SegmentCrossvalidateConfig if recipe.name.startswith("crossvalidate") else SegmentTrainConfig
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    settings = vars(parser.instantiate(parser.parse_path(recipe)))
    return settings["train"] if kind is SegmentCrossvalidateConfig else kind(**settings)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_setting_of_a_recipe_is_known_and_its_manifests_are_there(recipe):
    config = read(recipe)

    for manifest in (*config.training, *config.external, *config.heart_included):
        assert (PROJECT / manifest).is_file()
    assert "data_manifests/tb_montgomery.yaml" not in config.training


def test_a_cross_validation_has_the_settings_of_the_training_it_stands_for():
    for recipe in RECIPES:
        if recipe.name.startswith("crossvalidate"):
            whole = read(recipe.with_name(recipe.name.removeprefix("crossvalidate_")))
            folds = read(recipe)
            assert (folds.training, folds.optimizer, folds.epochs) == (whole.training, whole.optimizer, whole.epochs)


@pytest.fixture
def covid(published_sets):
    """Reads one of the COVID sets as recipes do."""
    return lambda name: read_manifest(PROJECT / "data_manifests" / f"covid_{name}.yaml")


@pytest.mark.realdata
def test_nih_patients_are_the_first_digits_of_the_file_name(covid):
    frame = covid("nih")

    assert len(frame) == 943  # 57 labels are contradicted by radiologists
    assert all(row.patient_id.endswith(Path(row.image).name[:8]) for row in frame.itertuples())
    assert (frame.groupby("patient_id")["label"].nunique() == 2).sum() == 18
    assert set(frame["mask"]) == {""}


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "images", "masks", "labels"),
    [("ieee8023", 432, 351, {"covid", "other_pneumonia", "normal"}), ("actualmed", 44, 0, {"covid", "normal"})],
)
def test_images_without_a_known_label_are_left_out(covid, name, images, masks, labels):
    frame = covid(name)

    assert (len(frame), (frame["mask"] != "").sum()) == (images, masks)
    assert set(frame["label"]) == labels
    assert frame["site"].nunique() == 1


@pytest.mark.realdata
def test_quality_control_flags_almost_no_mask_that_somebody_drew(covid):
    paths = [path for path in covid("ieee8023")["mask"] if path]

    flagged = [
        path
        for path in paths
        if measure_mask(read_mask(path), fragments=0.0, agreement=1.0).quality_flags(QualityLimits())
    ]

    assert len(flagged) <= 0.02 * len(paths)
