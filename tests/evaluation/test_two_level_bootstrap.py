"""Intervals over patients and trainings, against slow loops and the normal theory of a simple mean."""

import numpy as np
import pytest

from cxr_isnet.evaluation.bootstrap import RepeatedMetric, difference


def metric(trainings: int, resamples: int = 4000, *, between: float = 0.0, within: float = 0.02, seed: int = 0):
    """Trainings whose true values differ by `between` and whose replicates scatter alike by `within`."""
    generator = np.random.default_rng(seed)
    values = 0.7 + between * generator.standard_normal(trainings)
    patients = within * generator.standard_normal(resamples)
    return RepeatedMetric(values, values[:, None] + patients[None])


def test_one_training_has_the_percentiles_of_its_patients():
    single = metric(1)

    found = single.interval()

    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(single.replicates[0], (0.025, 0.975))))
    assert found.estimate == single.estimates[0]


def test_the_estimate_is_the_mean_over_trainings():
    repeated = metric(4, between=0.05)

    assert repeated.interval().estimate == pytest.approx(repeated.estimates.mean())


def test_trainings_that_differ_widen_the_interval_as_the_theory_of_a_mean_says():
    repeated = metric(5, between=0.05, resamples=20_000)

    width = np.ptp([repeated.interval().low, repeated.interval().high])

    spread = np.sqrt(repeated.estimates.var() / 5 + 0.02**2)  # of the mean over trainings, and of the patients
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_drawing_is_a_loop_over_resamples():
    repeated = metric(3, resamples=50, between=0.1)
    chosen = np.random.default_rng([7]).integers(3, size=(3, 50))

    slow = [np.mean([repeated.replicates[s, r] for s in chosen[:, r]]) for r in range(50)]

    assert repeated.drawn([7]) == pytest.approx(slow)


def test_a_difference_takes_the_same_patients_and_independent_trainings():
    first, second = metric(3, between=0.03, seed=1), metric(3, between=0.03, seed=1)
    shifted = RepeatedMetric(second.estimates - 0.2, second.replicates - 0.2)

    found = difference(first, shifted, ((0, 1), (0, 0)))

    assert found.interval.estimate == pytest.approx(0.2)
    trainings = np.sqrt(2 * first.estimates.var() / 3)  # the patients cancel
    assert np.ptp([found.interval.low, found.interval.high]) == pytest.approx(2 * 1.96 * trainings, rel=0.15)
    assert found.p == pytest.approx(2 / 4001)


def test_equal_models_have_no_small_p_value():
    shares = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        parts = [0.1 * generator.standard_normal((4, 1)) + 0.05 * generator.standard_normal(400) for _ in range(2)]
        first, second = (RepeatedMetric(part.mean(1), part) for part in parts)
        shares.append(difference(first, second, ((seed, 1), (seed, 0))).p < 0.05)
    assert np.mean(shares) < 0.2  # four trainings understate their spread by a quarter; 0.05 in the limit


def test_undefined_metrics_stay_undefined():
    missing = RepeatedMetric(np.full(2, np.nan), np.full((2, 10), np.nan))

    assert np.isnan(missing.interval().low)
    assert np.isnan(difference(missing, metric(2, resamples=10), ((1,), (0,))).p)


def test_subtraction_is_training_by_training():
    first, second = metric(2, between=0.1), metric(2, between=0.1, seed=3)

    found = first - second

    assert found.estimates == pytest.approx(first.estimates - second.estimates)
    assert found.replicates == pytest.approx(first.replicates - second.replicates)
