import numpy as np
import pytest
from scipy import stats

from cxr_isnet.checks.association import chi_square, cramers_v, permutation_p

COUNTS = np.array([[30, 5, 2], [8, 22, 9]])


def test_chi_square_is_pearsons():
    assert chi_square(COUNTS) == pytest.approx(stats.chi2_contingency(COUNTS, correction=False).statistic)


def test_chi_square_of_a_stack():
    stack = np.stack([COUNTS, COUNTS[:, ::-1] + 1])

    np.testing.assert_allclose(chi_square(stack), [chi_square(table) for table in stack])


def test_v_of_many_patients_is_the_usual_one():
    counts = 1000 * COUNTS

    assert cramers_v(counts) == pytest.approx(stats.contingency.association(counts, method="cramer"), abs=1e-3)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([[40, 0], [0, 40]], 1.0), ([[20, 20], [20, 20]], 0.0), ([[5, 0, 0], [0, 5, 0], [0, 0, 5]], 1.0)],
)
def test_v_of_perfect_and_of_no_association(counts, expected):
    assert cramers_v(np.array(counts)) == pytest.approx(expected)


def test_v_is_unbiased_where_nothing_goes_together():
    """Forty values for eighty patients: the uncorrected V is large by chance alone."""
    drawn = stats.random_table([2] * 40, [40, 40], seed=0).rvs(size=200).reshape(200, 40, 2).astype(int)

    assert np.mean([cramers_v(table) for table in drawn]) < 0.2
    assert np.mean([stats.contingency.association(table) for table in drawn]) > 0.6


def test_v_of_one_row_is_not_defined():
    assert np.isnan(cramers_v(np.array([[3, 4]])))


def test_permutation_p_agrees_with_the_exact_test():
    counts = np.array([[12, 5], [6, 13]])

    assert permutation_p(counts, resamples=20_000, enough=20_000) == pytest.approx(
        stats.fisher_exact(counts).pvalue, abs=0.01
    )


def test_permutation_p_of_a_strong_association_is_the_smallest_possible():
    assert permutation_p(np.array([[40, 0], [0, 40]]), resamples=99) == 0.01


def test_a_permutation_test_that_stops_early_is_as_valid():
    """At most 5% of tables without an association have p up to 0.05, and 50% up to 0.5."""
    tables = stats.random_table([30, 40, 30], [60, 40], seed=1).rvs(size=400).reshape(400, 3, 2).astype(int)

    found = np.array([permutation_p(table, seed=seed) for seed, table in enumerate(tables)])

    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert (found <= 0.5).mean() == pytest.approx(0.5, abs=0.07)
