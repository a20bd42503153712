"""A classifier judged on hospitals it has not seen."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.data import MarkConfig
from cxr_isnet.deployment import Classifier
from cxr_isnet.evaluation.external import judge
from cxr_isnet.evaluation.metrics import accuracy
from cxr_isnet.evaluation.prediction import planted_tests
from cxr_isnet.evaluation.predictions import label_indices, probabilities, read_predictions
from cxr_isnet.evaluation.site import POOLED
from cxr_isnet.manifests import read_manifests


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return Classifier.load(trained / "best.pt")


@pytest.fixture(scope="module")
def judged(classifier, phantom_manifest, external_manifest, tmp_path_factory):
    """Two hospitals judged with planted marks: the results and their folder."""
    frame = read_manifests([external_manifest, phantom_manifest], classes=classifier.classes)
    folder = tmp_path_factory.mktemp("judged")
    tests = planted_tests(MarkConfig(0.2))[:2]
    return judge(classifier, frame, folder, tests, resamples=20, seed=0, model_uri="models:/m/1"), folder


def test_every_test_has_every_hospital_and_all_together(judged):
    results, _ = judged

    assert list(results) == ["biased", "clean"]
    assert all(list(sites) == ["Alder", "Birch", POOLED] for sites in results.values())
    assert all(sites["Birch"].n_images == 8 for sites in results.values())


def test_every_test_leaves_tables_and_pictures(judged):
    _, folder = judged

    for test in ("biased", "clean"):
        files = {path.name for path in (folder / test).iterdir()}
        assert {"predictions.csv", "metrics.json", "metrics.csv", "roc.png"} <= files
        assert {"confusion_Birch.png", "heatmaps_Birch.png", "heatmaps_Alder.png"} <= files


def test_the_numbers_are_those_of_the_predictions_that_were_written(judged, classifier):
    results, folder = judged

    table = read_predictions(folder / "clean" / "predictions.csv", classifier.classes)
    birch = table[table["site"] == "Birch"]

    labels, scores = (get(birch, classifier.classes) for get in (label_indices, probabilities))
    assert results["clean"]["Birch"].accuracy.value == pytest.approx(accuracy(labels, scores))
    assert results["clean"]["Birch"].relevance_in_lung.value == pytest.approx(birch["relevance_in_lung"].mean())
    assert set(table["model_uri"]) == {"models:/m/1"}
    assert json.loads((folder / "clean" / "metrics.json").read_text())["sites"]["Birch"]["n_images"] == 8


def test_the_clean_test_is_what_the_classifier_says_of_the_files(judged, classifier):
    _, folder = judged
    table = read_predictions(folder / "clean" / "predictions.csv", classifier.classes)

    expected = classifier.predict(list(table["path"]))

    np.testing.assert_allclose(probabilities(table, classifier.classes), expected.iloc[:, 1:], atol=1e-6)


def test_the_tests_differ_by_their_marks_only(judged, classifier):
    _, folder = judged

    biased, clean = (pd.read_csv(folder / test / "predictions.csv", dtype=str) for test in ("biased", "clean"))

    same = ["path", "patient_id", "site", "label"]
    assert biased[same].equals(clean[same])
    assert not biased["probability_tuberculosis"].equals(clean["probability_tuberculosis"])
