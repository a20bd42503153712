"""Numbers over sites: by hand, against a published meta-analysis, and the hospital-knower that pooling rewards."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import t as student

from cxr_isnet.evaluation.across_sites import across, results_across_sites
from cxr_isnet.evaluation.interval import Interval, IntervalMethod, score_interval, student_interval
from cxr_isnet.evaluation.metrics import Scale
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.ranking import WithinSiteAUC
from cxr_isnet.evaluation.report import study_text
from cxr_isnet.evaluation.site import evaluate_sites
from cxr_isnet.evaluation.study import evaluate_tables

from .conftest import TWO

# Thirteen trials of the BCG vaccine against tuberculosis (Colditz et al., JAMA 271:698, 1994): cases and persons,
# vaccinated and not.
BCG = np.array(
    [
        (4, 123, 11, 139), (6, 306, 29, 303), (3, 231, 11, 220), (62, 13598, 248, 12867), (33, 5069, 47, 5808),
        (180, 1541, 372, 1451), (8, 2545, 10, 629), (505, 88391, 499, 88391), (29, 7499, 45, 7277),
        (17, 1716, 65, 1665), (186, 50634, 141, 27338), (5, 2498, 3, 2341), (27, 16913, 29, 17854),
    ],
    dtype=float,
)  # fmt: skip


def trials():
    """Log risk ratios and their variances."""
    cases, persons, cases_control, persons_control = BCG.T
    effect = np.log((cases / persons) / (cases_control / persons_control))
    variance = 1 / cases - 1 / persons + 1 / cases_control - 1 / persons_control
    return effect, variance


def real(value, error, patients=1000):
    return student_interval(value, error, patients)


def test_the_random_effects_are_those_written_out():
    effect, variance = trials()

    found = across(
        {str(n): real(y, np.sqrt(v)) for n, (y, v) in enumerate(zip(effect, variance, strict=True))}, Scale.REAL
    )

    def q(tau2):
        weights = 1 / (variance + tau2)
        return float((weights * (effect - (weights * effect).sum() / weights.sum()) ** 2).sum())

    tau2 = brentq(lambda tau2: q(tau2) - 12, 0, 10)
    weights = 1 / (variance + tau2)
    mean = (weights * effect).sum() / weights.sum()
    error = np.sqrt((weights * (effect - mean) ** 2).sum() / 12 / weights.sum())
    assert found.tau == pytest.approx(np.sqrt(tau2))
    assert found.hospitals.estimate == pytest.approx(mean)
    assert found.hospitals.low == pytest.approx(mean - student.ppf(0.975, 12) * max(error, 1 / np.sqrt(weights.sum())))
    reach = student.ppf(0.975, 11) * np.sqrt(tau2 + max(error, 1 / np.sqrt(weights.sum())) ** 2)
    assert (found.next_hospital.low, found.next_hospital.high) == pytest.approx((mean - reach, mean + reach))
    assert found.i2 == pytest.approx((q(0) - 12) / q(0))
    assert found.i2 == pytest.approx(0.92, abs=0.01)  # 92% in the literature on these trials
    assert found.hospitals.estimate == pytest.approx(-0.715, abs=0.005)


def test_sites_that_are_alike_have_no_variance_between_them_and_the_interval_of_a_fixed_effect_at_least():
    found = across({name: real(0.1, 0.05) for name in "abcde"}, Scale.REAL)

    assert (found.tau, found.i2) == (0, 0)
    assert found.heterogeneity_p == pytest.approx(1)
    assert found.hospitals.high - 0.1 == pytest.approx(student.ppf(0.975, 4) * 0.05 / np.sqrt(5))


def test_every_site_counts_alike_in_the_mean():
    sites = {"large": score_interval(0.9, 0.01, 5000), "small": score_interval(0.7, 0.08, 40)}

    found = across(sites, Scale.SHARE)

    assert found.mean.estimate == pytest.approx(0.8)
    assert found.mean.standard_error == pytest.approx(np.hypot(0.01, 0.08) / 2)
    assert found.hospitals.estimate > expit((logit(0.9) + logit(0.7)) / 2)  # random effects weigh the larger more


def test_two_sites_say_nothing_of_the_next_hospital_and_one_nothing_of_hospitals():
    two = across({name: score_interval(0.8, 0.05, 60) for name in "ab"}, Scale.SHARE)
    one = across({"a": score_interval(0.8, 0.05, 60)}, Scale.SHARE)

    assert np.isnan(two.next_hospital.low)
    assert np.isfinite(two.hospitals.low)
    assert two.hospitals.approximate
    assert np.isnan([one.hospitals.low, one.tau]).all()
    assert one.mean == score_interval(0.8, 0.05, 60)


def test_a_site_where_all_are_right_takes_part():
    found = across({"a": score_interval(1.0, 0.0, 20), "b": score_interval(0.9, 0.05, 40)}, Scale.SHARE)

    assert found.mean.estimate == pytest.approx(0.95)
    assert 0.8 < found.hospitals.estimate < 1
    assert found.mean.low < 0.95 < found.mean.high <= 1


def test_a_site_without_the_number_takes_no_part_and_one_without_an_interval_widens_the_mean():
    unknown = Interval(np.nan, np.nan, np.nan, IntervalMethod.SCORE)
    single = Interval(0.6, np.nan, np.nan, IntervalMethod.SCORE, patients=1)
    known = score_interval(0.8, 0.05, 60)

    found = across({"a": known, "b": known, "none": unknown, "one patient": single}, Scale.SHARE)

    assert found.sites == ("a", "b", "one patient")
    assert found.mean.estimate == pytest.approx(2.2 / 3)
    assert found.mean.high - found.mean.low > 0.4


def test_the_next_hospital_lies_in_the_prediction_interval_as_often_as_it_says():
    generator = np.random.default_rng(0)
    inside = covered = 0
    for _ in range(600):
        true = generator.normal(1.2, 0.4, size=8)
        found = across(
            {
                str(n): score_interval(*_drawn(generator, share), 150)
                for n, share in enumerate(expit(true[:7]))
            },
            Scale.SHARE,
        )  # fmt: skip
        inside += found.next_hospital.low <= expit(true[7]) <= found.next_hospital.high
        covered += found.hospitals.low <= expit(1.2) <= found.hospitals.high

    assert 0.92 <= inside / 600 <= 0.98
    assert 0.92 <= covered / 600 <= 0.98


def _drawn(generator, share):
    hits = generator.binomial(150, share) / 150
    return hits, np.sqrt(hits * (1 - hits) / 150)


def test_it_is_the_mean_within_sites_of_the_gate_and_the_audit(make_predictions):
    table = make_predictions(200, classes=TWO, sites=("north", "south", "east"))

    found = results_across_sites(evaluate_sites(table, TWO, resamples=20))["auc"]

    codes = table["site"].astype("category").cat.codes.to_numpy().astype(np.int64)
    metric = WithinSiteAUC(label_indices(table, TWO), probabilities(table, TWO), codes)
    assert found.mean.estimate == pytest.approx(metric(np.ones((1, 200)))[0])


@pytest.fixture(scope="module")
def hospitals(make_hospital):
    """A hospital of which 90% are ill and one of 10%; a model that knows the disease, and one that only knows them."""
    ill_share = {"A": 0.9, "B": 0.1}
    parts = {site: make_hospital(150, share, seed, site) for seed, (site, share) in enumerate(ill_share.items())}
    disease = pd.concat(parts.values(), ignore_index=True)
    generator = np.random.default_rng(3)
    ill = (disease["label"] == "tuberculosis").to_numpy()
    shown = expit(1.6 * (ill - 0.5) + generator.normal(size=len(ill)))
    knows = np.clip(np.where(disease["site"] == "A", 0.8, 0.2) + 0.05 * generator.normal(size=len(ill)), 0, 1)
    return {
        name: disease.assign(probability_normal=1 - p, probability_tuberculosis=p)
        for name, p in {"disease": shown, "hospital": knows}.items()
    }


def test_a_model_that_only_knows_the_hospital_is_not_reported_ahead(hospitals):
    study = evaluate_tables(hospitals, TWO, {}, Settings(resamples=200, groups=[]))

    (comparison,) = study.comparisons
    pooled = comparison.overall
    assert pooled.differences["auc"].estimate < 0  # pooled, the hospital wins,
    assert pooled.mcnemar.p < 0.01
    assert pooled.mcnemar.only_second > pooled.mcnemar.only_first
    within = comparison.within_sites["auc"]
    assert within.mean.low > 0  # inside the hospitals, the disease
    assert within.pooled_outside
    assert comparison.delong["tuberculosis"].difference.low > 0
    assert comparison.delong_holm["tuberculosis"] < 0.001
    assert comparison.mcnemar_holm < 0.05
    assert comparison.within_sites["balanced_accuracy"].mean.low > 0
    text = study_text(study)
    assert "disease is ahead of hospital in AUC inside the sites" in text
    assert "hospital is ahead" not in text
    assert "hospital: AUC of all sites pooled" in text
    assert "Of all sites pooled the AUC of hospital is higher" in text
    assert "accuracy rewards naming the class that is frequent" in text
    assert [line.split("  ")[0] for line in text.splitlines()[1:3]] == ["disease", "disease"]
    assert "mean within sites" in text.splitlines()[1]


def test_a_model_is_not_inferior_if_the_lower_end_is_above_the_margin(hospitals):
    study = evaluate_tables(hospitals, TWO, {}, Settings(resamples=200, groups=[], margin=0.05))

    assert any(s.startswith("disease is not inferior to hospital in AUC inside the sites") for s in study.findings)
    assert any(s.startswith("It is not shown that hospital is not inferior to disease") for s in study.findings)
