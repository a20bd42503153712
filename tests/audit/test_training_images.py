"""Images of the training hospitals: where they are found, and what tells their classes apart without the lungs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
    found = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    assert (found.missing, found.left_open) == ("", ())
    assert (len(found.seen), len(found.held_out)) == (14, 10)


def test_the_marks_of_the_training_are_planted(checkpoint: Path) -> None:
    plain = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)
    config = checkpoint.parent / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({"data": {**content["data"], "mark": {"kind": "border", "size": 0.2}}}))

    marked = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    for before, after in ((plain.seen, marked.seen), (plain.held_out, marked.held_out)):
        assert (before.images != after.images).flatten(1).any(1).all()


def test_what_cannot_be_read_is_told_if_it_was_found_and_refused_if_it_was_named(
    checkpoint: Path, hospital: Path
) -> None:
    moved = str(hospital.parent / "moved.csv")
    content = {"data": {"training": [moved]}}
    (checkpoint.parent / "config.yaml").write_text(yaml.safe_dump(content))

    found = load_training_images(str(checkpoint), None, CLASSES, 32, most_images=100)

    assert found.seen is None
    assert "cannot be read" in found.missing
    assert moved in found.missing
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
        found = load_training_images(model, None, CLASSES, 32, most_images=100)
        assert found.seen is None
        assert "name them with --training" in found.missing
    assert load_training_images(str(checkpoint), [], CLASSES, 32, most_images=100).seen is None


def altered(hospital: Path, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """The hospital's manifest with its rows changed."""
    table = pd.read_csv(hospital, dtype=str)
    for column in ("image", "mask"):
        table[column] = [str(hospital.parent / name) for name in table[column]]
    change(table).to_csv(folder / "altered.csv", index=False)
    return [str(folder / "altered.csv")]


def test_class_and_hospital_in_one_leave_the_verdict_open_whatever_the_images_show(
    hospital: Path, tmp_path: Path
) -> None:
    named = altered(
        hospital, tmp_path, lambda t: t.assign(site=t["label"].map({"normal": "Elm", "tuberculosis": "Fir"}))
    )

    found = load_training_images("models:/theirs/1", named, CLASSES, 32, most_images=100)

    (said,) = found.left_open
    assert found.seen is not None
    assert all(part in said for part in ("Elm 100% normal", "Fir 0% normal, 100% tuberculosis", "AUC of 1.00"))


@pytest.mark.parametrize(("ill_of_ten", "open_"), [(9, True), (7, False)])
def test_hospitals_that_tell_the_classes_less_than_nearly_leave_nothing_open(
    ill_of_ten: int, open_: bool, hospital: Path, tmp_path: Path
) -> None:
    def sites(table: pd.DataFrame) -> pd.DataFrame:
        turn = table.groupby("label").cumcount() % 10
        ill = (table["label"] == "tuberculosis").to_numpy()
        return table.assign(site=["Elm" if (t < ill_of_ten) == i else "Fir" for t, i in zip(turn, ill, strict=True)])

    found = load_training_images("models:/theirs/1", altered(hospital, tmp_path, sites), CLASSES, 32, most_images=100)

    assert bool(found.left_open) is open_


def test_a_class_whose_training_images_have_no_masks_leaves_the_verdict_open(hospital: Path, tmp_path: Path) -> None:
    """Normals of another source than the ill, without masks: what has masks is of one source."""

    def unmasked(table: pd.DataFrame) -> pd.DataFrame:
        extra = table[table["label"] == "normal"].assign(mask="", site="Elm")
        extra["patient_id"] = "x" + extra["patient_id"]
        extra["image"] = [shutil.copy(path, tmp_path / f"x{Path(path).name}") for path in extra["image"]]
        few = table[(table["label"] != "normal") | (table["label"] == "normal").cumsum().isin(range(6))]
        return pd.concat([few.assign(site="Fir"), extra])

    found = load_training_images(
        "models:/theirs/1", altered(hospital, tmp_path, unmasked), CLASSES, 32, most_images=100
    )

    assert found.seen is not None
    assert any("of 'normal' have a lung mask" in said and "segment predict" in said for said in found.left_open)


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
