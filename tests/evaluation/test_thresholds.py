import numpy as np
import pytest
from sklearn.metrics import roc_curve

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.thresholds import ARGMAX, cross_fitted_decisions, frozen_rule

from .conftest import TWO

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


def test_scores_that_tell_nothing_get_no_threshold():
    labels = np.array([0, 0, 1, 1, 0, 1])
    constant, against = np.full((6, 2), 0.5), np.stack([labels, 1 - labels], axis=1) * 1.0

    for scores in (constant, against):
        rule = frozen_rule(labels, scores, TWO, sensitivity=None, source="validation")
        assert rule.tells_nothing
        assert rule.threshold is None
        assert "tells nothing on validation" in rule.origin


def test_every_patient_is_decided_upon_by_the_rule_of_others():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 2)
    labels = (np.arange(30) % 3 == 0)[patients].astype(int)
    chance = 1 / (1 + np.exp(-(generator.normal(size=60) + labels)))
    scores = np.stack([1 - chance, chance], axis=1)

    found = cross_fitted_decisions(labels, scores, TWO, patients, sensitivity=None)

    part = np.empty(30, dtype=int)
    part[np.argsort(np.arange(30) % 3 == 0, kind="stable")] = np.arange(30) % 10
    for number in range(10):
        here = part[patients] == number
        rule = frozen_rule(labels[~here], scores[~here], TWO, sensitivity=None, source="")
        assert found[here].tolist() == rule.decide(scores[here]).tolist()
    assert cross_fitted_decisions(labels[:2], scores[:2], TWO, patients[:2], sensitivity=None) is None
