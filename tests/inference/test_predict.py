"""Predictions tables of manifests, and the cases of a gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.evaluation.predictions_table import probability_columns
from cxr_isnet.inference import Classifier
from cxr_isnet.inference.heatmap_figures import comparison_figure
from cxr_isnet.inference.predict import Condition, conditions, gallery_cases, heatmap_cases, predict_manifest
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network

CLASSES = ("normal", "tuberculosis")


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    return Classifier(build_network(config, 2, 32).eval(), config, CLASSES, ImageConfig(size=32), "cross_entropy")


@pytest.fixture
def frame(phantom_manifest: Path) -> pd.DataFrame:
    return read_manifest(phantom_manifest)


def test_probabilities_are_those_of_the_classifier_given_the_files(classifier: Classifier, frame: pd.DataFrame) -> None:
    table = predict_manifest(classifier, frame, Condition(), model_uri="models:/x/1")

    alone = classifier.predict(list(frame["image"]))
    columns = probability_columns(CLASSES)
    assert list(table["path"]) == list(frame["image"])
    assert set(table["model_uri"]) == {"models:/x/1"}
    np.testing.assert_allclose(table[columns], alone[columns], atol=1e-6)


def test_an_image_without_a_mask_has_no_share(classifier: Classifier, frame: pd.DataFrame) -> None:
    frame.loc[0, "mask"] = ""

    shares = predict_manifest(classifier, frame, Condition())["relevance_in_lung"]

    assert np.isnan(shares[0])
    assert shares[1:].between(0, 1).all()


def test_planted_marks_change_what_is_predicted(classifier: Classifier, frame: pd.DataFrame) -> None:
    tried = conditions(MarkConfig(size=0.2))
    biased, clean, swapped = (predict_manifest(classifier, frame, test)["probability_normal"] for test in tried)

    assert [test.name for test in tried] == ["biased", "clean", "swapped"]
    assert [test.name for test in conditions(None)] == ["clean"]
    assert not np.allclose(biased, clean)
    assert not np.allclose(biased, swapped)


def test_a_gallery_shows_right_cases_before_wrong_ones(classifier: Classifier, frame: pd.DataFrame) -> None:
    table = predict_manifest(classifier, frame, Condition())

    cases = gallery_cases(classifier, frame, table, Condition(), per_kind=2)

    right = [case.label == case.predicted for case in cases]
    assert right == sorted(right, reverse=True)
    assert all(case.maps.shape == (2, 32, 32) for case in cases)


def test_a_comparison_needs_the_same_images_in_the_same_order(classifier: Classifier, frame: pd.DataFrame) -> None:
    cases = heatmap_cases(classifier, frame.iloc[:2], Condition())

    assert len(comparison_figure({"a": cases, "b": cases}).axes) == 6
    with pytest.raises(ValueError, match="same images"):
        comparison_figure({"a": cases, "b": cases[::-1]})
