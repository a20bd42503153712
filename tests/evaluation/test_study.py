"""One or more models evaluated from their tables, and compared."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, patient_numbers
from cxr_isnet.evaluation.delong import correlated_aucs
from cxr_isnet.evaluation.model_comparison import holm, mcnemar, stratified_mcnemar
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.posterior import posterior_draws, superiority
from cxr_isnet.evaluation.predictions_table import check_predictions, label_indices, probabilities
from cxr_isnet.evaluation.ranking import RankAUC
from cxr_isnet.evaluation.report import study_text, write_report
from cxr_isnet.evaluation.study import evaluate_tables

from .conftest import THREE, TWO


def test_the_numbers_are_those_of_scikit_learn(study, tables):
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    model = study.models["plain"]
    table = tables["plain"]
    said = np.where(table["probability_tuberculosis"] >= model.rule.threshold, "tuberculosis", "normal")

    found = {name: metric.estimate for name, metric in model.overall.result.metrics.items()}

    assert found["auc"] == pytest.approx(roc_auc_score(table["label"], table["probability_tuberculosis"]))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(table["label"], said))
    assert model.overall.delong["tuberculosis"].estimate == pytest.approx(found["auc"])


def test_a_model_is_judged_by_the_rule_that_validation_froze(study):
    model = study.models["isnet"]

    assert model.rule.threshold is not None
    assert "frozen" in model.rule.origin
    same_images = model.internal_minus_external["pooled"]["auc"]  # validation is the same images here
    assert same_images.estimate == pytest.approx(0)
    assert model.overall.calibration_scaled["tuberculosis"].brier <= model.overall.calibration["tuberculosis"].brier


def test_predictive_values_are_given_for_the_stated_prevalence(study):
    rates = study.models["isnet"].overall.result.by_class["tuberculosis"]

    sensitivity, specificity = rates["sensitivity"].estimate, rates["specificity"].estimate
    expected = sensitivity * 0.01 / (sensitivity * 0.01 + (1 - specificity) * 0.99)
    assert rates["ppv_at_prevalence"].estimate == pytest.approx(expected)


def test_models_are_compared_on_the_same_resamples_and_tested_with_correction(study, tables):
    (comparison,) = study.comparisons

    difference = comparison.overall.differences["auc"]
    labels = label_indices(tables["isnet"], TWO)
    areas = [RankAUC(labels == 1, labels == 0, probabilities(tables[name], TWO)[:, 1]) for name in ("isnet", "plain")]
    drawn = np.concatenate(
        [areas[0](w) - areas[1](w) for w in PatientBootstrap.of(tables["isnet"], resamples=200).weights()]
    )
    assert difference.estimate == pytest.approx(areas[0](np.ones((1, 160)))[0] - areas[1](np.ones((1, 160)))[0])
    assert drawn.min() < difference.low < difference.high < drawn.max()
    assert comparison.delong["tuberculosis"].p == comparison.delong_holm["tuberculosis"]  # one test alone
    assert difference.standard_error == pytest.approx(drawn.std(), rel=0.05)
    assert comparison.superiority["accuracy"] > 0.9


@pytest.fixture
def three_models(make_predictions):
    """Three models on the same images of three classes; one of them knows the labels in part."""
    labels = make_predictions(120, seed=1)["label"]
    return {
        name: check_predictions(make_predictions(120, seed=seed).assign(label=labels), THREE)
        for name, seed in {"a": 1, "b": 2, "c": 3}.items()
    }


def test_p_values_are_corrected_over_all_pairs_and_classes(three_models):
    study = evaluate_tables(three_models, THREE, {}, Settings(resamples=10))

    tests = [found.p for comparison in study.comparisons for found in comparison.delong.values()]
    corrected = [p for comparison in study.comparisons for p in comparison.delong_holm.values()]
    assert [(c.first, c.second) for c in study.comparisons] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [list(c.delong) for c in study.comparisons] == [list(THREE)] * 3
    assert corrected == holm(tests).tolist()
    assert [c.mcnemar_holm for c in study.comparisons] == holm([c.mcnemar.p for c in study.comparisons]).tolist()
    assert corrected != tests


def test_every_model_is_right_or_wrong_by_its_own_rule_on_labelled_images_of_patients(tables):
    unlabelled = {
        name: table.assign(label=table["label"].where(table.index % 9 > 0, "")) for name, table in tables.items()
    }
    study = evaluate_tables(unlabelled, TWO, tables, Settings(resamples=10))

    (comparison,) = study.comparisons

    labels = label_indices(unlabelled["isnet"], TWO)
    known = labels >= 0
    right = [
        (probabilities(table, TWO)[:, 1] >= study.models[name].rule.threshold) == labels
        for name, table in tables.items()
    ]
    patients = patient_numbers(tables["isnet"])
    assert comparison.overall.mcnemar == mcnemar(right[0][known], right[1][known], patients[known])
    sites = tables["isnet"]["site"].to_numpy()
    assert comparison.mcnemar == stratified_mcnemar(*right, patients, labels, sites)
    north = known & (sites == "north")
    assert comparison.sites["north"].mcnemar == mcnemar(right[0][north], right[1][north], patients[north])
    assert comparison.mcnemar.only_first + comparison.mcnemar.only_second == (right[0] != right[1])[known].sum()
    scores = [probabilities(table, TWO)[:, 1] for table in tables.values()]
    tests = {}
    for name, here in {"north": sites == "north", "south <b>": sites != "north", "pooled": sites != ""}.items():
        positive, negative = labels[here] == 1, labels[here] == 0
        tests[name] = correlated_aucs(positive, negative, [s[here] for s in scores], patients[here]).difference(0, 1)
        assert comparison.sites[name].delong["tuberculosis"] == tests[name]
    inside = [tests[name].difference for name in ("north", "south <b>")]
    stratified = comparison.delong["tuberculosis"].difference
    assert stratified.estimate == pytest.approx(np.mean([one.estimate for one in inside]))
    assert stratified.standard_error == pytest.approx(np.hypot(*(one.standard_error for one in inside)) / 2)


def test_the_probability_of_superiority_is_of_two_posteriors_drawn_with_different_seeds(study):
    (comparison,) = study.comparisons

    confusions = [np.asarray(model.overall.result.confusion) for model in study.models.values()]
    draws = [posterior_draws(confusion, TWO, seed=seed) for seed, confusion in enumerate(confusions)]

    assert set(comparison.superiority) == {"balanced_accuracy", "accuracy", "macro_f1"}
    for name, found in comparison.superiority.items():
        assert found == superiority(draws[0][name], draws[1][name])


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A table with a site without one of two classes, one without labels, one of one image: study and its folder."""
    generator = np.random.default_rng(1)
    scores = generator.dirichlet(np.ones(2), 61)
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(61)],
            "patient_id": [str(i // 2) for i in range(61)],
            "site": ["full"] * 20 + ["ill only"] * 20 + ["unlabelled"] * 20 + ["one image"],
            "label": [TWO[i % 2] for i in range(20)] + ["tuberculosis"] * 20 + [""] * 20 + ["normal"],
            "model_uri": "",
        }
    )
    frame[[f"probability_{name}" for name in TWO]] = scores
    study = evaluate_tables({"theirs": frame}, TWO, {}, Settings(resamples=50))
    folder = tmp_path_factory.mktemp("odd")
    write_report(folder, study, {"theirs": frame})
    return study, folder


def test_a_class_that_a_site_lacks_is_named_and_nothing_is_made_up(odd):
    study, folder = odd

    there = study.models["theirs"].sites["ill only"]
    auc, by_delong = there.result.metrics["auc"], there.delong["tuberculosis"]
    assert np.isnan([auc.estimate, by_delong.estimate, there.calibration["tuberculosis"].slope]).all()
    assert there.result.by_class["normal"]["specificity"].estimate <= 1
    assert "No image of normal" in (folder / "report.html").read_text(encoding="utf-8")
    assert "no image of normal at ill only" in study_text(study)
    assert "ill only has no image of normal" in (folder / "model_card.md").read_text(encoding="utf-8")


def test_a_site_of_one_image_is_judged_without_intervals(odd):
    result = odd[0].models["theirs"].sites["one image"].result

    assert (result.n_images, result.n_patients) == (1, 1)
    assert np.isnan([result.metrics["accuracy"].low, result.metrics["auc"].estimate, result.metrics["auc"].low]).all()


def test_a_site_without_labels_says_nothing_of_accuracy(odd):
    there = odd[0].models["theirs"].sites["unlabelled"]

    assert (there.result.n_images, there.result.n_labelled) == (20, 0)
    accuracy, posterior = there.result.metrics["accuracy"], there.posterior["accuracy"]
    assert np.isnan([accuracy.estimate, posterior.estimate, there.calibration["tuberculosis"].ece]).all()


def test_what_is_undefined_is_null_in_the_json(odd):
    content = json.loads((odd[1] / "report.json").read_text())

    assert content["models"]["theirs"]["sites"]["ill only"]["result"]["metrics"]["auc"]["estimate"] is None


def test_a_model_without_validation_table_and_a_prevalence_of_no_class_are_refused(tables):
    with pytest.raises(InputError, match=r"names no table of model 'plain'"):
        evaluate_tables(tables, TWO, {"isnet": tables["isnet"]}, Settings(resamples=50))
    with pytest.raises(InputError, match=r"prevalence is 0.1 of 'flu'"):
        evaluate_tables(tables, TWO, {}, Settings(resamples=50, prevalence={"flu": 0.1}))
