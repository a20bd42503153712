"""Rates of the confusion matrix against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from cxr_isnet.evaluation.confusion import (
    ConfusionMatrices,
    classes_present,
    confusion_matrix,
    metric_of_class,
    npv_at_prevalence,
    ppv_at_prevalence,
)
from cxr_isnet.evaluation.metrics import ConfusionRates, confusion_rates

CLASSES = ("normal", "tuberculosis", "covid")


@pytest.fixture
def said():
    """Labels and what was said of 150 images, and ten resamples as weights."""
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=150)
    predicted = np.where(generator.random(150) < 0.6, labels, generator.integers(3, size=150))
    weights = generator.multinomial(150, np.full(150, 1 / 150), size=10).astype(float)
    return labels, predicted, weights


def test_every_rate_is_that_of_scikit_learn_on_every_resample(said):
    labels, predicted, weights = said
    rates = ConfusionRates(labels, predicted, CLASSES)

    found = rates(weights)

    for values, row in zip(found, weights, strict=True):
        chosen = np.repeat(np.arange(150), row.astype(int))
        y, z = labels[chosen], predicted[chosen]
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(y, z, labels=range(3))
        expected = {
            "accuracy": oracle.accuracy_score(y, z),
            "balanced_accuracy": oracle.balanced_accuracy_score(y, z),
            "macro_f1": oracle.f1_score(y, z, average="macro"),
        }
        for index, name in enumerate(CLASSES):
            sensitivity = recall[index]
            specificity = oracle.recall_score(y != index, z != index)
            expected |= {
                metric_of_class("lr_positive", name): sensitivity / (1 - specificity),
                metric_of_class("lr_negative", name): (1 - sensitivity) / specificity,
                metric_of_class("sensitivity", name): sensitivity,
                metric_of_class("ppv", name): precision[index],
                metric_of_class("f1", name): f1[index],
                metric_of_class("specificity", name): specificity,
                metric_of_class("npv", name): oracle.precision_score(y != index, z != index),
            }
        assert dict(zip(rates.names, values, strict=True)) == pytest.approx(expected)


def test_the_matrix_is_that_of_scikit_learn_and_leaves_out_unknown_labels(said):
    labels, predicted, _ = said
    partly = np.where(np.arange(150) % 3 == 0, -1, labels)
    known = partly >= 0

    expected = oracle.confusion_matrix(labels[known], predicted[known], labels=range(3))
    np.testing.assert_array_equal(confusion_matrix(partly, predicted, 3), expected)


def test_a_class_that_is_absent_has_no_rate_but_its_specificity_and_npv():
    cells = np.array([[[5.0, 1, 2], [0, 4, 0], [0, 0, 0]]])

    rates = confusion_rates(cells, CLASSES, present=[0, 1])

    assert np.isnan([rates["sensitivity of covid"][0], rates["f1 of covid"][0]]).all()
    assert rates["ppv of covid"][0] == 0
    assert rates["specificity of covid"][0] == pytest.approx(10 / 12)
    assert rates["npv of covid"][0] == 1
    assert rates["balanced_accuracy"][0] == pytest.approx((5 / 8 + 1) / 2)


def test_a_class_that_is_never_said_has_no_ppv():
    rates = confusion_rates(np.array([[[3.0, 0], [2, 0]]]), ("a", "b"), present=[0, 1])

    assert np.isnan(rates["ppv of b"][0])
    assert rates["f1 of b"][0] == 0


def test_predictive_values_at_another_prevalence_follow_bayes():
    sensitivity, specificity = 0.9, 0.8
    cells = np.array([[[specificity, 1 - specificity], [1 - sensitivity, sensitivity]]])
    matrices = ConfusionMatrices(cells, (0, 1), np.array([np.nan, 0.01]))

    ppv, npv = ppv_at_prevalence(matrices)[0, 1], npv_at_prevalence(matrices)[0, 1]

    assert ppv == pytest.approx(0.009 / (0.009 + 0.198))
    assert npv == pytest.approx(0.792 / (0.792 + 0.001))


def test_at_the_prevalence_of_the_table_they_are_the_plain_ones(said):
    labels, predicted, _ = said
    share = float((labels == 1).mean())
    rates = ConfusionRates(labels, predicted, CLASSES, {"tuberculosis": share})

    found = dict(zip(rates.names, rates(np.ones((1, 150)))[0], strict=True))

    assert found["ppv_at_prevalence of tuberculosis"] == pytest.approx(found["ppv of tuberculosis"])
    assert found["npv_at_prevalence of tuberculosis"] == pytest.approx(found["npv of tuberculosis"])


def rate(name, labels, predicted):
    """One metric of the confusion matrix, as a function of weights."""
    rates = ConfusionRates(labels, predicted, CLASSES)
    return lambda weights: rates(weights)[:, rates.names.index(name)]


def test_a_mean_is_over_the_classes_present(said):
    labels, predicted, _ = said
    kept = labels != 2

    (found,) = rate("macro_f1", labels[kept], predicted[kept])(np.ones((1, kept.sum())))

    assert found == pytest.approx(oracle.f1_score(labels[kept], predicted[kept], average="macro", labels=[0, 1]))


def test_a_resample_without_a_class_has_no_macro_f1():
    labels = np.array([0, 0, 1])

    assert np.isnan(rate("macro_f1", labels, labels)(np.array([[1.0, 2.0, 0.0]]))[0])


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_images_without_a_label_do_not_count(said, name):
    labels, predicted, weights = said
    partly = np.where(np.arange(150) % 3 == 0, -1, labels)
    known = partly >= 0

    found = rate(name, partly, predicted)(weights)

    np.testing.assert_allclose(found, rate(name, labels[known], predicted[known])(weights[:, known]))


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_without_any_label_there_is_no_number(name):
    assert np.isnan(rate(name, np.array([-1, -1]), np.array([0, 1]))(np.ones((1, 2)))[0])


def test_classes_present_are_ascending_and_without_the_unknown():
    assert classes_present(np.array([2, -1, 0, 2])) == [0, 2]
