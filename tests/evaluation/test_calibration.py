"""Calibration against scikit-learn, by hand, and on probabilities whose truth is known."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from cxr_isnet.evaluation.calibration import (
    BINS,
    calibration,
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

    observed, predicted = calibration_curve(positive, probability, n_bins=BINS)
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

    found = decision_curve(positive, probability, [0.25, 0.5])

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
