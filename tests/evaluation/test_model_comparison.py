import numpy as np
import pytest
from scipy.stats import binom, chi2

from cxr_isnet.evaluation.model_comparison import holm, mcnemar


def test_with_one_image_per_patient_it_is_the_exact_test():
    first = np.array([True] * 12 + [False] * 3 + [True] * 20)
    second = np.array([False] * 12 + [True] * 3 + [True] * 20)

    found = mcnemar(first, second, np.arange(35))

    assert (found.only_first, found.only_second) == (12, 3)
    assert found.p == pytest.approx(2 * binom.cdf(3, 15, 0.5))


def test_clusters_of_one_image_each_would_give_the_usual_statistic():
    first = np.array([True] * 30 + [False] * 12 + [True, True])
    second = np.array([False] * 30 + [True] * 12 + [True, True])
    patients = np.array([*range(42), 42, 42])  # two images that agree under one patient, so that it is clustered

    found = mcnemar(first, second, patients)

    assert found.p == pytest.approx(chi2.sf((30 - 12) ** 2 / (30 + 12), 1))


def test_images_that_agree_within_a_patient_count_as_one_piece_of_evidence():
    first, second = np.array([True, False] * 6), np.array([False, True] * 6)
    first[:8], second[:8] = True, False

    once = mcnemar(first, second, np.arange(12))
    clustered = mcnemar(np.repeat(first, 5), np.repeat(second, 5), np.repeat(np.arange(12), 5))

    assert clustered.only_first == 5 * once.only_first
    assert clustered.p == pytest.approx(once.p, abs=0.08)


def test_models_that_are_always_right_together_do_not_differ():
    right = np.array([True, False, True, True])

    assert mcnemar(right, right, np.arange(4)).p == 1
    assert mcnemar(right, right, np.array([0, 0, 1, 1])).p == 1


def test_one_patient_alone_tests_nothing():
    assert np.isnan(mcnemar(np.array([True, True]), np.array([False, True]), np.array([0, 0])).p)


def test_holm_is_the_worked_step_down():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested_and_stays_below_one():
    found = holm([0.9, np.nan, 0.8])

    assert np.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], [1, 1])
