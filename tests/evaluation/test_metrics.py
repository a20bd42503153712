"""The registered metrics: each is defined once, in one way, and only what is registered is computed."""

import json
import re
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import matthews_corrcoef

from cxr_isnet.evaluation import metrics
from cxr_isnet.evaluation.confusion import ConfusionMatrices, FloatArray, ratio
from cxr_isnet.evaluation.metrics import METRICS, EvaluatedImages, ReportedMetric, Scale, WeightedMean, metric_families
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.predictions_table import check_predictions, label_indices, probabilities
from cxr_isnet.evaluation.report import study_metrics, study_text, write_report
from cxr_isnet.evaluation.study import evaluate_tables

from .conftest import THREE
from .schema_check import faults


def test_names_are_unique_and_every_metric_has_words():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.words for metric in METRICS)


@pytest.mark.parametrize("given", [{}, {"of_confusion": len, "family": len}])
def test_a_metric_is_either_of_the_confusion_matrix_or_of_a_family(given):
    with pytest.raises(ValueError, match="metric 'mine' needs either of_confusion or family"):
        ReportedMetric("mine", "mine", **given)


def test_families_compute_every_metric_and_nothing_else():
    images = EvaluatedImages(
        classes=THREE,
        y_true=np.array([0, 1, 2, 1]),
        y_score=np.full((4, 3), 1 / 3),
        y_pred=np.array([0, 1, 1, 1]),
        relevance_in_lung=np.ones(4),
        prevalence={"covid": 0.1},
    )

    names = [name for family in metric_families(images) for name in family.names]

    expected = {metric.name for metric in METRICS if metric.overall} | {
        f"{metric.name} of {name}"
        for metric in METRICS
        for name in THREE
        if metric.by_class and (not metric.needs_prevalence or name == "covid")
    }
    assert len(names) == len(set(names))
    assert set(names) == expected


def test_the_weighted_mean_leaves_out_images_without_a_value():
    metric = WeightedMean(np.array([0.2, np.nan, 0.8]))

    values = metric(np.array([[1.0, 5.0, 1.0], [0.0, 1.0, 0.0]]))

    np.testing.assert_allclose(values, [0.5, np.nan])


def matthews(of: ConfusionMatrices) -> FloatArray:
    """Matthews correlation (R,) of several classes."""
    total, by_chance = of.total, (of.positives * of.predicted_positives).sum(axis=1)
    spread = (total**2 - (of.positives**2).sum(axis=1)) * (total**2 - (of.predicted_positives**2).sum(axis=1))
    return ratio(total * of.true_positives.sum(axis=1) - by_chance, np.sqrt(spread))


def wrong_confidence(images: EvaluatedImages) -> metrics.MetricFamily:
    """Mean probability of what an image is not: lower is better."""
    own = np.take_along_axis(images.y_score, images.y_true.clip(0)[:, None], axis=1)[:, 0]
    return metrics.SingleMetric("wrong", metrics.WeightedMean(np.where(images.y_true >= 0, 1 - own, np.nan)))


TABLES = (
    "Results by model and site",
    "Internal minus external of ours",
    "Metrics of ours at north",
    "ours by site",
    "Differences between models",
)


@pytest.fixture
def registered(monkeypatch):
    """Two metrics more: one of the confusion matrix, and one of the probabilities that is better when lower."""
    own = ReportedMetric("mcc", "Matthews correlation", of_confusion=matthews, scale=Scale.REAL)
    lower = ReportedMetric("wrong", "wrong confidence", family=wrong_confidence, greater_is_better=False)
    monkeypatch.setattr(metrics, "METRICS", (lower, *METRICS, own))


def test_a_metric_that_is_registered_once_appears_everywhere(registered, make_predictions, tmp_path):
    tables = {
        name: check_predictions(make_predictions(120, sites=("north", "south"), seed=seed).assign(label=labels), THREE)
        for labels in [make_predictions(120)["label"]]
        for seed, name in enumerate(("ours", "theirs"))
    }
    validation = {name: make_predictions(80, sites=("inside",), seed=5) for name in tables}

    study = evaluate_tables(tables, THREE, validation, Settings(resamples=50))
    write_report(tmp_path, study, tables)

    table, north = tables["ours"], tables["ours"]["site"] == "north"
    y_true, y_score = label_indices(table, THREE), probabilities(table, THREE)
    expected = {
        "mcc": matthews_corrcoef(y_true[north], y_score[north].argmax(axis=1)),
        "wrong": float(1 - y_score[np.arange(120), y_true][north].mean()),
    }
    rows = pd.read_csv(tmp_path / "metrics.csv", keep_default_na=False, na_values={"estimate": ""}).set_index(
        ["model", "part", "group", "metric", "method"]
    )
    content = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(files("cxr_isnet.evaluation").joinpath("study.schema.json").read_text())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert faults(content, schema, schema) == []
    method_of = {"mcc": "student", "wrong": "score"}
    for name, words in {"mcc": "Matthews correlation", "wrong": "wrong confidence"}.items():
        model = content["models"]["ours"]
        found = model["sites"]["north"]["result"]["metrics"][name]
        assert found["low"] < expected[name] < found["high"]
        assert found["estimate"] == pytest.approx(expected[name])
        assert model["internal_minus_external"]["north"][name]["estimate"] is not None
        assert all(name in group["metrics"] for groups in model["groups"] for group in groups["groups"])
        assert content["comparisons"][0]["sites"]["south"]["differences"][name]["estimate"] is not None
        assert content["comparisons"][0]["within_sites"][name]["mean"]["estimate"] is not None
        assert model["across_sites"][name]["mean"]["estimate"] is not None
        for part, group, method in (
            ("site", "north", method_of[name]),
            ("internal_minus_external", "north", "mover"),
            ("by site", "south", method_of[name]),
        ):
            assert np.isfinite(rows.loc[("ours", part, group, name, method), "estimate"])
        assert study_metrics(study)[f"ours/north/{name}"] == pytest.approx(expected[name])
        assert words in study_text(study)
        assert words in (tmp_path / "model_card.md").read_text(encoding="utf-8")
        for label in TABLES:
            (shown,) = re.findall(rf'aria-label="{label}">.*?</table>', page, re.DOTALL)
            assert words.lower() in shown.lower()
    assert "mcc" in content["models"]["ours"]["sites"]["north"]["posterior"]
    assert content["comparisons"][0]["superiority"]["mcc"] > 0.9  # the labels are those of the first


def test_a_metric_that_is_no_share_and_registered_as_one_is_told():
    with pytest.raises(ValueError, match=r"metric 'mcc' is -0\.200, not a share: register it with Scale\.REAL"):
        ReportedMetric("mcc", "", of_confusion=matthews).interval(-0.2, np.array([-0.3, -0.1]), 30)


def test_of_a_metric_that_is_better_when_lower_the_highest_group_is_the_worst(registered, make_predictions):
    table = check_predictions(make_predictions(120, sites=("north", "south")), THREE)

    study = evaluate_tables({"ours": table}, THREE, {}, Settings(resamples=20, groups=["site"]))

    (grouping,) = study.models["ours"].groups
    values = {group.group: group.metrics["wrong"].estimate for group in grouping.groups}
    assert grouping.metric == "wrong"  # it comes first in the list
    assert grouping.worst == max(values, key=values.get)
    assert grouping.gap.estimate == pytest.approx(max(values.values()) - min(values.values()))
