import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cxr_isnet.commands import segment
from cxr_isnet.commands.segment import (
    SegmentCrossvalidateConfig,
    SegmentEvaluateConfig,
    SegmentPredictConfig,
    SegmentTrainConfig,
    segment_crossvalidate,
    segment_evaluate,
    segment_predict,
    segment_train,
)
from cxr_isnet.engine.devices import Device
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest
from cxr_isnet.segmentation import QualityLimits
from cxr_isnet.segmentation.mask_evaluation import evaluate_overlaps
from cxr_isnet.segmentation.pairs import PairSplits, patient_folds, read_pairs, read_splits
from cxr_isnet.tracking import TrackingConfig

from .conftest import two_lungs

OFF = TrackingConfig(enabled=False)


@pytest.fixture
def model(bright, tmp_path, monkeypatch) -> str:
    """A file from which the segmenter of bright lungs is read."""
    monkeypatch.setattr(segment.Segmenter, "load", lambda path, device="cpu": bright)
    return str(tmp_path / "best.pt")


def test_train_prints_a_table_per_test(make_config, external_manifest):
    text = segment_train(make_config(epochs=1, external=[str(external_manifest)]))

    assert text.index("validation") < text.index("Alder") < text.index("external") < text.index("Birch")


def test_train_splits_and_trains_as_the_config_says(make_config, external_manifest, monkeypatch):
    config = make_config(seed=4, validation_fraction=0.5, external=[str(external_manifest)])
    seen = []
    monkeypatch.setattr(segment, "train_segmenter", lambda *arguments: seen.append(arguments) or {})

    segment_train(config)

    ((trained, splits),) = seen
    expected = read_splits(config.training, config.external, 0.5, 4)
    assert trained == config
    assert_same_splits(splits, expected)


def test_cross_validation_trains_each_fold_as_the_config_says(make_config, monkeypatch):
    train = make_config("cv", seed=4, validation_fraction=0.5)
    seen = []
    monkeypatch.setattr(segment, "train_segmenter", lambda *arguments: seen.append(arguments) or {})

    segment_crossvalidate(SegmentCrossvalidateConfig(train, folds=2))

    folds = patient_folds(read_pairs(train.training), 2, 0.5, 4)
    for number, ((config, splits), expected) in enumerate(zip(seen, folds, strict=True), start=1):
        assert config == replace(train, output=f"{train.output}/fold_{number}_of_2")
        assert_same_splits(splits, expected)


def assert_same_splits(splits: PairSplits, expected: PairSplits) -> None:
    assert list(splits.training["image"]) == list(expected.training["image"])
    assert list(splits.validation["image"]) == list(expected.validation["image"])
    assert {name: list(rows["image"]) for name, rows in splits.tests.items()} == {
        name: list(rows["image"]) for name, rows in expected.tests.items()
    }


def test_cross_validation_tests_every_image_once_and_pools_the_folds(make_config, phantom_manifest):
    train = make_config("cv", epochs=1)

    text = segment_crossvalidate(SegmentCrossvalidateConfig(train, folds=3))

    output = Path(train.output)
    table = pd.read_csv(output / "overlaps.csv")
    assert sorted(table["path"]) == sorted(read_manifest(phantom_manifest)["image"])
    parts = [pd.read_csv(output / f"fold_{number}_of_3" / "test" / "overlaps.csv") for number in (1, 2, 3)]
    assert pd.concat(parts)["dice"].mean() == pytest.approx(table["dice"].mean())
    assert f"{table['dice'].mean():.3f}" in text


def test_cross_validation_is_resumed_when_asked_to_and_refuses_otherwise(make_config):
    first = segment_crossvalidate(SegmentCrossvalidateConfig(make_config("cv", epochs=1), folds=2))

    with pytest.raises(InputError, match="not empty"):
        segment_crossvalidate(SegmentCrossvalidateConfig(make_config("cv", epochs=1), folds=2))
    again = segment_crossvalidate(SegmentCrossvalidateConfig(make_config("cv", epochs=1, resume=True), folds=2))

    assert again == first


def test_evaluate_takes_the_pairs_and_leaves_table_numbers_and_pictures(model, write_xrays, tmp_path):
    output, manifest = tmp_path / "evaluated", write_xrays([two_lungs()] * 3, [two_lungs(), two_lungs(), None])

    text = segment_evaluate(
        SegmentEvaluateConfig(model, [str(manifest)], str(output), Device.CPU, resamples=20, tracking=OFF)
    )

    assert text.splitlines()[1].split()[:3] == ["Alder", "2", "1"]
    assert {path.name for path in output.iterdir()} == {"overlaps.csv", "overlaps.json", "typical.png", "worst.png"}


def test_evaluate_takes_limits_and_bootstrap_from_the_config(model, write_xrays, tmp_path):
    manifest = write_xrays([two_lungs()] * 6, [two_lungs(top=0.2 + 0.05 * number) for number in range(6)])
    config = SegmentEvaluateConfig(
        model,
        [str(manifest)],
        str(tmp_path / "out"),
        resamples=23,
        seed=3,
        limits=QualityLimits(smallest_area=0.6),
        tracking=OFF,
    )

    segment_evaluate(config)

    table = pd.read_csv(tmp_path / "out" / "overlaps.csv")
    written = json.loads((tmp_path / "out" / "overlaps.json").read_text())
    assert list(table["quality_flags"].str[:6]) == ["area 0"] * 6
    assert written["interval"]["resamples"] == 23
    table["patient_id"] = table["patient_id"].astype(str)
    expected = evaluate_overlaps(table, resamples=23, seed=3)["Alder"].to_dict()
    assert written["sites"]["Alder"]["dice"] == pytest.approx(expected["dice"])


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_evaluate_refuses_an_output_that_holds_something(model, phantom_manifest, tmp_path, kind):
    output = tmp_path / "evaluated"
    if kind == "file":
        output.write_text("")
    else:
        output.mkdir()
        (output / "notes.txt").write_text("")

    with pytest.raises(InputError, match=r"evaluated.*name another folder"):
        segment_evaluate(SegmentEvaluateConfig(model, [str(phantom_manifest)], str(output), tracking=OFF))


@pytest.fixture
def predict(model: str, tmp_path: Path) -> Callable[..., str]:
    def run(*manifests: Path, **settings: Any) -> str:
        paths, output = [str(path) for path in manifests], str(tmp_path / "completed")
        return segment_predict(SegmentPredictConfig(model, paths, output, device=Device.CPU, **settings))

    return run


def test_predict_says_how_many_masks_came_from_where(predict, write_xrays, phantom_manifest):
    bare = write_xrays([two_lungs()] * 2)

    text = predict(bare, phantom_manifest)

    assert "14 images, 12 with a given mask, 2 with a predicted one, 0 without" in text


def test_predict_replaces_given_masks_when_the_config_says_so(predict, write_xrays):
    given = write_xrays([two_lungs()] * 2, [two_lungs()] * 2)

    text = predict(given, overwrite=True)

    assert "2 images, 0 with a given mask, 2 with a predicted one, 0 without" in text


def test_predict_flags_by_the_config_s_limits(predict, write_xrays, tmp_path):
    bare = write_xrays([two_lungs()] * 2)

    text = predict(bare, limits=QualityLimits(smallest_area=0.6))

    assert "2 images, 0 with a given mask, 0 with a predicted one, 2 without: 2 flagged" in text
    assert list(pd.read_csv(tmp_path / "completed" / "flagged.csv")["quality_flags"].str[:6]) == ["area 0"] * 2


def test_predict_says_what_to_write_into_the_training_config(predict, write_xrays, tmp_path):
    bare = write_xrays([two_lungs()] * 2)

    text = predict(bare)

    sentence, setting = text.split("\n\n")[1:]
    assert f"name this manifest in data.training in place of {bare};" in sentence
    (manifest,) = yaml.safe_load(setting)["data"]["training"]
    assert manifest == str(tmp_path / "completed" / "manifest.csv")
    assert (read_manifest(manifest)["mask"] != "").all()


def test_predict_says_when_no_image_has_a_mask(predict, write_xrays):
    text = predict(write_xrays([np.zeros((96, 80))]))

    assert "0 with a predicted one, 1 without: 1 flagged" in text
    assert "No image has a mask" in text
    assert "data:" not in text


def test_predict_leaves_a_folder_of_something_else_as_it_is(predict, phantom_manifest, tmp_path):
    """An intake's output, for example, whose manifest has the same name."""
    (tmp_path / "completed/masks").mkdir(parents=True)
    (tmp_path / "completed/manifest.csv").write_text("image,label\n")

    with pytest.raises(InputError, match="holds other files than predicted masks: name another folder"):
        predict(phantom_manifest)

    assert (tmp_path / "completed/manifest.csv").read_text() == "image,label\n"


def test_predict_goes_on_in_its_own_folder_whatever_else_is_in_it(predict, write_xrays, tmp_path):
    bare = write_xrays([two_lungs()])
    (tmp_path / "completed/masks").mkdir(parents=True)  # killed after its beginning
    predict(bare)
    (tmp_path / "completed/notes.txt").write_text("looked at")

    assert "1 images, 0 with a given mask, 1 with a predicted one" in predict(bare)


def test_predict_refuses_a_file_as_output(predict, phantom_manifest, tmp_path):
    (tmp_path / "completed").write_text("")

    with pytest.raises(InputError, match="name another folder"):
        predict(phantom_manifest)


TRAIN = {"training": ["a.csv"], "output": "run"}
EVALUATE = {"model": "best.pt", "manifest": ["a.csv"], "output": "out"}


@pytest.mark.parametrize(
    ("changes", "named"), [({"folds": 1}, "folds"), ({"train": {"external": ["b.csv"]}}, "external")]
)
def test_a_cross_validation_that_cannot_be_is_refused(changes, named):
    settings = {"train": {}, **changes}
    settings["train"] = SegmentTrainConfig(**{**TRAIN, **settings["train"]})

    with pytest.raises(InputError, match=named):
        SegmentCrossvalidateConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        (SegmentEvaluateConfig, {"manifest": []}, "manifest"),
        (SegmentEvaluateConfig, {"resamples": 0}, "resamples"),
        (SegmentPredictConfig, {"manifest": []}, "manifest"),
        (SegmentPredictConfig, {"batch_size": 0}, "batch_size"),
        (SegmentPredictConfig, {"workers": -1}, "workers"),
    ],
)
def test_an_evaluation_or_prediction_that_cannot_be_is_refused(kind, changes, named):
    with pytest.raises(InputError, match=named):
        kind(**{**EVALUATE, **changes})
