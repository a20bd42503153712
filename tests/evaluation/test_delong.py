"""DeLong's variance: the worked example of its paper, written-out pairs, clusters, and how often intervals cover."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from cxr_isnet.evaluation.delong import correlated_aucs

# Albumin, total protein, K-G score (lower is better), outcome of patients with ovarian cancer: the example of DeLong,
# DeLong, Clarke-Pearson (1988), as printed in SAS/STAT's documentation of PROC LOGISTIC, "Comparing Receiver Operating
# Characteristic Curves".
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.fixture
def ovarian():
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    return table[:, 3] == 1, [table[:, 0], table[:, 1], 10 - table[:, 2]]


def written_out(positive, scores):
    """AUCs and DeLong's covariance from every pair of images, as in the paper's equations."""
    kernels = [(s[positive][:, None] > s[~positive]) + 0.5 * (s[positive][:, None] == s[~positive]) for s in scores]
    v10, v01 = (np.stack([k.mean(axis=axis) for k in kernels]) for axis in (1, 0))
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    return np.array([k.mean() for k in kernels]), covariance


def test_the_worked_example_of_the_paper(ovarian):
    positive, scores = ovarian

    found = correlated_aucs(positive, ~positive, scores, np.arange(len(positive)))

    areas, covariance = written_out(positive, scores)
    np.testing.assert_allclose(found.areas, areas)
    np.testing.assert_allclose(found.covariance, covariance)
    assert found.areas == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    difference = found.difference(0, 2)
    error = np.sqrt(covariance[0, 0] + covariance[2, 2] - 2 * covariance[0, 2])
    assert difference.difference.standard_error == pytest.approx(error)
    degrees = min(positive.sum(), (~positive).sum()) - 1
    assert difference.p == pytest.approx(2 * student.sf(abs(areas[0] - areas[2]) / error, degrees))
    area = found.area(0)
    reach = student.ppf(0.975, degrees) * np.sqrt(covariance[0, 0]) / (areas[0] * (1 - areas[0]))
    assert (area.low, area.high) == pytest.approx((expit(logit(areas[0]) - reach), expit(logit(areas[0]) + reach)))


@pytest.mark.oracle
def test_it_is_that_of_mlstatkit(ovarian):
    library = pytest.importorskip("MLstatkit", reason="pip install --no-deps MLstatkit")
    positive, scores = ovarian

    found = correlated_aucs(positive, ~positive, scores, np.arange(len(positive))).difference(0, 2)

    z = library.Delong_test(positive.astype(int), scores[0], scores[2], verbose=0)[0]
    assert abs(found.difference.estimate / found.difference.standard_error) == pytest.approx(abs(z), rel=1e-6)


def test_images_given_twice_under_their_patient_change_nothing():
    generator = np.random.default_rng(0)
    positive = generator.random(40) < 0.5
    score = generator.normal(size=40) + positive
    once = correlated_aucs(positive, ~positive, [score], np.arange(40)).area(0)

    twice = correlated_aucs(
        np.repeat(positive, 2), np.repeat(~positive, 2), [np.repeat(score, 2)], np.repeat(np.arange(40), 2)
    ).area(0)

    assert twice.estimate == pytest.approx(once.estimate)
    assert twice.standard_error == pytest.approx(once.standard_error)


def test_without_one_class_there_is_no_area_and_with_one_patient_of_it_no_interval():
    score = np.array([0.1, 0.4, 0.3, 0.8])
    positive = np.array([False, False, False, True])

    alone = correlated_aucs(positive, ~positive, [score], np.arange(4)).area(0)
    none = correlated_aucs(~positive | positive, positive & ~positive, [score], np.arange(4)).area(0)

    assert alone.estimate == 1
    assert np.isnan([alone.low, alone.high, none.estimate, none.low]).all()


def test_classes_wholly_apart_have_an_area_of_one_and_the_interval_of_a_share_of_one():
    positive = np.arange(20) >= 10

    found = correlated_aucs(positive, ~positive, [np.arange(20.0)], np.arange(20)).area(0)

    assert (found.estimate, found.high) == (1, 1)
    assert found.low == pytest.approx(10 / (10 + student.ppf(0.975, 9) ** 2))  # Wilson's of 10 of 10


def test_intervals_cover_the_truth_as_often_as_they_say_when_patients_have_several_images():
    generator = np.random.default_rng(1)
    runs, patients = 800, np.repeat(np.arange(200), 1 + np.arange(200) % 3)
    truth = float(norm.cdf(1.2 / np.sqrt(2 * (0.5 + 1.0))))  # patient's share of the variance 0.5, image's 1
    covered = 0
    for _ in range(runs):
        positive = (generator.random(200) < 0.4)[patients]
        score = generator.normal(size=200, scale=np.sqrt(0.5))[patients] + generator.normal(size=len(patients))
        found = correlated_aucs(positive, ~positive, [score + 1.2 * positive], patients).area(0)
        covered += found.low <= truth <= found.high

    assert 0.93 <= covered / runs <= 0.97
