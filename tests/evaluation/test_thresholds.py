import numpy as np
import pytest
from sklearn.metrics import roc_curve

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.thresholds import ARGMAX, frozen_rule

CLASSES = ("normal", "tuberculosis")


@pytest.fixture
def validation():
    generator = np.random.default_rng(0)
    labels = (generator.random(200) < 0.3).astype(np.int64)
    score = np.clip(generator.normal(0.4 + 0.2 * labels, 0.15), 0, 1).round(2)
    return labels, np.stack([1 - score, score], axis=1)


def rule(labels, scores, sensitivity=None, classes=CLASSES):
    return frozen_rule(labels, scores, classes, sensitivity=sensitivity, source="val.csv")


def test_the_threshold_has_the_highest_youden_index(validation):
    labels, scores = validation

    found = rule(labels, scores)

    false_positives, true_positives, _ = roc_curve(labels, scores[:, 1])
    said = found.decide(scores)
    youden = said[labels == 1].mean() - said[labels == 0].mean()
    assert youden == pytest.approx((true_positives - false_positives).max())
    assert "Youden" in found.origin


def test_the_threshold_for_a_sensitivity_is_the_highest_that_reaches_it(validation):
    labels, scores = validation

    found = rule(labels, scores, sensitivity=0.9)

    assert found.decide(scores)[labels == 1].mean() >= 0.9
    above = scores[:, 1] > found.threshold
    assert above[labels == 1].mean() < 0.9


def test_without_validation_the_most_probable_class_is_said():
    assert ARGMAX.decide(np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])).tolist() == [1, 0]


def test_images_without_a_label_do_not_move_the_threshold(validation):
    labels, scores = validation
    more = np.concatenate([labels, [-1] * 10]), np.concatenate([scores, np.full((10, 2), 0.5)])

    assert rule(*more).threshold == rule(labels, scores).threshold


def test_a_validation_of_one_class_is_refused():
    with pytest.raises(InputError, match=r"val.csv: column 'label' names only one of the classes"):
        rule(np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5))


def test_three_classes_have_no_threshold_and_no_sensitivity():
    labels, scores = np.array([0, 1, 2]), np.full((3, 3), 1 / 3)

    assert rule(labels, scores, classes=("a", "b", "c")).threshold is None
    with pytest.raises(InputError, match="it needs two"):
        rule(labels, scores, 0.9, classes=("a", "b", "c"))
