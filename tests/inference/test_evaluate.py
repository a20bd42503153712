"""A classifier evaluated on hospitals it has not seen."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.data import MarkConfig
from cxr_isnet.evaluation import Settings, hand_till_auc
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities, read_predictions
from cxr_isnet.evaluation.site import POOLED
from cxr_isnet.inference import Classifier, FittedControls, PreparedImages, conditions, evaluate_classifier
from cxr_isnet.inference.evaluate import site_results
from cxr_isnet.manifests import read_manifests


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return Classifier.load(trained / "best.pt")


@pytest.fixture(scope="module")
def evaluated(classifier, phantom_manifest, external_manifest, tmp_path_factory):
    """Two hospitals evaluated with planted marks: the results and their folder."""
    frame = read_manifests([external_manifest, phantom_manifest], classes=classifier.classes)
    folder = tmp_path_factory.mktemp("evaluated")
    chosen = conditions(MarkConfig(0.2))[:2]
    settings = Settings(resamples=20, seed=0)
    controls = FittedControls.on(PreparedImages(classifier.classes, classifier.image), frame)
    options = {"controls": controls, "model_uri": "models:/m/1"}
    return evaluate_classifier(classifier, frame, folder, chosen, settings, **options), folder


def test_every_test_has_every_hospital_and_all_together(evaluated):
    results, _ = evaluated

    assert list(results) == ["biased", "clean"]
    assert all(list(site_results(study)) == ["Alder", "Birch", POOLED] for study in results.values())
    assert all(site_results(study)["Birch"].n_images == 8 for study in results.values())


def test_every_test_leaves_tables_and_pictures(evaluated):
    _, folder = evaluated

    for test in ("biased", "clean"):
        files = {path.name for path in (folder / test).iterdir()}
        assert {"predictions.csv", "report.html", "report.json", "metrics.csv", "model_card.md"} <= files
        assert {"heatmaps_Birch.png", "heatmaps_Alder.png"} <= files


def test_the_numbers_are_those_of_the_predictions_that_were_written(evaluated, classifier):
    results, folder = evaluated

    table = read_predictions(folder / "clean" / "predictions.csv", classifier.classes)
    birch = table[table["site"] == "Birch"]

    labels, scores = (get(birch, classifier.classes) for get in (label_indices, probabilities))
    found = site_results(results["clean"])["Birch"]
    assert found.metrics["accuracy"].estimate == pytest.approx((labels == scores.argmax(1)).mean())
    assert found.metrics["relevance_in_lung"].estimate == pytest.approx(birch["relevance_in_lung"].mean())
    assert set(table["model_uri"]) == {"models:/m/1"}
    report = json.loads((folder / "clean" / "report.json").read_text())["models"][classifier.method]
    assert report["sites"]["Birch"]["result"]["n_images"] == 8


def test_the_clean_test_is_what_the_classifier_says_of_the_files(evaluated, classifier):
    _, folder = evaluated
    table = read_predictions(folder / "clean" / "predictions.csv", classifier.classes)

    expected = classifier.predict(list(table["path"]))

    np.testing.assert_allclose(probabilities(table, classifier.classes), expected.iloc[:, 1:], atol=1e-6)


def test_the_tests_differ_by_their_marks_only(evaluated, classifier):
    _, folder = evaluated

    biased, clean = (pd.read_csv(folder / test / "predictions.csv", dtype=str) for test in ("biased", "clean"))

    same = ["path", "patient_id", "site", "label"]
    assert biased[same].equals(clean[same])
    assert not biased["probability_tuberculosis"].equals(clean["probability_tuberculosis"])


def test_controls_stand_beside_the_model_in_every_condition_and_leave_their_tables(evaluated, classifier):
    results, folder = evaluated

    for study in results.values():
        assert [r.control for r in study.controls["Birch"]] == ["thumbnail", "border", "mask_shape"]
    table = read_predictions(folder / "thumbnail" / "predictions.csv", classifier.classes)
    clean = read_predictions(folder / "clean" / "predictions.csv", classifier.classes)
    assert table["path"].tolist() == clean["path"].tolist()
    labels, scores = (get(table, classifier.classes) for get in (label_indices, probabilities))
    found = results["clean"].controls[POOLED][0].auc.estimate
    assert found == pytest.approx(hand_till_auc(labels, scores))
