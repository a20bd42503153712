"""Intervals from a standard error: against scipy, by hand, and how often they cover."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from cxr_isnet.evaluation.interval import (
    difference_of_intervals,
    log_interval,
    logit_interval,
    score_interval,
    standard_error,
    student_interval,
)

MANY = 10**7


def binomial(hits, of):
    share = hits / of
    return share, np.sqrt(share * (1 - share) / of)


def test_of_independent_images_of_many_patients_it_is_wilsons_interval_of_scipy():
    expected = binomtest(33, 40).proportion_ci(method="wilson")

    found = score_interval(*binomial(33, 40), MANY)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-5)


@pytest.mark.parametrize(("share", "hits"), [(1.0, 12), (0.0, 0)])
def test_at_0_and_100_percent_it_is_wilsons_with_as_many_trials_as_patients(share, hits):
    found = score_interval(share, 0.0, 12)

    confidence = 2 * norm.cdf(student.ppf(0.975, 11)) - 1
    expected = binomtest(hits, 12).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_several_images_of_a_patient_widen_it_by_the_design_effect():
    once, correlated = score_interval(*binomial(33, 40), 40), score_interval(33 / 40, 2 * binomial(33, 40)[1], 40)

    assert correlated.high - correlated.low > 1.6 * (once.high - once.low)


def test_without_variation_or_patients_there_is_none():
    assert np.isnan(score_interval(0.5, 0.0, 50).low)
    assert np.isnan(score_interval(0.5, 0.1, 1).low)
    assert np.isnan(student_interval(0.1, np.nan, 30).low)
    assert np.isnan(log_interval(0.0, 0.1, 30).low)


def test_a_ratio_is_symmetric_on_the_logarithm_and_an_auc_on_the_logit():
    ratio, auc = log_interval(2.0, 0.3, 30), logit_interval(0.9, 0.03, 30)

    assert ratio.low * ratio.high == pytest.approx(4)
    assert ratio.high == pytest.approx(2 * np.exp(0.3 * student.ppf(0.975, 29)))
    odds = [share / (1 - share) for share in (auc.low, auc.estimate, auc.high)]
    assert odds[0] * odds[2] == pytest.approx(odds[1] ** 2)


def test_a_difference_is_that_of_newcombes_example():
    """56/70 minus 48/80: 0.0524 to 0.3339 by method 10 (Newcombe, Statistics in Medicine 17:873, 1998, table II)."""
    found = difference_of_intervals(score_interval(*binomial(56, 70), MANY), score_interval(*binomial(48, 80), MANY))

    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_standard_error_makes_up_for_what_resamples_lack():
    generator = np.random.default_rng(0)
    values = generator.normal(size=10)
    means = values[generator.integers(10, size=(20_000, 10))].mean(axis=1)

    assert standard_error(means, 10) == pytest.approx(values.std(ddof=1) / np.sqrt(10), rel=0.02)
    assert np.isnan(standard_error(means, 1))


@pytest.mark.parametrize("patients", [9, 30])
def test_shares_of_few_patients_with_several_images_are_covered_at_least_as_often_as_said(patients):
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(800):
        own = generator.beta(8, 2, size=patients)
        right = generator.binomial(3, own)
        share = right.sum() / (3 * patients)
        error = np.std(right / 3, ddof=1) / np.sqrt(patients)
        found = score_interval(share, error, patients)
        covered += found.low <= 0.8 <= found.high

    assert 0.935 <= covered / 800 <= 0.99
