"""The interval of the ECE: how often it covers, and the cases that have an answer of their own."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from scipy.stats import t as student

from cxr_isnet.evaluation.calibration import calibration
from cxr_isnet.evaluation.calibration_error import LOWER, UPPER, ece_interval


def hospital(generator, patients: int, shift: float, slope: float = 1.0):
    """Labels, probabilities and patients of 1 to 4 images each, whose log odds are `shift` too high and `slope` times
    too extreme."""
    patient = np.repeat(np.arange(patients), generator.integers(1, 5, size=patients))
    log_odds = generator.normal(size=patients)[patient] * 1.5
    ill = (generator.random(patients) < expit(log_odds[np.unique(patient, return_index=True)[1]]))[patient]
    return ill, expit(slope * log_odds + shift), patient


def smallest(ill, patient) -> int:
    return min(len(np.unique(patient[rows])) for rows in (ill, ~ill))


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 1.0), (0.4, 1.0), (0.0, 2.0)])
def test_covers_the_ece_of_the_population(shift, slope):
    generator = np.random.default_rng(3)
    ill, probability, _ = hospital(generator, 100_000, shift, slope)
    truth = calibration(ill, probability).ece
    held, repeats = 0, 200
    for _ in range(repeats):
        ill, probability, patient = hospital(generator, 100, shift, slope)
        found = ece_interval(ill, probability, patient, smallest(ill, patient))
        held += found.low <= truth <= found.high

    assert held / repeats >= 0.91  # 95% less two and a half standard errors of 200 repeats


def test_of_one_bin_it_is_the_interval_of_the_mean():
    ill = np.arange(80) < 20
    found = ece_interval(ill, np.full(80, 0.55), np.arange(80), 20)

    error = np.sqrt(0.25 * 0.75 / 79) * student.ppf(0.975, 19) / norm.ppf(0.975)
    assert found.estimate == pytest.approx(0.55 - 0.25)
    assert found.low == pytest.approx(0.3 + norm.ppf(LOWER) * error, abs=0.01)  # of 2,000 draws
    assert found.high == pytest.approx(0.3 - norm.ppf(UPPER) * error, abs=0.01)
    assert pytest.approx(0.05) == LOWER + UPPER


def test_a_second_copy_of_every_image_adds_nothing():
    ill, probability, patient = hospital(np.random.default_rng(0), 80, 0.3)
    once = ece_interval(ill, probability, patient, 30)
    twice = ece_interval(*(np.tile(values, 2) for values in (ill, probability, patient)), 30)

    assert (twice.estimate, twice.low, twice.high) == pytest.approx((once.estimate, once.low, once.high), abs=1e-4)


def test_of_right_probabilities_it_reaches_0_and_may_lie_below_the_estimate():
    ill, probability, patient = hospital(np.random.default_rng(1), 60, 0.0)
    found = ece_interval(ill, probability, patient, 25)

    assert found.estimate == pytest.approx(calibration(ill, probability).ece)
    assert found.low == 0
    assert found.high < found.estimate + 0.1
    assert found.standard_error > 0


@pytest.mark.parametrize(
    ("ill", "probability"),
    [
        (np.ones(8, dtype=bool), np.linspace(0.1, 0.9, 8)),
        (np.arange(8) < 4, (np.arange(8) < 4).astype(float)),
        (np.zeros(0, dtype=bool), np.zeros(0)),
    ],
    ids=["one class", "every probability is the label", "no images"],
)
def test_no_interval(ill, probability):
    found = ece_interval(ill, probability, np.arange(len(ill)), min(int(ill.sum()), int((~ill).sum())))

    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_an_ece_below_what_chance_gives_does_not_pass_for_certainty():
    ill = np.arange(40) % 2 == 0
    found = ece_interval(ill, np.full(40, 0.5), np.arange(40), 20)

    assert (found.estimate, found.low) == (0, 0)
    assert 0.5 / np.sqrt(39) < found.high < 2 * 0.5 / np.sqrt(39)  # one to two standard errors
