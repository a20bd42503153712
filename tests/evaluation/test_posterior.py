"""The posterior of confusion-matrix rates against its closed form."""

import numpy as np
import pytest
from scipy.stats import beta

from cxr_isnet.evaluation.posterior import highest_density, posterior_draws, posterior_intervals, superiority

CLASSES = ("normal", "tuberculosis")
COUNTS = np.array([[50, 10], [4, 16]])


def test_the_sensitivity_is_beta():
    found = posterior_intervals(posterior_draws(COUNTS, CLASSES), independent=True)["sensitivity of tuberculosis"]

    exact = beta(17, 5)
    assert found.estimate == pytest.approx(exact.mean(), abs=2e-3)
    inside = exact.cdf(found.high) - exact.cdf(found.low)
    assert inside == pytest.approx(0.95, abs=0.01)
    assert not found.approximate
    assert posterior_intervals(posterior_draws(COUNTS, CLASSES), independent=False)["accuracy"].approximate
    assert exact.pdf(found.low) == pytest.approx(exact.pdf(found.high), rel=0.25)  # ends of equal density


@pytest.mark.parametrize("seed", range(3))
def test_a_likelihood_ratio_whose_mean_is_infinite_has_its_median(seed):
    one_answer = np.array([[12, 0], [12, 0]])

    found = posterior_intervals(posterior_draws(one_answer, CLASSES, seed=seed), independent=True)

    ratio = found["lr_negative of normal"]  # of two independent shares of the same Beta(1, 13): the median is 1
    assert ratio.estimate == pytest.approx(1, rel=0.05)
    assert ratio.low < ratio.estimate < ratio.high


def test_the_highest_density_interval_of_a_skewed_sample_starts_at_its_mode():
    draws = np.random.default_rng(0).exponential(size=100_000)

    low, high = highest_density(draws)

    assert low == pytest.approx(0, abs=0.01)
    assert high == pytest.approx(-np.log(0.05), abs=0.05)


@pytest.mark.oracle
def test_it_is_the_interval_of_arviz():
    arviz = pytest.importorskip("arviz_stats.base", reason="pip install --no-deps arviz-stats").array_stats
    draws = np.random.default_rng(1).beta(17, 5, size=20_000)

    np.testing.assert_allclose(highest_density(draws), arviz.hdi(draws, prob=0.95), atol=2e-3)


def test_a_class_without_images_has_no_rate():
    drawn = posterior_draws(np.array([[5, 1], [0, 0]]), CLASSES, draws=100)

    assert np.isnan(drawn["sensitivity of tuberculosis"]).all()
    assert np.isnan(drawn["f1 of tuberculosis"]).all()
    assert np.isfinite(drawn["accuracy"]).all()


def test_no_label_at_all_gives_nothing():
    drawn = posterior_draws(np.zeros((2, 2), dtype=np.int64), CLASSES, draws=100)
    found = posterior_intervals(drawn, independent=True)

    assert all(np.isnan([rate.estimate, rate.low, rate.high]).all() for rate in found.values())


def test_superiority_is_the_chance_of_the_first_being_higher():
    better = posterior_draws(np.array([[90, 10], [10, 90]]), CLASSES, seed=0)["accuracy"]
    worse = posterior_draws(np.array([[60, 40], [40, 60]]), CLASSES, seed=1)["accuracy"]

    assert superiority(better, worse) > 0.999
    assert superiority(better, better) == 0.5


def test_intervals_cover_the_truth_as_often_as_they_say_when_patients_have_one_image():
    generator = np.random.default_rng(2)
    truth, runs, covered = 0.85, 600, 0
    for run in range(runs):
        hits = generator.binomial(80, truth)
        drawn = posterior_draws(np.array([[100, 20], [80 - hits, hits]]), CLASSES, draws=1000, seed=run)
        low, high = highest_density(drawn["sensitivity of tuberculosis"])
        covered += low <= truth <= high

    assert 0.93 <= covered / runs <= 0.97
