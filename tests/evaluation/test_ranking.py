"""Ranking metrics against scikit-learn: as they are, and on resamples written out image by image."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cxr_isnet.evaluation.bootstrap import PatientBootstrap
from cxr_isnet.evaluation.ranking import (
    AtSpecificity,
    HandTillAUC,
    OneVsRest,
    RankAUC,
    RankingMetrics,
    ScoreOrder,
    hand_till_auc,
    roc_band,
)


def draw(n_images=200, n_classes=3, decimals=1, seed=0):
    """Labels and probabilities with many ties, and 20 resamples of them as weights."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.dirichlet(np.ones(n_classes), n_images), decimals) + 1e-9
    scores /= scores.sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(n_classes, p=row) for row in scores])
    weights = generator.multinomial(n_images, np.full(n_images, 1 / n_images), size=20).astype(float)
    return labels, scores, weights


def written_out(weights, labels, scores):
    chosen = np.repeat(np.arange(len(labels)), weights.astype(int))
    return labels[chosen], scores[chosen]


def one_vs_rest(positive, scores, weights):
    order = ScoreOrder(positive, ~positive, scores)
    return OneVsRest(order)(order(weights))


def sklearn_auc(labels, scores):
    if scores.shape[1] == 2:
        return oracle.roc_auc_score(labels, scores[:, 1])
    return oracle.roc_auc_score(labels, scores, multi_class="ovo", average="macro")


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_rank_auc_counts_pairs_with_ties_half(images):
    positive = np.array([image[0] for image in images])
    score = np.array([image[1] for image in images])
    weights = np.array([float(image[2]) for image in images])
    pairs = [
        (weights[i] * weights[j], (score[i] > score[j]) + 0.5 * (score[i] == score[j]))
        for i, j in product(np.flatnonzero(positive), np.flatnonzero(~positive))
    ]
    total = sum(weight for weight, _ in pairs)

    found = RankAUC(positive, ~positive, score)(weights[None])[0]

    expected = sum(weight * right for weight, right in pairs) / total if total else np.nan
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_hand_till_auc_is_that_of_scikit_learn(n_classes):
    labels, scores, _ = draw(n_classes=n_classes)

    assert hand_till_auc(labels, scores) == pytest.approx(sklearn_auc(labels, scores), abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_hand_till_auc_of_a_resample_is_that_of_its_images(n_classes):
    labels, scores, weights = draw(n_classes=n_classes)

    found = HandTillAUC(labels, scores)(weights)

    expected = [sklearn_auc(*written_out(row, labels, scores)) for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_class_that_is_absent_takes_no_part():
    labels, scores, _ = draw()
    kept = labels != 2

    found = hand_till_auc(labels[kept], scores[kept])

    ones = [oracle.roc_auc_score(labels[kept] == index, scores[kept][:, index]) for index in (0, 1)]
    assert found == pytest.approx(np.mean(ones))


def test_one_class_alone_has_no_auc():
    assert np.isnan(hand_till_auc([1, 1], np.array([[0.4, 0.6], [0.3, 0.7]])))


def test_a_resample_without_a_class_has_no_auc():
    labels, scores = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    weights = np.array([[1.0, 2.0, 0.0]])

    assert np.isnan(HandTillAUC(labels, scores)(weights)[0])


@pytest.mark.parametrize("decimals", [1, 8])
def test_average_precision_is_that_of_scikit_learn_on_every_resample(decimals):
    labels, scores, weights = draw(decimals=decimals)
    weights[0] = 1

    found = one_vs_rest(labels == 1, scores[:, 1], weights)

    for (auc, average), row in zip(found, weights, strict=True):
        chosen_labels, chosen = written_out(row, labels, scores)
        assert average == pytest.approx(oracle.average_precision_score(chosen_labels == 1, chosen[:, 1]))
        assert auc == pytest.approx(oracle.roc_auc_score(chosen_labels == 1, chosen[:, 1]))


@pytest.mark.parametrize("present", [True, False])
def test_a_class_alone_has_neither_an_auc_nor_an_average_precision(present):
    everyone = np.full(3, present)

    ((auc, average),) = one_vs_rest(everyone, np.array([0.1, 0.2, 0.3]), np.ones((1, 3)))

    assert np.isnan([auc, average]).all()


def test_images_without_a_label_do_not_count():
    labels, scores, _ = draw()
    partly = np.where(np.arange(len(labels)) % 3 == 0, -1, labels)

    assert hand_till_auc(partly, scores) == pytest.approx(hand_till_auc(labels[partly >= 0], scores[partly >= 0]))


def test_without_any_label_there_is_no_number():
    assert np.isnan(hand_till_auc([-1, -1], np.array([[0.4, 0.6], [0.3, 0.7]])))


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_the_family_holds_the_auc_over_classes_and_both_metrics_of_each_class(classes):
    labels, scores, weights = draw(n_classes=len(classes))
    family = RankingMetrics(labels, scores, classes)

    found = dict(zip(family.names, family(weights).T, strict=True))

    np.testing.assert_allclose(found["auc"], HandTillAUC(labels, scores)(weights))
    for index, name in enumerate(classes):
        auc, average = one_vs_rest(labels == index, scores[:, index], weights).T
        np.testing.assert_allclose(found[f"auc of {name}"], auc)
        np.testing.assert_allclose(found[f"average_precision of {name}"], average)


def test_sensitivity_at_a_specificity_and_the_partial_auc_are_those_of_the_written_out_curve():
    generator = np.random.default_rng(4)
    positive = generator.random(90) < 0.4
    score = np.round(generator.normal(size=90) + positive, 1)  # with ties
    rows = np.stack([np.ones(90), generator.integers(0, 3, 90)]).astype(float)

    order = ScoreOrder(positive, ~positive, score)
    found = AtSpecificity(order, [0.8, 0.9])(order(rows))

    for (at_80, at_90, partial), row in zip(found, rows, strict=True):
        ones, others = (
            np.repeat(score[positive], row[positive].astype(int)),
            np.repeat(score[~positive], row[~positive].astype(int)),
        )

        def sensitivity(specificity, ones=ones, others=others):
            enough = [t for t in np.sort(others) if (others <= t).mean() >= specificity - 1e-9]
            return (ones > enough[0]).mean()

        assert at_80 == pytest.approx(sensitivity(0.8))
        assert at_90 == pytest.approx(sensitivity(0.9))
        grid = np.linspace(0.9, 1, 4001)[:-1]
        assert partial == pytest.approx(np.mean([sensitivity(s) for s in grid + 1e-6]), abs=0.02)


def test_the_roc_band_holds_the_curve(make_hospital):
    table = make_hospital(120, 0.4, seed=2)
    ill, score = (table["label"] == "tuberculosis").to_numpy(), table["probability_tuberculosis"].to_numpy()

    band = roc_band(ill, ~ill, score, PatientBootstrap.of(table, resamples=200))

    assert all(low <= at <= high for low, at, high in zip(band.low, band.sensitivity, band.high, strict=True))
    assert band.sensitivity == tuple(sorted(band.sensitivity, reverse=True))
    assert (np.array(band.high) - band.low)[10] > 0.05
    assert not band.approximate


def test_a_roc_band_of_few_patients_of_a_kind_is_approximate(make_hospital):
    """It covers 0.99 of 60 patients with 9 ill: benchmarks/interval_coverage.py."""
    table = make_hospital(60, 0.15, seed=2)
    ill, score = (table["label"] == "tuberculosis").to_numpy(), table["probability_tuberculosis"].to_numpy()

    assert roc_band(ill, ~ill, score, PatientBootstrap.of(table, resamples=20)).approximate
