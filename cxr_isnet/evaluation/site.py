"""The result of one model on one site."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, Replicates
from cxr_isnet.evaluation.confusion import FloatArray, IntArray, classes_present, confusion_matrix, metric_of_class
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import (
    EvaluatedImages,
    class_metrics,
    metric_families,
    metric_intervals,
    overall_metrics,
)
from cxr_isnet.evaluation.predictions_table import (
    RELEVANCE_COLUMN,
    RELEVANCE_REASON_COLUMN,
    check_predictions,
    label_indices,
    probabilities,
)
from cxr_isnet.evaluation.thresholds import ARGMAX, DecisionRule

POOLED = "pooled"
MOST_WEIGHTS = 200_000_000
FEWEST_RESAMPLES = 200


@dataclass(frozen=True)
class SiteResult:
    """Metrics of one site.

    Attributes:
        site: name of the site, or `POOLED`.
        classes: names of the classes, in the order of the network's outputs.
        n_images: rows of the table.
        n_labelled: rows with a label; all metrics but the relevance, and the confusion matrix, are of these.
        n_patients: distinct patients.
        classes_present: classes that a label of the site names; means over classes are of these only.
        prevalence: class to share of the labelled images; NaN without labels.
        confusion: counts, rows the true class, columns the predicted one, order of `classes`.
        n_relevance: images with a share of relevance inside the lungs.
        relevance_reason: why no image has one, as the predictions table says; "" where one has.
        metrics: name of a metric of all classes together to its interval; see `metrics.METRICS`.
        by_class: class to name of a metric to its interval, each class against the rest; NaN where undefined.
        replicates: the resamples behind the intervals.
    """

    site: str
    classes: tuple[str, ...]
    n_images: int
    n_labelled: int
    n_patients: int
    classes_present: tuple[str, ...]
    prevalence: dict[str, float]
    confusion: list[list[int]]
    n_relevance: int
    relevance_reason: str
    metrics: dict[str, Interval]
    by_class: dict[str, dict[str, Interval]]
    replicates: Replicates = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it: NaN becomes None."""
        return {
            "site": self.site,
            "classes": list(self.classes),
            "n_images": self.n_images,
            "n_labelled": self.n_labelled,
            "n_patients": self.n_patients,
            "classes_present": list(self.classes_present),
            "prevalence": {name: share if math.isfinite(share) else None for name, share in self.prevalence.items()},
            "confusion": self.confusion,
            "n_relevance": self.n_relevance,
            "relevance_reason": self.relevance_reason,
            "metrics": {name: found.to_dict() for name, found in self.metrics.items()},
            "by_class": {
                name: {metric: found.to_dict() for metric, found in metrics.items()}
                for name, metrics in self.by_class.items()
            },
        }

    def flat(self) -> dict[str, float]:
        """Flat numbers for a tracking server: `auc`, `auc_low`, `auc_high`, ...; NaN where undefined."""
        numbers: dict[str, float] = {
            "n_images": float(self.n_images),
            "n_labelled": float(self.n_labelled),
            "n_patients": float(self.n_patients),
        }
        for name, found in self.metrics.items():
            numbers |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
        return numbers


def evaluate_site(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    rule: DecisionRule = ARGMAX,
    prevalence: Mapping[str, float] | None = None,
    decisions: IntArray | None = None,
) -> SiteResult:
    """Metrics of the predictions of one site; of several, pooled.

    Args:
        predictions: a predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.
        rule: from probabilities to the class that is predicted.
        prevalence: by class the share of patients for which PPV and NPV are computed besides.
        decisions: (N,) index of the class predicted of each image, in place of the rule's.

    Returns:
        The metrics with their 95% intervals.

    Raises:
        InputError: as `check_predictions`; `resamples` below 1.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give 1 or more, 2000 for a published interval")
    checked = check_predictions(predictions, classes)
    return evaluate_checked(
        checked, classes, resamples=resamples, seed=seed, rule=rule, prevalence=prevalence, decisions=decisions
    )


def evaluate_checked(
    frame: pd.DataFrame,
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
    rule: DecisionRule = ARGMAX,
    prevalence: Mapping[str, float] | None = None,
    decisions: IntArray | None = None,
) -> SiteResult:
    """`evaluate_site` of rows that `check_predictions` has seen.

    Of very many images fewer resamples are drawn, `MOST_WEIGHTS` / images but at least `FEWEST_RESAMPLES`: enough for a
    standard error, and time grows with the images only.
    """
    resamples = min(resamples, max(FEWEST_RESAMPLES, MOST_WEIGHTS // max(len(frame), 1)))
    y_true, y_score = label_indices(frame, classes), probabilities(frame, classes)
    y_pred = rule.decide(y_score, frame["site"]) if decisions is None else decisions
    shares = _relevance_shares(frame)
    images = EvaluatedImages(tuple(classes), y_true, y_score, y_pred, shares, prevalence or {})
    bootstrap = PatientBootstrap.of(frame, resamples=resamples, seed=seed, method=IntervalMethod.PERCENTILE)
    replicates = bootstrap.resample({}, metric_families(images))
    intervals = metric_intervals(images, bootstrap.patients, replicates)
    n_labelled = int((y_true >= 0).sum())
    sites = frame["site"].unique()
    return SiteResult(
        site=str(sites[0]) if len(sites) == 1 else POOLED,
        classes=tuple(classes),
        n_images=len(frame),
        n_labelled=n_labelled,
        n_patients=bootstrap.n_patients,
        classes_present=tuple(classes[index] for index in classes_present(y_true)),
        prevalence={
            name: float((y_true == index).sum() / n_labelled) if n_labelled else math.nan
            for index, name in enumerate(classes)
        },
        confusion=confusion_matrix(y_true, y_pred, len(classes)).tolist(),
        n_relevance=int(np.isfinite(shares).sum()),
        relevance_reason="" if np.isfinite(shares).any() else _relevance_reason(frame),
        metrics={metric.name: intervals[metric.name] for metric in overall_metrics()},
        by_class={name: _of_class(intervals, name) for name in classes},
        replicates=replicates,
    )


def _of_class(intervals: Mapping[str, Interval], name: str) -> dict[str, Interval]:
    keys = {metric.name: metric_of_class(metric.name, name) for metric in class_metrics()}
    return {metric: intervals[key] for metric, key in keys.items() if key in intervals}


def by_site(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of every site, sites in the order of their names, and all together as `POOLED` if there are several.

    Raises:
        InputError: one of several sites bears the name kept for the pooled result.
    """
    sites = sorted(predictions["site"].unique())
    if POOLED in sites and len(sites) > 1:
        raise InputError(f"column 'site' names a site {POOLED!r}, kept for all sites together. Rename the site")
    tables = {str(site): predictions[predictions["site"] == site] for site in sites}
    return tables | ({POOLED: predictions} if len(sites) > 1 else {})


def evaluate_sites(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    rule: DecisionRule = ARGMAX,
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, SiteResult]:
    """Metrics of every site of a table and, when there are several, of all pooled.

    Args:
        predictions: a predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.
        rule: from probabilities to the class that is predicted.
        prevalence: as for `evaluate_site`.

    Returns:
        Site to result, sites in the order of their names, `POOLED` last.

    Raises:
        InputError: as `evaluate_site`; a site bears the name kept for the pooled result.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give 1 or more, 2000 for a published interval")
    frame = check_predictions(predictions, classes)
    return {
        site: evaluate_checked(table, classes, resamples=resamples, seed=seed, rule=rule, prevalence=prevalence)
        for site, table in by_site(frame).items()
    }


def _relevance_shares(frame: pd.DataFrame) -> FloatArray:
    if RELEVANCE_COLUMN not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[RELEVANCE_COLUMN].to_numpy(dtype=np.float64)


def _relevance_reason(frame: pd.DataFrame) -> str:
    """Why a table has no relevance at all."""
    if RELEVANCE_COLUMN not in frame.columns:
        return f"the predictions have no column '{RELEVANCE_COLUMN}'"
    given = frame[RELEVANCE_REASON_COLUMN] if RELEVANCE_REASON_COLUMN in frame.columns else pd.Series(dtype="str")
    reasons = sorted({str(reason) for reason in given[given.notna()]} - {""})
    return "; ".join(reasons) or f"column '{RELEVANCE_COLUMN}' of the predictions is empty, and no reason is given"
