"""The result of one model on one site."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import Estimate, PatientBootstrap
from cxr_isnet.evaluation.metrics import (
    Accuracy,
    FloatArray,
    HandTillAUC,
    MacroF1,
    WeightedMean,
    classes_present,
    confusion_matrix,
)
from cxr_isnet.evaluation.predictions import (
    RELEVANCE_COLUMN,
    check_predictions,
    label_indices,
    probabilities,
)

POOLED = "pooled"
ESTIMATES = ("accuracy", "macro_f1", "auc", "relevance_in_lung")


@dataclass(frozen=True)
class SiteResult:
    """Metrics of one site.

    Attributes:
        site: name of the site, or `POOLED`.
        classes: names of the classes, in the order of the network's outputs.
        n_images: rows of the table.
        n_labelled: rows with a label; accuracy, F1, AUC and the confusion matrix are of these.
        n_patients: distinct patients.
        classes_present: classes that a label of the site names; AUC and F1 speak of these only.
        prevalence: class to share of the labelled images; NaN without labels.
        accuracy: share of the images with the right class on top.
        macro_f1: mean F1 over the classes present.
        auc: Hand & Till AUC over the classes present; two classes: AUC of the second.
        confusion: counts, rows the true class, columns the predicted one, order of `classes`.
        relevance_in_lung: mean over images of the share of absolute relevance inside the lungs.
        n_relevance: images with that share.
    """

    site: str
    classes: tuple[str, ...]
    n_images: int
    n_labelled: int
    n_patients: int
    classes_present: tuple[str, ...]
    prevalence: dict[str, float]
    accuracy: Estimate
    macro_f1: Estimate
    auc: Estimate
    confusion: list[list[int]]
    relevance_in_lung: Estimate
    n_relevance: int

    def estimates(self) -> dict[str, Estimate]:
        """The numbers that carry an interval, by name."""
        return {name: getattr(self, name) for name in ESTIMATES}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it: NaN becomes None."""
        plain: dict[str, Any] = {
            "site": self.site,
            "classes": list(self.classes),
            "n_images": self.n_images,
            "n_labelled": self.n_labelled,
            "n_patients": self.n_patients,
            "classes_present": list(self.classes_present),
            "prevalence": {name: _number(share) for name, share in self.prevalence.items()},
            "confusion": self.confusion,
            "n_relevance": self.n_relevance,
        }
        for name, estimate in self.estimates().items():
            plain[name] = {
                "value": _number(estimate.value),
                "low": _number(estimate.low),
                "high": _number(estimate.high),
                "resamples_used": estimate.resamples_used,
            }
        return plain

    def metrics(self) -> dict[str, float]:
        """Flat numbers for a tracking server: `auc`, `auc_low`, `auc_high`, ...; NaN where undefined."""
        flat: dict[str, float] = {
            "n_images": float(self.n_images),
            "n_labelled": float(self.n_labelled),
            "n_patients": float(self.n_patients),
        }
        for name, estimate in self.estimates().items():
            flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return flat


def evaluate_site(
    predictions: pd.DataFrame, classes: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> SiteResult:
    """Judge the predictions of one site; of several, judge them pooled.

    Args:
        predictions: a predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.

    Returns:
        The metrics with their 95% intervals.

    Raises:
        InputError: as `check_predictions`; `resamples` below 1.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give 1 or more, 2000 for a published interval")
    frame = check_predictions(predictions, classes)
    labels = label_indices(frame, classes)
    scores = probabilities(frame, classes)
    shares = _relevance_shares(frame)
    bootstrap = PatientBootstrap.of(frame, resamples=resamples, seed=seed)
    estimates = bootstrap.estimate(
        {
            "accuracy": Accuracy(labels, scores),
            "macro_f1": MacroF1(labels, scores),
            "auc": HandTillAUC(labels, scores),
            "relevance_in_lung": WeightedMean(shares),
        }
    )
    n_labelled = int((labels >= 0).sum())
    sites = frame["site"].unique()
    return SiteResult(
        site=str(sites[0]) if len(sites) == 1 else POOLED,
        classes=tuple(classes),
        n_images=len(frame),
        n_labelled=n_labelled,
        n_patients=bootstrap.n_patients,
        classes_present=tuple(classes[index] for index in classes_present(labels)),
        prevalence={
            name: float((labels == index).sum() / n_labelled) if n_labelled else math.nan
            for index, name in enumerate(classes)
        },
        confusion=confusion_matrix(labels, scores).tolist(),
        n_relevance=int(np.isfinite(shares).sum()),
        **estimates,
    )


def evaluate_sites(
    predictions: pd.DataFrame, classes: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> dict[str, SiteResult]:
    """Judge every site of a table and, when there are several, all of them pooled.

    Args:
        predictions: a predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.

    Returns:
        Site to result, sites in the order of their names, `POOLED` last.

    Raises:
        InputError: as `evaluate_site`; a site bears the name kept for the pooled result.
    """
    frame = check_predictions(predictions, classes)
    sites = sorted(frame["site"].unique())
    if POOLED in sites and len(sites) > 1:
        raise InputError(f"column 'site' names a site {POOLED!r}, kept for all sites together. Rename the site")
    tables = {site: frame[frame["site"] == site] for site in sites}
    if len(sites) > 1:
        tables[POOLED] = frame
    return {site: evaluate_site(table, classes, resamples=resamples, seed=seed) for site, table in tables.items()}


def _relevance_shares(frame: pd.DataFrame) -> FloatArray:
    if RELEVANCE_COLUMN not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[RELEVANCE_COLUMN].to_numpy(dtype=np.float64)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
