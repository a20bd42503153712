"""Calibration against scikit-learn, by hand, and on probabilities whose truth is known."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve as reliability_of_sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from cxr_isnet.evaluation.calibration import (
    BINS,
    CalibrationMetrics,
    calibration,
    calibration_curve,
    decision_curve,
    fit_temperature,
    with_temperature,
)


@pytest.fixture(scope="module")
def honest():
    """20,000 images whose labels are drawn from their probabilities."""
    generator = np.random.default_rng(0)
    probability = generator.beta(1.2, 2.0, size=20_000)
    return generator.random(20_000) < probability, probability


def test_the_reliability_curve_and_the_brier_score_are_those_of_scikit_learn(honest):
    positive, probability = honest

    found = calibration(positive, probability)

    observed, predicted = reliability_of_sklearn(positive, probability, n_bins=BINS)
    used = [b for b in found.bins if b.n]
    np.testing.assert_allclose([b.observed for b in used], observed)
    np.testing.assert_allclose([b.predicted for b in used], predicted)
    assert found.brier == pytest.approx(brier_score_loss(positive, probability))
    weights = np.array([b.n for b in used]) / len(positive)
    assert found.ece == pytest.approx(weights @ np.abs(observed - predicted))


def test_slope_and_intercept_are_those_of_logistic_regression(honest):
    positive, probability = honest
    extreme = with_temperature(np.stack([1 - probability, probability], axis=1), 0.5)[:, 1]

    found = calibration(positive, extreme)

    logits = np.log(extreme / (1 - extreme))[:, None]
    assert found.slope == pytest.approx(LogisticRegression(C=np.inf).fit(logits, positive).coef_[0, 0], rel=1e-3)
    assert found.slope == pytest.approx(0.5, abs=0.03)


def test_honest_probabilities_have_slope_one_intercept_zero_and_hardly_an_error(honest):
    found = calibration(*honest)

    assert found.slope == pytest.approx(1, abs=0.05)
    assert found.intercept == pytest.approx(0, abs=0.05)
    assert found.ece < 0.01


def test_the_terms_of_the_brier_score_add_up_and_nothing_is_left_when_bins_are_of_one_value():
    probability = np.repeat([0.05, 0.35, 0.95], 40)
    positive = np.random.default_rng(1).random(120) < probability

    found = calibration(positive, probability)

    assert found.within_bins == pytest.approx(0, abs=1e-12)
    assert found.brier == pytest.approx(found.reliability - found.resolution + found.uncertainty)


@pytest.mark.parametrize("positive", [True, False])
def test_one_class_alone_has_a_brier_score_and_no_slope(positive):
    found = calibration(np.full(5, positive), np.linspace(0.1, 0.9, 5))

    assert np.isfinite(found.brier)
    assert np.isnan([found.slope, found.intercept]).all()


def test_classes_wholly_apart_have_no_slope():
    assert np.isnan(calibration(np.array([False, False, True]), np.array([0.1, 0.2, 0.7])).slope)


def test_without_images_nothing_is_known():
    found = calibration(np.zeros(0, dtype=bool), np.zeros(0))

    assert np.isnan([found.ece, found.brier, found.slope]).all()
    assert sum(b.n for b in found.bins) == 0


def test_the_temperature_undoes_what_made_probabilities_too_extreme():
    generator = np.random.default_rng(2)
    scores = generator.dirichlet(np.ones(3), size=5000)
    labels = np.array([generator.choice(3, p=row) for row in scores])
    extreme = with_temperature(scores, 0.4)

    temperature = fit_temperature(labels, extreme)

    assert temperature == pytest.approx(2.5, rel=0.08)
    losses = [
        log_loss(labels, with_temperature(extreme, t)) for t in (temperature * 0.95, temperature, temperature * 1.05)
    ]
    assert losses[1] == min(losses)


def test_there_is_no_temperature_without_labels_or_where_all_images_are_said_right():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])

    assert np.isnan(fit_temperature(np.array([-1, -1, -1]), scores))
    assert np.isnan(fit_temperature(np.array([0, 1, -1]), scores))
    assert np.isfinite(fit_temperature(np.array([0, 1, 1]), scores))


def test_the_temperature_does_not_change_the_order_of_classes():
    scores = np.random.default_rng(3).dirichlet(np.ones(3), size=50)

    np.testing.assert_array_equal(with_temperature(scores, 3.0).argsort(axis=1), scores.argsort(axis=1))


def test_net_benefit_is_that_of_its_definition():
    positive = np.array([True, True, False, False, False])
    probability = np.array([0.9, 0.3, 0.6, 0.2, 0.1])

    found = decision_curve(positive, probability, thresholds=[0.25, 0.5])

    assert found.model == pytest.approx((2 / 5 - 1 / 5 * (0.25 / 0.75), 1 / 5 - 1 / 5))
    assert found.act_on_all == pytest.approx((0.4 - 0.6 / 3, 0.4 - 0.6))


@pytest.mark.oracle
def test_the_calibration_error_is_that_of_torchmetrics(honest):
    library = pytest.importorskip("torchmetrics", reason="pip install --no-deps torchmetrics lightning-utilities")
    positive, probability = honest

    expected = library.functional.classification.binary_calibration_error(
        torch.from_numpy(probability), torch.from_numpy(positive.astype(np.int64)), n_bins=BINS, norm="l1"
    )
    assert calibration(positive, probability).ece == pytest.approx(float(expected), abs=1e-6)


def drawn_patients(n, seed=0):
    """Labels, probabilities that are too extreme, and the patients of images."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), generator.integers(1, 4, n))
    ill = (generator.random(n) < 0.4)[patients]
    logits = 1.5 * (ill - 0.5) + generator.normal(size=len(patients))
    return ill, 1 / (1 + np.exp(-2 * logits)), patients


def test_the_family_is_the_calibration_of_each_class_and_of_resamples():
    ill, probability, patients = drawn_patients(80)
    scores = np.stack([1 - probability, probability], axis=1)
    family = CalibrationMetrics(ill.astype(int), scores, ("normal", "tuberculosis"))
    weights = np.stack([np.ones(len(ill)), *(patients != left for left in range(3)), np.ones(len(ill)) * 2])

    values = [dict(zip(family.names, row, strict=True)) for row in family(weights)]

    for row, found in zip(weights, values, strict=True):
        chosen = np.repeat(np.arange(len(ill)), row.astype(int))
        expected = calibration(ill[chosen], probability[chosen])
        assert found["brier of tuberculosis"] == pytest.approx(expected.brier)
        assert found["brier"] == pytest.approx(expected.brier)
        assert found["ece of tuberculosis"] == pytest.approx(expected.ece)
        assert found["calibration_slope of tuberculosis"] == pytest.approx(expected.slope, abs=2e-3)  # one Newton step
        assert found["calibration_intercept of tuberculosis"] == pytest.approx(expected.intercept, abs=2e-3)
        assert found["expected_observed of tuberculosis"] == pytest.approx(
            probability[chosen].sum() / ill[chosen].sum()
        )
    assert values[0]["calibration_slope of normal"] == pytest.approx(values[0]["calibration_slope of tuberculosis"])


def test_images_of_one_class_have_a_brier_score_and_no_slope():
    family = CalibrationMetrics(np.ones(20, dtype=int), np.full((20, 2), 0.5), ("a", "b"))

    found = dict(zip(family.names, family(np.ones((1, 20)))[0], strict=True))

    assert found["brier"] == 0.25
    assert np.isnan([found["calibration_slope of b"], found["calibration_intercept of b"]]).all()


def test_the_smooth_curve_is_the_identity_of_honest_probabilities_and_bent_for_others(honest):
    positive, probability = honest
    bent = probability**2

    curves = [calibration_curve(positive, p, np.arange(len(positive))) for p in (probability, bent)]

    honest_curve, bent_curve = curves
    inside = [
        low <= at <= high
        for at, low, high in zip(honest_curve.predicted, honest_curve.low, honest_curve.high, strict=True)
    ]
    assert np.mean(inside) > 0.8
    middle = np.abs(np.array(bent_curve.predicted) - 0.25).argmin()
    assert bent_curve.observed[middle] == pytest.approx(np.sqrt(bent_curve.predicted[middle]), abs=0.03)


def test_the_band_of_the_smooth_curve_is_over_patients():
    ill, probability, patients = drawn_patients(200)
    once = calibration_curve(ill, probability, patients)
    twice = calibration_curve(np.repeat(ill, 2), np.repeat(probability, 2), np.repeat(patients, 2))

    np.testing.assert_allclose(once.low, twice.low, atol=1e-3)
    assert calibration_curve(ill[:2], probability[:2], patients[:2]) is None


def test_the_net_benefit_has_the_interval_of_a_mean_over_patients():
    ill, probability, patients = drawn_patients(150)
    found = decision_curve(ill, probability, patients, thresholds=[0.3])

    gains = np.where(probability >= 0.3, np.where(ill, 1.0, -3 / 7), 0.0)
    sums, sizes = (np.bincount(patients, weights=values) for values in (gains, np.ones(len(gains))))
    generator = np.random.default_rng(0)
    chosen = generator.integers(150, size=(4000, 150))
    means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    assert found.model[0] == pytest.approx(gains.mean())
    assert found.high[0] - found.model[0] == pytest.approx(2 * means.std(), rel=0.06)


def test_a_model_that_tells_nothing_has_an_infinite_temperature_and_equal_probabilities():
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=400)
    against = np.where(labels[:, None] == [0, 1], 0.3, 0.7) + generator.normal(size=(400, 2)) * 0.01
    against /= against.sum(axis=1, keepdims=True)

    assert fit_temperature(labels, against) == np.inf
    np.testing.assert_allclose(with_temperature(against, np.inf), 0.5)
