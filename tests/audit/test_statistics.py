"""p-values and intervals: against scipy's t-test, and false alarms by simulation."""

import numpy as np
import pytest
from scipy import stats

from cxr_isnet.audit.statistics import MacroMean, Statistic, bonferroni, one_sided_test
from cxr_isnet.evaluation import PatientBootstrap
from cxr_isnet.evaluation.metrics import WeightedMean


def patients(count: int, resamples: int = 400) -> PatientBootstrap:
    return PatientBootstrap(np.arange(count), resamples)


def test_the_p_value_of_a_mean_is_close_to_that_of_a_t_test() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 60)

    statistic = one_sided_test("mean", WeightedMean(values), patients(60, 4000), 60, threshold=0.0)

    expected = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert statistic.p_value == pytest.approx(expected, rel=0.3)


def test_a_true_null_is_rejected_as_often_as_it_should_be() -> None:
    """Forty patients with three images each, alike within a patient: 5% of 200 nulls, within three standard errors."""
    generator = np.random.default_rng(0)
    numbers = np.repeat(np.arange(40), 3)
    rejected = 0
    for trial in range(200):
        values = generator.normal(size=40)[numbers] + 0.3 * generator.normal(size=120)
        bootstrap = PatientBootstrap(numbers, 200, seed=trial)
        p_value = one_sided_test("mean", WeightedMean(values), bootstrap, 120, threshold=0.0).p_value
        assert p_value is not None
        rejected += p_value < 0.05
    assert 10 - 3 * 3.1 <= rejected <= 10 + 3 * 3.1


def test_without_any_spread_the_threshold_alone_decides() -> None:
    above, at = (one_sided_test("", WeightedMean(np.full(20, v)), patients(20), 20, threshold=0.5) for v in (0.7, 0.5))

    assert (above.p_value, at.p_value) == (0.0, 1.0)


def test_a_least_error_keeps_few_images_from_being_sure() -> None:
    statistic = one_sided_test("", WeightedMean(np.ones(4)), patients(4), 4, threshold=0.5, min_error=0.32)

    assert statistic.p_value == pytest.approx(stats.t.sf(0.5 / 0.32, 3))


def test_an_undefined_number_has_no_p_value_and_does_not_count() -> None:
    undefined = one_sided_test("", WeightedMean(np.full(20, np.nan)), patients(20), 0, threshold=0.0)
    known = Statistic("", 1.0, 0.9, 1.1, 20, 0.0, 0.01)

    assert undefined.p_value is None
    assert bonferroni([undefined]) is None
    assert bonferroni([undefined, known, known]) == pytest.approx(0.02)


def test_the_mean_of_groups_does_not_ask_how_large_they_are() -> None:
    metric = MacroMean(np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 2]))

    found = metric(np.array([[1.0, 1, 1, 1], [2, 0, 0, 1], [1, 1, 1, 0]]))

    np.testing.assert_array_equal(found, [0.5, 0.5, np.nan])
