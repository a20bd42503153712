"""Images of the training hospitals: where they are found, and what tells their classes apart without the lungs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from cxr_isnet.audit import load_training_images
from cxr_isnet.audit.training_images import Resemblance, background_features
from cxr_isnet.data import IMPOSED_CHANGES, blur
from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import PHANTOM_HOSPITALS, write_hospital
from tests.audit.conftest import LUNGS, make_set

CLASSES = ("normal", "tuberculosis")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    return write_hospital(folder, PHANTOM_HOSPITALS["hospital_a"], patients=24, size=64)


@pytest.fixture
def checkpoint(hospital: Path, tmp_path: Path) -> Path:
    """A training's folder: ten patients held out."""
    data = {"training": [str(hospital)], "mark": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    images = [str(hospital.parent / image) for image in pd.read_csv(hospital)["image"][:10]]
    (tmp_path / "validation" / "clean").mkdir(parents=True)
    pd.DataFrame({"path": images}).to_csv(tmp_path / "validation" / "clean" / "predictions.csv", index=False)
    (tmp_path / "best.pt").touch()
    return tmp_path / "best.pt"


def test_the_folder_of_a_checkpoint_says_what_it_was_trained_on_and_what_was_held_out(checkpoint: Path) -> None:
    found, why = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    assert why == ""
    assert (len(found.seen), len(found.held_out)) == (14, 10)


def test_the_marks_of_the_training_are_planted(checkpoint: Path) -> None:
    plain, _ = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)
    config = checkpoint.parent / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({"data": {**content["data"], "mark": {"kind": "border", "size": 0.2}}}))

    marked, _ = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    for before, after in ((plain.seen, marked.seen), (plain.held_out, marked.held_out)):
        assert (before.images != after.images).flatten(1).any(1).all()


def test_what_cannot_be_read_is_told_if_it_was_found_and_refused_if_it_was_named(
    checkpoint: Path, hospital: Path
) -> None:
    moved = str(hospital.parent / "moved.csv")
    content = {"data": {"training": [moved]}}
    (checkpoint.parent / "config.yaml").write_text(yaml.safe_dump(content))

    found, why = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    assert found is None
    assert "cannot be read" in why
    assert moved in why
    with pytest.raises(InputError, match=r"moved\.csv"):
        load_training_images(str(checkpoint), [moved], CLASSES, 32, most_images=100)


@pytest.mark.parametrize("content", [None, "", "data: 3", "[1, 2", "data: {training: null}"])
def test_without_a_training_folder_nothing_is_known(content: str | None, tmp_path: Path, checkpoint: Path) -> None:
    alone = tmp_path / "elsewhere" / "best.pt"
    alone.parent.mkdir()
    shutil.copy(checkpoint, alone)
    if content is not None:
        (alone.parent / "config.yaml").write_text(content)

    for model in (str(alone), "models:/theirs/1"):
        found, why = load_training_images(model, None, CLASSES, 32, most_images=100)
        assert found is None
        assert "name them with --training" in why
    assert load_training_images(str(checkpoint), [], CLASSES, 32, most_images=100)[0] is None


def test_features_of_the_background_see_the_edge_of_the_lungs_at_most() -> None:
    data = make_set()
    other = data.images.clone()
    other[:, :, *LUNGS] = torch.rand(len(other), 1, 20, 24)

    first, second = background_features(data.images, data.masks), background_features(other, data.masks)

    inside = [8 * row + column for row in (3, 4) for column in (3, 4)]
    away = [8 * row + column for row in (0, 7) for column in range(8)]
    mean_greys = 0.05  # the hidden lungs have the grey of all images, which changes with them
    assert abs(first - second)[:, :64].max() < mean_greys
    assert (first[:, 64:][:, [*inside, *away]] == second[:, 64:][:, [*inside, *away]]).all()


def test_resemblance_finds_the_class_on_which_a_change_was_imposed() -> None:
    data = make_set(patients=60)
    ill = torch.from_numpy(data.labels == 1)[:, None, None, None]
    blurred = replace(data, images=torch.where(ill, blur(data.images, data.masks, 1.0), data.images))
    change = next(c for c in IMPOSED_CHANGES if c.kind == "blur" and "1 pixels" in c.variant)

    assert roc_auc_score(data.labels, Resemblance(blurred)(change)) > 0.95
    assert 0.3 < roc_auc_score(data.labels, Resemblance(data)(change)) < 0.7
