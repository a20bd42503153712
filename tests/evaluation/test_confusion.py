"""Rates of the confusion matrix against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from cxr_isnet.evaluation.confusion import (
    ConfusionRates,
    at_prevalence,
    confusion_matrix,
    confusion_rates,
    rate_of_class,
)

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
            expected |= {
                rate_of_class("sensitivity", name): recall[index],
                rate_of_class("ppv", name): precision[index],
                rate_of_class("f1", name): f1[index],
                rate_of_class("specificity", name): oracle.recall_score(y != index, z != index),
                rate_of_class("npv", name): oracle.precision_score(y != index, z != index),
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
    ppv, npv = at_prevalence(np.array([0.9]), np.array([0.8]), 0.01)

    assert ppv[0] == pytest.approx(0.009 / (0.009 + 0.198))
    assert npv[0] == pytest.approx(0.792 / (0.792 + 0.001))


def test_at_the_prevalence_of_the_table_they_are_the_plain_ones(said):
    labels, predicted, _ = said
    share = float((labels == 1).mean())
    rates = ConfusionRates(labels, predicted, CLASSES, {"tuberculosis": share})

    found = dict(zip(rates.names, rates(np.ones((1, 150)))[0], strict=True))

    assert found["ppv_at_prevalence of tuberculosis"] == pytest.approx(found["ppv of tuberculosis"])
    assert found["npv_at_prevalence of tuberculosis"] == pytest.approx(found["npv of tuberculosis"])
