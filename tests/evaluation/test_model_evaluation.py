"""One model from its tables: that every setting, rule and patient number reaches what is computed with it."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from cxr_isnet.evaluation.bootstrap import patient_numbers
from cxr_isnet.evaluation.calibration import calibration, decision_curve, fit_temperature, with_temperature
from cxr_isnet.evaluation.delong import correlated_aucs
from cxr_isnet.evaluation.groups import with_age_bands
from cxr_isnet.evaluation.interval import difference_of_intervals
from cxr_isnet.evaluation.metrics import compared_metrics, group_metrics
from cxr_isnet.evaluation.model_evaluation import Settings, evaluate_model
from cxr_isnet.evaluation.posterior import posterior_draws, posterior_intervals
from cxr_isnet.evaluation.predictions_table import check_predictions, label_indices, probabilities
from cxr_isnet.evaluation.site import evaluate_site
from cxr_isnet.evaluation.thresholds import cross_fitted_decisions, frozen_rule

from .conftest import TWO

SETTINGS = Settings(
    resamples=40, seed=7, groups=["sex", "age_band"], prevalence={"tuberculosis": 0.01}, sensitivity=0.9
)
ALIKE = {"resamples": SETTINGS.resamples, "seed": SETTINGS.seed}


@pytest.fixture(scope="module")
def given(tables):
    """A model's images on two sites, some without a label, and its validation images of another hospital."""
    table = tables["plain"].copy()
    table.loc[::9, "label"] = ""
    validation = tables["isnet"].assign(site="inside", path=[f"inside_{path}" for path in table["path"]])
    return check_predictions(table, TWO), check_predictions(validation[:120], TWO)


@pytest.fixture(scope="module")
def evaluated(given):
    table, validation = given
    return evaluate_model("plain", table, TWO, validation, SETTINGS)


def rows_of(given, site):
    table = given[0]
    return table if site == "pooled" else table[table["site"] == site]


def test_the_rule_and_the_temperature_are_those_of_validation(given, evaluated):
    labels, scores = (get(given[1], TWO) for get in (label_indices, probabilities))

    assert evaluated.rule == frozen_rule(labels, scores, TWO, sensitivity=0.9, source="")
    assert evaluated.rule.threshold != frozen_rule(labels, scores, TWO, sensitivity=None, source="").threshold
    assert evaluated.temperature == fit_temperature(labels, scores)
    decisions = cross_fitted_decisions(labels, scores, TWO, patient_numbers(given[1]), sensitivity=0.9)
    expected = evaluate_site(given[1], TWO, decisions=decisions, prevalence=SETTINGS.prevalence, **ALIKE)
    assert evaluated.internal.result.to_dict() == expected.to_dict()


@pytest.mark.parametrize("site", ["north", "south <b>", "pooled"])
def test_a_site_is_evaluated_with_the_rule_seed_resamples_and_prevalence(given, evaluated, site):
    expected = evaluate_site(rows_of(given, site), TWO, rule=evaluated.rule, prevalence=SETTINGS.prevalence, **ALIKE)

    found = evaluated.sites[site].result

    assert found.to_dict() == expected.to_dict()
    confusion = np.asarray(found.confusion)
    assert evaluated.sites[site].posterior == posterior_intervals(
        posterior_draws(confusion, TWO, seed=SETTINGS.seed), independent=False
    )


@pytest.mark.parametrize("site", ["north", "pooled"])
def test_delong_is_over_patients_and_calibration_over_labelled_images(given, evaluated, site):
    rows, there = rows_of(given, site), evaluated.sites[site]
    labels, scores = (get(rows, TWO) for get in (label_indices, probabilities))
    patients, known = patient_numbers(rows), labels >= 0

    for index, name in enumerate(TWO):
        negative, score = known & (labels != index), scores[:, index]
        assert there.delong[name] == correlated_aucs(labels == index, negative, [score], patients).area(0)
        positive, scaled = labels[known] == index, with_temperature(scores, evaluated.temperature)[known, index]
        assert there.calibration[name] == calibration(positive, score[known])
        assert there.calibration_scaled[name] == calibration(positive, scaled)
        curve = decision_curve(positive, score[known], patients[known])
        np.testing.assert_equal(asdict(there.decision_curve[name]), asdict(curve))


@pytest.mark.parametrize("column", ["sex", "age_band"])
def test_a_group_is_evaluated_with_the_rule_seed_and_resamples(given, evaluated, column):
    rows = with_age_bands(given[0])
    grouping = next(found for found in evaluated.groups if found.column == column)

    for group in grouping.groups:
        here = rows[rows[column] == group.group]
        if len(here):
            expected = evaluate_site(here, TWO, rule=evaluated.rule, **ALIKE)
            assert group.metrics == {m.name: expected.metrics[m.name] for m in group_metrics()}
    assert sum(group.n_images for group in grouping.groups) == (given[0]["label"] != "").sum()


def test_internal_minus_external_is_made_of_the_intervals_of_both(evaluated):
    internal, external = (there.result.metrics for there in (evaluated.internal, evaluated.sites["north"]))

    expected = {m.name: difference_of_intervals(internal[m.name], external[m.name]) for m in compared_metrics()}

    found = evaluated.internal_minus_external["north"]
    assert {name: replace(of, approximate=expected[name].approximate) for name, of in found.items()} == expected
    assert list(evaluated.internal_minus_external) == list(evaluated.sites)


def test_there_is_no_drop_between_two_halves_of_one_hospital(make_hospital):
    """The threshold is fitted on validation, which would flatter it by some points of 60 patients."""
    drops, fitted = [], []
    for seed in range(150):
        table = make_hospital(60, prevalence=0.5, seed=seed)
        halves = [table.assign(site="inside"), make_hospital(60, prevalence=0.5, seed=10_000 + seed)]
        model = evaluate_model("m", halves[1], TWO, halves[0], Settings(resamples=2, groups=[]))
        drops.append(model.internal_minus_external["north"]["balanced_accuracy"].estimate)
        again = evaluate_site(halves[0], TWO, rule=model.rule, resamples=1).metrics["balanced_accuracy"].estimate
        fitted.append(again - model.sites["north"].result.metrics["balanced_accuracy"].estimate)

    assert np.mean(fitted) > 0.02
    assert abs(np.mean(drops)) < 0.012


@pytest.mark.parametrize(("patients", "prevalence", "few"), [(60, 0.15, True), (200, 0.15, True), (200, 0.5, False)])
def test_a_drop_of_decisions_whose_threshold_rests_on_few_of_a_kind_is_approximate(
    patients, prevalence, few, make_hospital
):
    """Accuracy inside minus outside covers 0.91 of 9 or 30 ill: benchmarks/interval_coverage.py."""
    validation = make_hospital(patients, prevalence, seed=1, site="inside")

    found = evaluate_model("m", make_hospital(200, 0.5, seed=2), TWO, validation, Settings(resamples=50, groups=[]))

    drops = found.internal_minus_external["north"]
    assert drops["accuracy"].approximate is few
    assert drops["brier"].approximate is (patients == 60)  # which decides nothing, and rests on 9 ill all the same
    assert not found.sites["north"].result.metrics["accuracy"].approximate


def test_a_drop_of_decisions_that_cannot_be_cross_fitted_is_not_given(given):
    table, validation = given
    ill = validation["label"] == "tuberculosis"
    one_ill = validation[~ill | (validation["patient_id"] == validation.loc[ill, "patient_id"].iloc[0])]

    found = evaluate_model("plain", table, TWO, one_ill, SETTINGS).internal_minus_external["pooled"]

    assert np.isnan([found["balanced_accuracy"].estimate, found["accuracy"].estimate]).all()
    assert np.isfinite(found["auc"].estimate)


def test_internal_minus_external_is_not_given_for_a_site_that_lacks_a_class(given):
    table, validation = given
    one_class = table.assign(label=np.where(table["site"] == "north", "tuberculosis", table["label"]))

    found = evaluate_model("plain", one_class, TWO, validation, SETTINGS).internal_minus_external

    assert np.isnan([found["north"][name].estimate for name in ("auc", "balanced_accuracy", "macro_f1")]).all()
    assert np.isnan([found["north"][name].low for name in ("auc", "balanced_accuracy", "macro_f1")]).all()
    assert np.isfinite(found["north"]["accuracy"].estimate)
    assert np.isfinite([interval.estimate for interval in found["pooled"].values()]).all()


def test_without_validation_there_is_no_threshold_no_temperature_and_no_difference(given):
    found = evaluate_model("plain", given[0], TWO, None, Settings(resamples=10))

    assert (found.rule.threshold, found.internal, found.internal_minus_external) == (None, None, {})
    assert np.isnan(found.temperature)
    assert found.overall.calibration_scaled == {}
