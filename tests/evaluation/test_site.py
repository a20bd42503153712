import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import site as site_module
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.ranking import hand_till_auc
from cxr_isnet.evaluation.site import POOLED, evaluate_site, evaluate_sites

from .conftest import THREE


def test_a_site_has_its_counts_and_its_numbers(make_predictions):
    frame = make_predictions()

    result = evaluate_site(frame, THREE, resamples=50)

    labels, scores = label_indices(frame, THREE), probabilities(frame, THREE)
    assert (result.site, result.n_images, result.n_labelled, result.n_patients) == ("north", 60, 60, 30)
    assert result.classes_present == THREE
    assert result.metrics["auc"].estimate == hand_till_auc(labels, scores)
    assert result.metrics["accuracy"].estimate == pytest.approx((labels == scores.argmax(axis=1)).mean())
    assert result.prevalence["covid"] == pytest.approx((frame["label"] == "covid").mean())
    assert sum(map(sum, result.confusion)) == 60


def test_every_value_lies_in_its_interval(make_predictions):
    result = evaluate_site(make_predictions(), THREE)

    for estimate in result.metrics.values():
        assert estimate.low < estimate.estimate < estimate.high
        assert estimate.resamples_used == 2000


def test_the_share_of_relevance_is_the_mean_of_the_images_that_have_one(make_predictions):
    frame = make_predictions(4).assign(relevance_in_lung=[0.2, np.nan, 0.6, np.nan])

    result = evaluate_site(frame, THREE, resamples=50)

    assert result.metrics["relevance_in_lung"].estimate == pytest.approx(0.4)
    assert result.n_relevance == 2


def test_without_the_column_the_share_of_relevance_is_undefined(make_predictions):
    result = evaluate_site(make_predictions().drop(columns="relevance_in_lung"), THREE, resamples=50)

    assert np.isnan(result.metrics["relevance_in_lung"].estimate)
    assert result.n_relevance == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"relevance_in_lung": 0.5, "relevance_reason": ""}, ""),
        ({"relevance_reason": "network 'x' has no relevance rules"}, "network 'x' has no relevance rules"),
        ({"relevance_reason": ["no lung mask", "no relevance at all"] * 30}, "no lung mask; no relevance at all"),
        ({}, "column 'relevance_in_lung' of the predictions is empty, and no reason is given"),
        (None, "the predictions have no column 'relevance_in_lung'"),
    ],
)
def test_a_site_without_relevance_says_why(make_predictions, columns, reason):
    frame = make_predictions().drop(columns="relevance_in_lung")
    if columns is not None:
        frame = frame.assign(**{"relevance_in_lung": np.nan, **columns})

    assert evaluate_site(frame, THREE, resamples=2).relevance_reason == reason


def test_one_image_with_relevance_is_enough(make_predictions):
    frame = make_predictions(4).assign(relevance_in_lung=[0.2, np.nan, np.nan, np.nan])
    frame["relevance_reason"] = ["", *["no lung mask"] * 3]

    assert evaluate_site(frame, THREE, resamples=2).relevance_reason == ""


def test_a_class_absent_from_the_site_is_not_named_as_present(make_predictions):
    frame = make_predictions()
    frame = frame[frame["label"] != "covid"]

    result = evaluate_site(frame, THREE, resamples=50)

    assert result.classes_present == ("normal", "tuberculosis")
    assert result.prevalence["covid"] == 0
    assert np.isfinite(result.metrics["auc"].estimate)


def test_a_site_of_one_image_has_counts_and_no_interval(make_predictions):
    result = evaluate_site(make_predictions(1), THREE, resamples=50)

    assert (result.n_images, result.n_patients) == (1, 1)
    assert result.metrics["accuracy"].estimate in (0.0, 1.0)
    assert np.isnan(
        [
            result.metrics["accuracy"].low,
            result.metrics["accuracy"].high,
            result.metrics["auc"].estimate,
            result.metrics["auc"].low,
        ]
    ).all()


def test_a_site_without_labels_has_relevance_and_nothing_else(make_predictions):
    result = evaluate_site(make_predictions().assign(label=""), THREE, resamples=50)

    assert (result.n_images, result.n_labelled, result.classes_present) == (60, 0, ())
    assert np.isnan(
        [result.metrics["auc"].estimate, result.metrics["accuracy"].estimate, result.metrics["macro_f1"].estimate]
    ).all()
    assert np.isnan(list(result.prevalence.values())).all()
    assert np.isfinite(result.metrics["relevance_in_lung"].low)


def test_what_is_undefined_is_null_in_json(make_predictions):
    plain = evaluate_site(make_predictions().assign(label=""), THREE, resamples=50).to_dict()

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["metrics"]["auc"] == {
        "estimate": None,
        "low": None,
        "high": None,
        "method": "score",
        "resamples_used": 0,
        "standard_error": None,
        "patients": 0,
        "approximate": True,
    }


def test_the_flat_metrics_hold_each_interval(make_predictions):
    result = evaluate_site(make_predictions(), THREE, resamples=50)

    flat = result.flat()

    assert (flat["auc"], flat["auc_low"], flat["auc_high"]) == (
        result.metrics["auc"].estimate,
        result.metrics["auc"].low,
        result.metrics["auc"].high,
    )
    assert all(type(value) is float for value in flat.values())


def test_a_result_cannot_be_changed(make_predictions):
    with pytest.raises(FrozenInstanceError):
        evaluate_site(make_predictions(), THREE, resamples=50).site = "other"


def test_one_site_alone_is_not_pooled(make_predictions):
    assert list(evaluate_sites(make_predictions(), THREE, resamples=50)) == ["north"]


def test_several_sites_come_by_name_and_then_pooled(make_predictions):
    frame = make_predictions(sites=("south", "north"))

    results = evaluate_sites(frame, THREE, resamples=50)

    assert list(results) == ["north", "south", POOLED]
    assert [result.site for result in results.values()] == ["north", "south", POOLED]
    assert results[POOLED].n_images == results["north"].n_images + results["south"].n_images


def test_the_same_id_at_two_sites_is_two_patients(make_predictions):
    frame = make_predictions(4, sites=("north", "south")).assign(patient_id="1")

    assert evaluate_sites(frame, THREE, resamples=50)[POOLED].n_patients == 2


def test_a_site_with_the_name_of_all_sites_is_refused(make_predictions):
    with pytest.raises(InputError, match=r"names a site 'pooled'.*Rename"):
        evaluate_sites(make_predictions(sites=("north", "pooled")), THREE)


def test_no_resamples_are_refused(make_predictions):
    with pytest.raises(InputError, match="resamples is 0"):
        evaluate_site(make_predictions(), THREE, resamples=0)


def test_a_hospital_of_one_class_has_no_number_that_tells_classes_apart(make_hospital):
    table = make_hospital(40, 0.5, seed=3)
    result = evaluate_site(table[table["label"] == "tuberculosis"], ("normal", "tuberculosis"), resamples=50)

    of_class = result.by_class["tuberculosis"]
    told_apart = ("auc", "ppv", "npv", "f1", "average_precision", "lr_positive", "partial_auc", "calibration_slope")
    assert np.isnan([result.metrics[name].estimate for name in ("auc", "balanced_accuracy", "macro_f1")]).all()
    assert np.isnan([of_class[name].estimate for name in told_apart]).all()
    assert np.isfinite([result.metrics["accuracy"].low, of_class["sensitivity"].low, of_class["brier"].low]).all()


def test_where_all_are_right_there_is_an_interval(make_hospital):
    table = make_hospital(20, 0.5, seed=3).assign(
        probability_normal=lambda rows: (rows["label"] == "normal") * 1.0,
        probability_tuberculosis=lambda rows: (rows["label"] == "tuberculosis") * 1.0,
    )
    found = evaluate_site(table, ("normal", "tuberculosis"), resamples=50).metrics

    assert all(
        found[name].high == 1 and 0.4 < found[name].low < 0.9 for name in ("auc", "accuracy", "balanced_accuracy")
    )


def test_of_very_many_images_fewer_resamples_are_drawn(make_predictions, monkeypatch):
    monkeypatch.setattr(site_module, "MOST_WEIGHTS", 60 * 250)

    assert evaluate_site(make_predictions(60), THREE, resamples=2000).metrics["accuracy"].resamples_used == 250
