"""Predict, evaluate, report: a classifier on the hospitals of a manifest, a folder for each condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_isnet.data import ImageStore
from cxr_isnet.evaluation import (
    ERROR_COLUMN,
    POOLED,
    Settings,
    SiteResult,
    Study,
    check_predictions,
    evaluate_tables,
    study_text,
    write_predictions,
    write_report,
)
from cxr_isnet.files import atomic_write, file_slug
from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.controls import FittedControls
from cxr_isnet.inference.heatmap_figures import heatmap_gallery
from cxr_isnet.inference.predict import CLEAN, Condition, gallery_cases, predict_manifest

PREDICTIONS = "predictions.csv"


def evaluate_classifier(
    classifier: Classifier,
    frame: pd.DataFrame,
    output: Path,
    conditions: Sequence[Condition],
    settings: Settings,
    *,
    validation: pd.DataFrame | None = None,
    predictions: Mapping[str, pd.DataFrame] | None = None,
    audit: Mapping[str, Any] | None = None,
    controls: FittedControls | None = None,
    model_uri: str = "",
    store: ImageStore | None = None,
) -> dict[str, Study]:
    """Evaluates a classifier on all sites of a manifest.

    Args:
        classifier: The classifier.
        frame: As `cxr_isnet.manifests.read_manifest` returns it.
        output: Folder, made when missing. Each condition gets a folder in it: `predictions.csv`, `heatmaps_<site>.png`
            and what `write_report` writes.
        conditions: What is planted into the images.
        settings: How the predictions are evaluated.
        validation: Checked predictions of in-domain validation images as they are, which set threshold and temperature;
            None takes those that the classifier is shipped with.
        predictions: By condition, predictions that are made already.
        audit: Content of the shortcut audit's `audit.json`, for the report.
        controls: That have learned from the classifier's training images; their predictions of the images as they are
            go to `<control>/predictions.csv`. None for none.
        model_uri: Noted in the predictions tables.
        store: Where images are kept once they have been read; None reads them each time.

    Returns:
        By name of the condition, what was found; the same numbers as in the files.

    Raises:
        InputError: A label or a setting cannot be used, or no image can be read.
    """
    studies = {}
    for condition in conditions:
        made = (predictions or {}).get(condition.name)
        if made is None:
            made = predict_manifest(classifier, frame, condition, model_uri=model_uri, store=store)
        folder = output / condition.name
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions(made, folder / PREDICTIONS)
        checked = {classifier.method: check_predictions(made, classifier.classes)}
        beside = {} if controls is None else controls.tables(frame[_read(made)], condition)
        studies[condition.name] = evaluate_tables(
            checked,
            classifier.classes,
            {} if validation is None else {classifier.method: validation},
            settings,
            audit,
            {classifier.method: classifier.decision},
            beside,
        )
        if condition.name == CLEAN:
            for name, predicted in beside.items():
                (output / name).mkdir(exist_ok=True)
                write_predictions(predicted, output / name / PREDICTIONS)
        galleries = _write_galleries(classifier, frame, made, condition, folder, store)
        write_report(folder, studies[condition.name], checked, galleries)
    return studies


def _read(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Rows (N,) of the images that could be read."""
    return np.asarray(table[ERROR_COLUMN].fillna("").astype(str) == "")


def site_results(study: Study) -> dict[str, SiteResult]:
    """Site to result of the one model of a study, all sites pooled last."""
    (model,) = study.models.values()
    return {site: found.result for site, found in model.sites.items()}


def flat_metrics(studies: Mapping[str, Study], part: str) -> dict[str, float]:
    """Every number of every condition and site by its name, as a tracking server groups them.

    Args:
        studies: By condition.
        part: What was evaluated, as `external`.

    Returns:
        `external/<site>/auc`, `external/<site>/auc_low`, ...; over the sites that have one, `external/auc_mean` and
        `external/auc_worst`; all images together as the site `pooled`. Of images with planted marks
        `external_biased/...`. Of `validation` also `validation/auc`, of all images.
    """
    found: dict[str, float] = {}
    for condition, study in studies.items():
        prefix, results = part if condition == "clean" else f"{part}_{condition}", site_results(study)
        for site, result in results.items():
            found |= {f"{prefix}/{site}/{name}": value for name, value in result.flat().items()}
        single = [r.metrics["auc"].estimate for site, r in results.items() if len(results) == 1 or site != POOLED]
        known = [auc for auc in single if math.isfinite(auc)]
        if known:
            found |= {f"{prefix}/auc_mean": sum(known) / len(known), f"{prefix}/auc_worst": min(known)}
        if part == "validation" and results:
            found[f"{prefix}/auc"] = list(results.values())[-1].metrics["auc"].estimate
    return found


def results_table(studies: Mapping[str, Study]) -> str:
    """The table of every condition, as `cxr-isnet evaluate` prints it of the condition's predictions."""
    return "\n\n".join(f"{condition}\n{study_text(study)}" for condition, study in studies.items())


def _write_galleries(
    classifier: Classifier,
    frame: pd.DataFrame,
    predictions: pd.DataFrame,
    condition: Condition,
    folder: Path,
    store: ImageStore | None,
) -> dict[str, Path]:
    """A PNG of heatmaps for each site that has cases to show, by title."""
    written = {}
    for site in sorted(set(frame["site"])):
        here = (frame["site"] == site).to_numpy()
        cases = gallery_cases(classifier, frame[here], predictions[here], condition, store=store)
        if cases:
            title = f"{classifier.method} on {site} ({condition.name})"
            path = folder / f"{file_slug(f'heatmaps {site}')}.png"
            with atomic_write(path) as partial:
                heatmap_gallery(cases, classifier.classes, title=title).savefig(partial, dpi=150)
            written[f"heatmaps {site}"] = path
    return written
