"""The result of one model on one site."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, Replicates
from cxr_isnet.evaluation.confusion import (
    CLASS_RATES,
    PREVALENCE_RATES,
    ConfusionRates,
    FloatArray,
    confusion_matrix,
    rate_of_class,
)
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import (
    HandTillAUC,
    Metric,
    MetricFamily,
    OneVsRest,
    WeightedMean,
    classes_present,
)
from cxr_isnet.evaluation.predictions_table import (
    RELEVANCE_COLUMN,
    check_predictions,
    label_indices,
    probabilities,
)
from cxr_isnet.evaluation.thresholds import ARGMAX, DecisionRule

POOLED = "pooled"
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "relevance_in_lung")
BY_CLASS = (*CLASS_RATES, *PREVALENCE_RATES, "auc", "average_precision")


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
        accuracy: share of the images whose class the decision rule says.
        balanced_accuracy: mean sensitivity over the classes present.
        macro_f1: mean F1 over the classes present.
        auc: Hand & Till AUC over the classes present; two classes: AUC of the second.
        confusion: counts, rows the true class, columns the predicted one, order of `classes`.
        relevance_in_lung: mean over images of the share of absolute relevance inside the lungs.
        n_relevance: images with that share.
        by_class: class to its sensitivity, specificity, PPV, NPV, F1, AUC and average precision, each against the
            rest, and PPV and NPV at a stated prevalence where there is one; NaN where undefined.
        replicates: the resamples behind the intervals.
    """

    site: str
    classes: tuple[str, ...]
    n_images: int
    n_labelled: int
    n_patients: int
    classes_present: tuple[str, ...]
    prevalence: dict[str, float]
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    auc: Interval
    confusion: list[list[int]]
    relevance_in_lung: Interval
    n_relevance: int
    by_class: dict[str, dict[str, Interval]]
    replicates: Replicates = field(repr=False, compare=False)

    def intervals(self) -> dict[str, Interval]:
        """The numbers that carry an interval, by name."""
        return {name: getattr(self, name) for name in OVERALL}

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
        plain |= {name: found.to_dict() for name, found in self.intervals().items()}
        plain["by_class"] = {
            name: {rate: found.to_dict() for rate, found in rates.items()} for name, rates in self.by_class.items()
        }
        return plain

    def metrics(self) -> dict[str, float]:
        """Flat numbers for a tracking server: `auc`, `auc_low`, `auc_high`, ...; NaN where undefined."""
        flat: dict[str, float] = {
            "n_images": float(self.n_images),
            "n_labelled": float(self.n_labelled),
            "n_patients": float(self.n_patients),
        }
        for name, found in self.intervals().items():
            flat |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
        return flat


def evaluate_site(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    rule: DecisionRule = ARGMAX,
    prevalence: Mapping[str, float] | None = None,
) -> SiteResult:
    """Metrics of the predictions of one site; of several, pooled.

    Args:
        predictions: a predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.
        rule: from probabilities to the class that is said.
        prevalence: by class the share of patients for which PPV and NPV are computed besides.

    Returns:
        The metrics with their 95% intervals.

    Raises:
        InputError: as `check_predictions`; `resamples` below 1.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give 1 or more, 2000 for a published interval")
    frame = check_predictions(predictions, classes)
    labels, scores = label_indices(frame, classes), probabilities(frame, classes)
    predicted = rule.decide(scores, frame["site"])
    shares = _relevance_shares(frame)
    bootstrap = PatientBootstrap.of(frame, resamples=resamples, seed=seed)
    metrics: dict[str, Metric] = {"relevance_in_lung": WeightedMean(shares)}
    if len(classes) > 2:
        metrics["auc"] = HandTillAUC(labels, scores)
    families: list[MetricFamily] = [ConfusionRates(labels, predicted, classes, prevalence)]
    for index, name in enumerate(classes):
        one_vs_rest = (labels == index, (labels >= 0) & (labels != index), scores[:, index])
        keys = (_auc_key(name, classes), rate_of_class("average_precision", name))
        families.append(OneVsRest(*one_vs_rest, keys))
    replicates = bootstrap.resample(metrics, families)
    intervals = replicates.intervals()
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
        confusion=confusion_matrix(labels, predicted, len(classes)).tolist(),
        n_relevance=int(np.isfinite(shares).sum()),
        by_class={name: _of_class(intervals, name, classes) for name in classes},
        replicates=replicates,
        **{name: intervals[name] for name in OVERALL},
    )


def _auc_key(name: str, classes: Sequence[str]) -> str:
    """Of two classes, the AUC of the second is the AUC."""
    return "auc" if len(classes) == 2 and name == classes[1] else rate_of_class("auc", name)


def _of_class(intervals: Mapping[str, Interval], name: str, classes: Sequence[str]) -> dict[str, Interval]:
    keys = {rate: rate_of_class(rate, name) for rate in BY_CLASS} | {"auc": _auc_key(name, classes)}
    return {rate: intervals[key] for rate, key in keys.items() if key in intervals}


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
        rule: from probabilities to the class that is said.
        prevalence: as for `evaluate_site`.

    Returns:
        Site to result, sites in the order of their names, `POOLED` last.

    Raises:
        InputError: as `evaluate_site`; a site bears the name kept for the pooled result.
    """
    frame = check_predictions(predictions, classes)
    return {
        site: evaluate_site(table, classes, resamples=resamples, seed=seed, rule=rule, prevalence=prevalence)
        for site, table in by_site(frame).items()
    }


def _relevance_shares(frame: pd.DataFrame) -> FloatArray:
    if RELEVANCE_COLUMN not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[RELEVANCE_COLUMN].to_numpy(dtype=np.float64)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
