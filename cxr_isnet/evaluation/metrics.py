"""The metrics of a classifier that are reported, and how they are computed of many resamples at once.

A metric is registered once, as a line of `METRICS`. It then has an interval at every site and appears in `metrics.csv`,
`report.json`, `report.html`, the model card, the terminal and MLflow, in groups and in the comparison of models.

What computes a metric is called with weights (R, N), R weightings (resamples) of N images, and answers R values, NaN
where it is undefined. All weights 1 give the plain metric; whole numbers give the metric of a resample in which an
image occurs that often. So one formula serves the estimate and its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cxr_isnet.evaluation import confusion
from cxr_isnet.evaluation.calibration import CalibrationMetrics
from cxr_isnet.evaluation.calibration_error import ece_interval
from cxr_isnet.evaluation.confusion import (
    BoolArray,
    ConfusionMatrices,
    FloatArray,
    IntArray,
    classes_present,
    metric_of_class,
    ratio,
)
from cxr_isnet.evaluation.interval import (
    FEW_PATIENTS,
    Interval,
    log_interval,
    score_interval,
    standard_error,
    student_interval,
)
from cxr_isnet.evaluation.ranking import HIGH_SPECIFICITY, RankingMetrics

if TYPE_CHECKING:
    from cxr_isnet.evaluation.bootstrap import Replicates


class Metric(Protocol):
    """What the bootstrap asks of a metric."""

    def __call__(self, weights: FloatArray, /) -> FloatArray:
        """Weights (R, N), not negative, to values (R,); NaN where the metric is undefined."""


class MetricFamily(Protocol):
    """Several metrics that share their work.

    Attributes:
        names: M names of the metrics; one of a class is named as `metric_of_class` says.
    """

    names: tuple[str, ...]

    def __call__(self, weights: FloatArray, /) -> FloatArray:
        """Weights (R, N), not negative, to values (R, M); NaN where a metric is undefined."""


@dataclass(frozen=True)
class EvaluatedImages:
    """The images that metrics are of.

    Attributes:
        classes: C names.
        y_true: (N,) index of the class; -1 where unknown.
        y_score: (N, C) probabilities.
        y_pred: (N,) index of the class that the decision rule predicts.
        relevance_in_lung: (N,) share of absolute relevance inside the lungs; NaN where an image has none.
        prevalence: by class the share of patients for which PPV and NPV are computed besides.
    """

    classes: tuple[str, ...]
    y_true: IntArray
    y_score: FloatArray
    y_pred: IntArray
    relevance_in_lung: FloatArray
    prevalence: Mapping[str, float]


RestsOn = Callable[[EvaluatedImages, int], Sequence[BoolArray]]
"""Of a metric of a class, sets of images (N,) each of which it needs. Its interval rests on the patients of the
smallest."""


def labelled(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    """All images with a label."""
    return [images.y_true >= 0]


def class_and_rest(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    """The images of the class, and those of all other classes."""
    return [images.y_true == of_class, (images.y_true >= 0) & (images.y_true != of_class)]


def every_class(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    """The images of each class that there is."""
    return [images.y_true == index for index in classes_present(images.y_true)]


def _of_class(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return class_and_rest(images, of_class)[:1]


def _of_rest(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return class_and_rest(images, of_class)[1:]


def _predicted(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return [(images.y_true >= 0) & (images.y_pred == of_class)]


def _not_predicted(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return [(images.y_true >= 0) & (images.y_pred != of_class)]


def _with_relevance(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return [np.isfinite(images.relevance_in_lung)]


class Scale(Enum):
    """What values a metric may take, which says how its interval is made (`interval`).

    Attributes:
        SHARE: in [0, 1]: the score interval.
        RATIO: positive, with 1 in the middle: from the logarithm.
        REAL: any: estimate -+ t standard errors.
    """

    SHARE = "share"
    RATIO = "ratio"
    REAL = "real"


@dataclass(frozen=True)
class ReportedMetric:
    """A metric that is reported.

    Attributes:
        name: key in files and MLflow, as `balanced_accuracy`.
        words: its name in a sentence.
        of_confusion: formula of confusion matrices, to values (R,), or by class (R, C). Such a metric has a posterior.
        family: for any other metric, what computes it; metrics that name the same family are computed together.
        overall: it has one value of all classes together.
        by_class: it has a value of each class against the rest.
        needs_every_class: it does not compare between images of which one part lacks a class.
        needs_prevalence: it is of those classes only whose prevalence is stated.
        greater_is_better: as in scikit-learn; says which of two models, or of several groups, is the better.
        in_summary: shown, if overall, in the first table by model and site, on the terminal and in the model card.
        in_groups: shown, if overall, for groups of patients.
        in_comparison: shown, if overall, as internal minus external and between models.
        scale: of its values.
        rests_on: images that it needs of each kind.
        least_patients: of the smallest kind; with fewer its interval is marked as approximate.
        own_interval: where no interval is made of resamples, what makes it of images, the patient (N,) of each, the
            index of the class and the patients of the smallest kind.
    """

    name: str
    words: str
    of_confusion: Callable[[ConfusionMatrices], FloatArray] | None = None
    family: Callable[[EvaluatedImages], MetricFamily] | None = None
    overall: bool = True
    by_class: bool = False
    needs_every_class: bool = True
    needs_prevalence: bool = False
    greater_is_better: bool = True
    in_summary: bool = True
    in_groups: bool = True
    in_comparison: bool = True
    scale: Scale = Scale.SHARE
    rests_on: RestsOn = labelled
    least_patients: int = FEW_PATIENTS
    own_interval: Callable[[EvaluatedImages, IntArray, int, int], Interval] | None = None

    def __post_init__(self) -> None:
        if (self.of_confusion is None) == (self.family is None):
            raise ValueError(f"metric '{self.name}' needs either of_confusion or family")

    def patients(self, images: EvaluatedImages, patients: IntArray, of_class: int = -1) -> int:
        """Number of patients that the interval rests on, given the patient of each image (N,)."""
        return min((_count(patients[rows]) for rows in self.rests_on(images, of_class)), default=0)

    def interval(self, estimate: float, replicates: FloatArray, patients: int) -> Interval:
        """The 95% interval, given the resamples (R,) of a bootstrap over patients and the number of those it rests
        on."""
        defined = replicates[np.isfinite(replicates)]
        if self.scale is Scale.SHARE:
            if not 0 <= estimate <= 1 and np.isfinite(estimate):
                raise ValueError(f"metric '{self.name}' is {estimate:.3f}, not a share: register it with Scale.REAL")
            found = score_interval(estimate, standard_error(defined, patients), patients)
        elif self.scale is Scale.RATIO:
            found = log_interval(estimate, standard_error(np.log(defined[defined > 0]), patients), patients)
        else:
            found = student_interval(estimate, standard_error(defined, patients), patients)
        approximate = patients < self.least_patients
        return replace(found, resamples_used=len(defined), approximate=approximate, patients=patients)


def _count(patients: IntArray) -> int:
    """How many patients there are among those of some images."""
    return int(np.count_nonzero(np.bincount(patients))) if len(patients) else 0


class WeightedMean:
    """Mean of one number per image over the images that have it; NaN where a weighting holds none."""

    def __init__(self, values: FloatArray):
        """Values (N,), NaN where an image has none."""
        self._known = np.isfinite(values).astype(np.float64)
        self._values = np.where(np.isfinite(values), values, 0.0)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return ratio(weights @ self._values, weights @ self._known)


class SingleMetric:
    """A family of one metric."""

    def __init__(self, name: str, metric: Metric):
        """The metric under its registered name."""
        self.names: tuple[str, ...] = (name,)
        self._metric = metric

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._metric(weights)[:, None]


def _ranking(images: EvaluatedImages) -> MetricFamily:
    return RankingMetrics(images.y_true, images.y_score, images.classes)


def _calibration(images: EvaluatedImages) -> MetricFamily:
    return CalibrationMetrics(images.y_true, images.y_score, images.classes)


def _ece_interval(images: EvaluatedImages, patients: IntArray, of_class: int, smallest: int) -> Interval:
    known = images.y_true >= 0
    return ece_interval(images.y_true[known] == of_class, images.y_score[known, of_class], patients[known], smallest)


def _relevance_in_lung(images: EvaluatedImages) -> MetricFamily:
    return SingleMetric("relevance_in_lung", WeightedMean(images.relevance_in_lung))


def _class_or_every(images: EvaluatedImages, of_class: int) -> Sequence[BoolArray]:
    return every_class(images, of_class) if of_class < 0 else class_and_rest(images, of_class)


_of_each_class = partial(ReportedMetric, overall=False, by_class=True, rests_on=class_and_rest)
"""A metric of each class against the rest, and of nothing else."""

METRICS: tuple[ReportedMetric, ...] = (
    ReportedMetric("auc", "AUC", family=_ranking, by_class=True, rests_on=_class_or_every),
    ReportedMetric(
        "balanced_accuracy", "balanced accuracy", of_confusion=confusion.balanced_accuracy, rests_on=every_class
    ),
    ReportedMetric("accuracy", "accuracy", of_confusion=confusion.accuracy, needs_every_class=False),
    ReportedMetric(
        "macro_f1",
        "macro F1",
        of_confusion=confusion.macro_f1,
        in_summary=False,
        in_groups=False,
        rests_on=every_class,
    ),
    ReportedMetric(
        "relevance_in_lung",
        "relevance in lungs",
        family=_relevance_in_lung,
        needs_every_class=False,
        in_groups=False,
        in_comparison=False,
        rests_on=_with_relevance,
    ),
    _of_each_class("sensitivity", "sensitivity", of_confusion=confusion.sensitivity, rests_on=_of_class),
    _of_each_class("specificity", "specificity", of_confusion=confusion.specificity, rests_on=_of_rest),
    _of_each_class("ppv", "PPV", of_confusion=confusion.ppv, rests_on=_predicted),
    _of_each_class("npv", "NPV", of_confusion=confusion.npv, rests_on=_not_predicted),
    _of_each_class("f1", "F1", of_confusion=confusion.f1, rests_on=_of_class),
    _of_each_class(
        "lr_positive", "LR+", of_confusion=confusion.positive_likelihood_ratio, scale=Scale.RATIO, least_patients=40
    ),
    _of_each_class("lr_negative", "LR-", of_confusion=confusion.negative_likelihood_ratio, scale=Scale.RATIO),
    _of_each_class(
        "ppv_at_prevalence",
        "PPV at stated prevalence",
        of_confusion=confusion.ppv_at_prevalence,
        needs_prevalence=True,
    ),
    _of_each_class(
        "npv_at_prevalence",
        "NPV at stated prevalence",
        of_confusion=confusion.npv_at_prevalence,
        needs_prevalence=True,
    ),
    _of_each_class("average_precision", "average precision", family=_ranking, least_patients=60),
    _of_each_class(
        "sensitivity_at_specificity",
        f"sensitivity at {HIGH_SPECIFICITY:.0%} specificity",
        family=_ranking,
        least_patients=40,
    ),
    _of_each_class(
        "partial_auc", f"partial AUC, specificity {HIGH_SPECIFICITY:.0%} to 100%", family=_ranking, least_patients=60
    ),
    ReportedMetric(
        "brier",
        "Brier score",
        family=_calibration,
        by_class=True,
        needs_every_class=False,
        greater_is_better=False,
        in_summary=False,
        rests_on=every_class,
    ),
    _of_each_class("ece", "ECE", family=_calibration, scale=Scale.REAL, own_interval=_ece_interval),
    _of_each_class("calibration_slope", "calibration slope", family=_calibration, scale=Scale.REAL),
    _of_each_class("calibration_intercept", "calibration in the large", family=_calibration, scale=Scale.REAL),
    _of_each_class(
        "expected_observed", "expected / observed", family=_calibration, scale=Scale.RATIO, least_patients=40
    ),
)
"""All metrics, in the order of tables. Where groups are compared by one metric, it is the first that they have."""


def overall_metrics() -> list[ReportedMetric]:
    """Those of all classes together."""
    return [metric for metric in METRICS if metric.overall]


def class_metrics() -> list[ReportedMetric]:
    """Those of each class against the rest."""
    return [metric for metric in METRICS if metric.by_class]


def summary_metrics() -> list[ReportedMetric]:
    """Those of the first table of the report."""
    return [metric for metric in overall_metrics() if metric.in_summary]


def group_metrics() -> list[ReportedMetric]:
    """Those shown for groups of patients."""
    return [metric for metric in overall_metrics() if metric.in_groups]


def compared_metrics() -> list[ReportedMetric]:
    """Those compared between internal and external data, and between models."""
    return [metric for metric in overall_metrics() if metric.in_comparison]


def metric_words(name: str) -> str:
    """Name of a metric in a sentence; of a name that is none, the same without underscores."""
    return next((metric.words for metric in METRICS if metric.name == name), name.replace("_", " "))


def metric_families(images: EvaluatedImages) -> list[MetricFamily]:
    """What computes all metrics of some images, each family once."""
    families = dict.fromkeys(metric.family for metric in METRICS if metric.family is not None)
    rates = ConfusionRates(images.y_true, images.y_pred, images.classes, images.prevalence)
    return [rates, *(family(images) for family in families)]


def metric_intervals(images: EvaluatedImages, patients: IntArray, replicates: Replicates) -> dict[str, Interval]:
    """Every metric by its key, with the interval that its scale asks for.

    Args:
        images: that the metrics are of.
        patients: (N,) number of the patient.
        replicates: of `metric_families`, resampled by patients.
    """
    found = {}
    for metric in METRICS:
        keys = {metric.name: -1} if metric.overall else {}
        if metric.by_class:
            keys |= {metric_of_class(metric.name, name): index for index, name in enumerate(images.classes)}
        for key in keys.keys() & set(replicates.names):
            resting = metric.patients(images, patients, keys[key])
            if metric.own_interval is None:
                found[key] = metric.interval(replicates.estimate(key), replicates.column(key), resting)
            else:
                own = metric.own_interval(images, patients, keys[key], resting)
                found[key] = replace(own, approximate=resting < metric.least_patients, patients=resting)
    return found


def confusion_rates(
    cells: FloatArray,
    classes: Sequence[str],
    present: Sequence[int],
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, FloatArray]:
    """Every registered metric of the confusion matrix, of many matrices.

    Args:
        cells: (R, C, C) counts or shares, rows the true class, columns the predicted one.
        classes: C names.
        present: indices of the classes that means over classes are of.
        prevalence: by class the share for which PPV and NPV are computed anew, from sensitivity and specificity.

    Returns:
        Name of the metric, or of the metric of a class, to values (R,). NaN where one is undefined: no image of the
        class, none predicted so, or a mean in which a class is lacking.
    """
    stated = dict(prevalence or {})
    matrices = ConfusionMatrices(cells, tuple(present), np.array([stated.get(name, np.nan) for name in classes]))
    rates: dict[str, FloatArray] = {}
    for metric in METRICS:
        if metric.of_confusion is None:
            continue
        values = metric.of_confusion(matrices)
        if metric.overall:
            rates[metric.name] = values
            continue
        for index, name in enumerate(classes):
            if name in stated or not metric.needs_prevalence:
                rates[metric_of_class(metric.name, name)] = values[:, index]
    return rates


class ConfusionRates:
    """The family of all registered metrics of the confusion matrix; see `confusion_rates`."""

    def __init__(
        self,
        y_true: IntArray,
        y_pred: IntArray,
        classes: Sequence[str],
        prevalence: Mapping[str, float] | None = None,
    ):
        """Find the cell of every image once.

        Args:
            y_true: (N,) index of the class; -1 where unknown.
            y_pred: (N,) index of the predicted class.
            classes: C names.
            prevalence: as for `confusion_rates`.
        """
        self._classes, self._prevalence = tuple(classes), prevalence
        self._present = classes_present(y_true)
        known = np.flatnonzero(y_true >= 0)
        self._cells = np.zeros((len(y_true), len(classes) ** 2))
        self._cells[known, y_true[known] * len(classes) + y_pred[known]] = 1
        self.names = tuple(self._rates(np.zeros((1, len(classes) ** 2))))

    def __call__(self, weights: FloatArray) -> FloatArray:
        return np.stack(list(self._rates(weights @ self._cells).values()), axis=1)

    def _rates(self, cells: FloatArray) -> dict[str, FloatArray]:
        n_classes = len(self._classes)
        return confusion_rates(
            cells.reshape(len(cells), n_classes, n_classes), self._classes, self._present, self._prevalence
        )
