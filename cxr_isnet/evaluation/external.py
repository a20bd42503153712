"""Judging a classifier on hospitals: predictions, metrics, figures and heatmaps, one folder per test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cxr_isnet.deployment import Classifier
from cxr_isnet.evaluation.gallery import heatmap_gallery
from cxr_isnet.evaluation.prediction import PlantedTest, gallery_cases, predict_manifest
from cxr_isnet.evaluation.report import write_evaluation
from cxr_isnet.evaluation.site import SiteResult

TestResults = Mapping[str, Mapping[str, SiteResult]]
"""Results by name of the test (`clean`, `biased`, `swapped`), then by site."""


def judge(
    classifier: Classifier,
    frame: pd.DataFrame,
    output: Path,
    tests: Sequence[PlantedTest],
    *,
    resamples: int,
    seed: int,
    model_uri: str = "",
) -> TestResults:
    """Judges a classifier on all sites of a manifest.

    Args:
        classifier: The classifier.
        frame: As `cxr_isnet.manifests.read_manifest` returns it.
        output: Folder; a folder per test is made in it, as `write_evaluation` fills it.
        tests: What is planted into the images.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        model_uri: Noted in the predictions tables.

    Raises:
        InputError: A file or label cannot be used.
    """
    results = {}
    for test in tests:
        predictions = predict_manifest(classifier, frame, test, model_uri=model_uri)
        results[test.name] = write_evaluation(
            output / test.name,
            predictions,
            classifier.classes,
            resamples=resamples,
            seed=seed,
            galleries=_galleries(classifier, frame, predictions, test),
        )
    return results


def _galleries(
    classifier: Classifier, frame: pd.DataFrame, predictions: pd.DataFrame, test: PlantedTest
) -> dict[str, Figure]:
    figures = {}
    for site in sorted(set(frame["site"])):
        here = (frame["site"] == site).to_numpy()
        cases = gallery_cases(classifier, frame[here], predictions[here], test)
        if cases:
            figures[f"heatmaps {site}"] = heatmap_gallery(
                cases, classifier.classes, title=f"{classifier.method} on {site} ({test.name})"
            )
    return figures
