"""Classifiers that see no lungs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_isnet.data import ImageConfig
from cxr_isnet.evaluation import CONTROLS, cross_validate, fit_control, image_features, mask_features
from cxr_isnet.inference import FittedControls, PreparedImages
from cxr_isnet.inference import controls as module
from cxr_isnet.manifests import read_manifests

CLASSES = ["normal", "tuberculosis"]
BY_NAME = {control.name: control for control in CONTROLS}


def features_of(image, mask=None):
    return np.append(image_features(image), mask_features(mask))


def changed(before, after):
    """Names of the controls that see a difference between two images."""
    return {
        name for name, control in BY_NAME.items() if not np.allclose(before[control.columns], after[control.columns])
    }


def test_each_control_sees_its_part_of_the_image_and_nothing_else():
    image, mask = np.full((64, 64), 0.5), np.zeros((64, 64))
    mask[20:40, 20:40] = 1
    middle, edge, grown = image.copy(), image.copy(), mask.copy()
    middle[8:56, 8:56] = 0.9
    edge[:4, :4] = 0.9
    grown[20:44, 20:40] = 1
    before = features_of(image, mask)

    assert changed(before, features_of(middle, mask)) == {"thumbnail"}
    assert changed(before, features_of(edge, mask)) == {"thumbnail", "border"}
    assert changed(before, features_of(image, grown)) == {"mask_shape"}


def test_the_shape_of_a_mask_is_not_seen_without_one_or_with_an_empty_one():
    image = np.full((64, 48), 0.5)
    rows = np.stack([features_of(image, np.ones((64, 48))), features_of(image), features_of(image, np.zeros((64, 48)))])

    assert BY_NAME["mask_shape"].sees(rows).tolist() == [True, False, False]
    assert BY_NAME["thumbnail"].sees(rows).all()


def patients_of_two_classes(signal, count=60, seed=0):
    """Two images of each patient that are nearly alike, so that a split by image would give the label away."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count) % 2, 2)
    own = np.repeat(generator.normal(size=(count, 518)), 2, axis=0)
    features = own + 0.01 * generator.normal(size=own.shape)
    features[:, :16] += signal * labels[:, None]
    return features, labels, np.repeat(np.arange(count), 2)


def test_cross_validation_leaves_out_patients_not_images():
    features, labels, patients = patients_of_two_classes(signal=0.0)

    scores = cross_validate(BY_NAME["thumbnail"], features, labels, patients, 2)

    assert roc_auc_score(labels, scores[:, 1]) < 0.7
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_a_cue_in_the_border_is_told_and_moves_to_other_images():
    border = BY_NAME["border"]
    features, labels, patients = patients_of_two_classes(signal=2.0)
    others, truth, _ = patients_of_two_classes(signal=2.0, seed=1)

    assert roc_auc_score(labels, cross_validate(border, features, labels, patients, 2)[:, 1]) > 0.9
    assert roc_auc_score(truth, fit_control(border, features, labels, 2)(others)[:, 1]) > 0.9


def test_a_class_without_images_gets_no_probability():
    features, labels, _ = patients_of_two_classes(signal=1.0)

    scores = fit_control(BY_NAME["border"], features, 2 * labels, 3)(features)

    assert (scores[:, 1] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1)


@pytest.fixture
def frame(phantom_manifest):
    return read_manifests([phantom_manifest], classes=CLASSES)


def test_every_image_is_read_once_for_all_controls_and_partitions(frame, monkeypatch):
    read = []
    dataset = module.make_dataset
    monkeypatch.setattr(
        module, "make_dataset", lambda rows, *a, **k: (read.extend(rows["image"]), dataset(rows, *a, **k))[1]
    )
    images = PreparedImages(CLASSES, ImageConfig(32))

    for rows in (frame.iloc[:8], frame, frame.iloc[2:]):
        FittedControls.on(images, rows).tables(rows)

    assert sorted(read) == sorted(frame["image"])


def test_a_control_that_sees_no_image_of_a_class_is_left_out(frame):
    images = PreparedImages(CLASSES, ImageConfig(32))
    masked = FittedControls.on(images, frame).tables(frame)
    ill = frame["label"] == "tuberculosis"

    without = FittedControls.on(
        PreparedImages(CLASSES, ImageConfig(32)), frame.assign(mask=frame["mask"].mask(ill, ""))
    )

    assert list(masked) == ["thumbnail", "border", "mask_shape"]
    assert list(without.tables(frame)) == ["thumbnail", "border"]


def test_the_table_holds_the_rows_that_the_control_sees(frame):
    fitted = FittedControls.on(PreparedImages(CLASSES, ImageConfig(32)), frame)
    half = frame.assign(mask=frame["mask"].where(np.arange(len(frame)) % 2 == 0, ""))

    tables = FittedControls(PreparedImages(CLASSES, ImageConfig(32)), fitted.predictors).tables(half)

    assert tables["thumbnail"]["path"].tolist() == frame["image"].tolist()
    assert tables["mask_shape"]["path"].tolist() == frame["image"].tolist()[::2]
