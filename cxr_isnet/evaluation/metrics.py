"""Metrics of a classifier, for many weightings of the same images at once.

A metric is made once from labels and probabilities and then called with weights (R, N): R weightings
(resamples) of N images. It answers (R,) values, NaN where it is undefined. All weights 1 give the plain
metric; whole numbers give the metric of a resample in which an image occurs that often. So one formula serves
the value and its interval.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

import numpy as np

from cxr_isnet.evaluation.confusion import BoolArray, ConfusionRates, FloatArray, IntArray, ratio

__all__ = [
    "Accuracy",
    "FloatArray",
    "HandTillAUC",
    "IntArray",
    "MacroF1",
    "Metric",
    "MetricFamily",
    "OneVsRest",
    "RankAUC",
    "WeightedMean",
    "accuracy",
    "classes_present",
    "hand_till_auc",
    "macro_f1",
    "plain",
]


class Metric(Protocol):
    """What the bootstrap asks of a metric."""

    def __call__(self, weights: FloatArray, /) -> FloatArray:
        """Weights (R, N), not negative, to values (R,); NaN where the metric is undefined."""


class MetricFamily(Protocol):
    """Several metrics that share their work.

    Attributes:
        names: M names of the metrics.
    """

    names: tuple[str, ...]

    def __call__(self, weights: FloatArray, /) -> FloatArray:
        """Weights (R, N), not negative, to values (R, M); NaN where a metric is undefined."""


def classes_present(labels: IntArray) -> list[int]:
    """Indices of the classes that occur in `labels` (N,), ascending; -1, an unknown label, is no class."""
    return [int(index) for index in np.unique(labels) if index >= 0]


class OneVsRest:
    """Two metrics of one class: `auc`, the area under the ROC curve, and `average_precision`.

    The AUC is the share of (positive, negative) pairs in the right order, ties half. The average precision is the area
    under the precision-recall curve as a sum of steps: over thresholds, precision times the gain in recall
    (scikit-learn's `average_precision_score`).
    """

    def __init__(
        self,
        positive: BoolArray,
        negative: BoolArray,
        score: FloatArray,
        names: tuple[str, str] = ("auc", "average_precision"),
    ):
        """Sort once.

        Args:
            positive: (N,) images of the positive class.
            negative: (N,) images of the negative class; images in neither do not count.
            score: (N,) higher means more positive.
            names: of the two metrics.
        """
        self.names: tuple[str, ...] = names
        self._positives, ones = _by_score(positive, score)
        self._negatives, others = _by_score(negative, score)
        self._below = np.searchsorted(others, ones, side="left")
        self._not_above = np.searchsorted(others, ones, side="right")
        self._tied = bool((self._below != self._not_above).any())
        self._first_alike = np.searchsorted(ones, ones, side="left")

    def __call__(self, weights: FloatArray) -> FloatArray:
        positive, cumulative_negatives, negatives_below = self._sorted(weights)
        positives, negatives = positive.sum(axis=1), cumulative_negatives[:, -1]
        pairs = self._ordered_pairs(positive, cumulative_negatives, negatives_below)
        true_positives = positives[:, None] - np.take(_cumulative(positive), self._first_alike, axis=1)
        false_positives = negatives[:, None] - negatives_below
        predicted = true_positives + false_positives
        precision = np.divide(true_positives, predicted, out=np.zeros_like(predicted), where=true_positives > 0)
        average = np.einsum("rn,rn->r", positive, precision)
        return np.stack([ratio(pairs, positives * negatives), ratio(average, positives)], axis=1)

    def auc(self, weights: FloatArray) -> FloatArray:
        """The AUC alone: weights (R, N) to values (R,)."""
        positive, cumulative_negatives, negatives_below = self._sorted(weights)
        pairs = self._ordered_pairs(positive, cumulative_negatives, negatives_below)
        return ratio(pairs, positive.sum(axis=1) * cumulative_negatives[:, -1])

    def _sorted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """By score: weights of the positives, cumulative weights of the negatives, and of those below each positive."""
        positive = np.take(weights, self._positives, axis=1)
        cumulative_negatives = _cumulative(np.take(weights, self._negatives, axis=1))
        return positive, cumulative_negatives, np.take(cumulative_negatives, self._below, axis=1)

    def _ordered_pairs(
        self, positive: FloatArray, cumulative_negatives: FloatArray, negatives_below: FloatArray
    ) -> FloatArray:
        """Weight of the (positive, negative) pairs in the right order, ties half."""
        if self._tied:
            not_above = np.take(cumulative_negatives, self._not_above, axis=1)
            negatives_below = (negatives_below + not_above) / 2
        return np.asarray(np.einsum("rn,rn->r", positive, negatives_below), dtype=np.float64)


class RankAUC:
    """Area under the ROC curve of one class: the `auc` of `OneVsRest`."""

    def __init__(self, positive: BoolArray, negative: BoolArray, score: FloatArray):
        """Sort once; arguments as of `OneVsRest`."""
        self._class = OneVsRest(positive, negative, score)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._class.auc(weights)


def _by_score(rows: BoolArray, score: FloatArray) -> tuple[IntArray, FloatArray]:
    """Numbers of the rows and their scores, ascending."""
    numbers = np.flatnonzero(rows)
    ordered = numbers[np.argsort(score[numbers], kind="stable")]
    return ordered.astype(np.int64), score[ordered]


def _cumulative(weights: FloatArray) -> FloatArray:
    """Sums of the weights (R, N) before every place, and of all: (R, N + 1)."""
    sums = np.empty((len(weights), weights.shape[1] + 1))
    sums[:, 0] = 0
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


class HandTillAUC:
    """AUC of Hand & Till (2001): for every pair of classes the mean of both one-against-one AUCs, averaged
    over pairs.

    For two columns of probabilities it is the plain AUC with class 1 as the positive one. Classes that no
    label names take no part: with fewer than two classes present it is NaN, and the classes present belong
    beside the number. The same as scikit-learn's `roc_auc_score(multi_class="ovo", average="macro")` when all
    classes are present.
    """

    def __init__(self, labels: IntArray, probabilities: FloatArray):
        """Sort once per pair of classes.

        Args:
            labels: (N,) index of the class; -1 where unknown.
            probabilities: (N, C).
        """
        present = classes_present(labels)
        self._pairs: list[RankAUC] = []
        for first, second in combinations(present, 2):
            directed = [(second, first)] if probabilities.shape[1] == 2 else [(first, second), (second, first)]
            self._pairs += [
                RankAUC(labels == positive, labels == negative, probabilities[:, positive])
                for positive, negative in directed
            ]

    def __call__(self, weights: FloatArray) -> FloatArray:
        if not self._pairs:
            return np.full(len(weights), np.nan)
        return np.asarray(np.mean([pair(weights) for pair in self._pairs], axis=0), dtype=np.float64)


class _ConfusionRate:
    """One rate of the confusion matrix of labels (N,), -1 where unknown, and the most probable classes."""

    rate: str

    def __init__(self, labels: IntArray, probabilities: FloatArray):
        """Labels (N,), -1 where unknown; probabilities (N, C)."""
        names = [str(index) for index in range(probabilities.shape[1])]
        self._rates = ConfusionRates(labels, probabilities.argmax(axis=1), names)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._rates(weights)[:, self._rates.names.index(self.rate)]


class Accuracy(_ConfusionRate):
    """Share of images, of those with a label, whose most probable class is their label."""

    rate = "accuracy"


class MacroF1(_ConfusionRate):
    """Mean over the classes present among the labels of F1 = 2 TP / (labelled so + predicted so).

    scikit-learn's `f1_score(average="macro", labels=<classes present>)`. NaN where a weighting leaves out one
    of them.
    """

    rate = "macro_f1"


class WeightedMean:
    """Mean of one number per image over the images that have it; NaN where a weighting holds none."""

    def __init__(self, values: FloatArray):
        """Values (N,), NaN where an image has none."""
        self._known = np.isfinite(values).astype(np.float64)
        self._values = np.where(np.isfinite(values), values, 0.0)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return ratio(weights @ self._values, weights @ self._known)


def plain(metric: Metric, n_images: int) -> float:
    """The metric of the images as they are, each counted once."""
    return float(metric(np.ones((1, n_images)))[0])


def hand_till_auc(labels: Sequence[int] | IntArray, probabilities: FloatArray) -> float:
    """`HandTillAUC` of labels (N,) and probabilities (N, C), each image counted once."""
    return plain(HandTillAUC(np.asarray(labels, dtype=np.int64), probabilities), len(probabilities))


def accuracy(labels: Sequence[int] | IntArray, probabilities: FloatArray) -> float:
    """`Accuracy` of labels (N,) and probabilities (N, C), each image counted once."""
    return plain(Accuracy(np.asarray(labels, dtype=np.int64), probabilities), len(probabilities))


def macro_f1(labels: Sequence[int] | IntArray, probabilities: FloatArray) -> float:
    """`MacroF1` of labels (N,) and probabilities (N, C), each image counted once."""
    return plain(MacroF1(np.asarray(labels, dtype=np.int64), probabilities), len(probabilities))
