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
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Metric(Protocol):
    """What the bootstrap asks of a metric."""

    def __call__(self, weights: FloatArray, /) -> FloatArray:
        """Weights (R, N), not negative, to values (R,); NaN where the metric is undefined."""


def classes_present(labels: IntArray) -> list[int]:
    """Indices of the classes that occur in `labels` (N,), ascending; -1, an unknown label, is no class."""
    return [int(index) for index in np.unique(labels) if index >= 0]


class RankAUC:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties half."""

    def __init__(self, positive: npt.NDArray[np.bool_], negative: npt.NDArray[np.bool_], score: FloatArray):
        """Sort once.

        Args:
            positive: (N,) images of the positive class.
            negative: (N,) images of the negative class; images in neither do not count.
            score: (N,) higher means more positive.
        """
        self._positives = np.flatnonzero(positive)
        negatives = np.flatnonzero(negative)
        self._negatives = negatives[np.argsort(score[negatives], kind="stable")]
        ordered = score[self._negatives]
        self._below = np.searchsorted(ordered, score[self._positives], side="left")
        self._not_above = np.searchsorted(ordered, score[self._positives], side="right")

    def __call__(self, weights: FloatArray) -> FloatArray:
        positive = weights[:, self._positives]
        cumulated = np.zeros((len(weights), len(self._negatives) + 1))
        np.cumsum(weights[:, self._negatives], axis=1, out=cumulated[:, 1:])
        beaten = (cumulated[:, self._below] + cumulated[:, self._not_above]) / 2
        pairs = positive.sum(axis=1) * cumulated[:, -1]
        return _ratio(np.einsum("rn,rn->r", positive, beaten), pairs)


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


class Accuracy:
    """Share of images, of those with a label, whose most probable class is their label."""

    def __init__(self, labels: IntArray, probabilities: FloatArray):
        """Labels (N,), -1 where unknown; probabilities (N, C)."""
        self._known = (labels >= 0).astype(np.float64)
        self._right = (labels == probabilities.argmax(axis=1)).astype(np.float64)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return _ratio(weights @ self._right, weights @ self._known)


class MacroF1:
    """Mean over the classes present among the labels of F1 = 2 TP / (labelled so + predicted so).

    scikit-learn's `f1_score(average="macro", labels=<classes present>)`. NaN where a weighting leaves out one
    of them.
    """

    def __init__(self, labels: IntArray, probabilities: FloatArray):
        """Labels (N,), -1 where unknown; probabilities (N, C)."""
        present = np.array(classes_present(labels), dtype=np.int64)
        known = labels >= 0
        predicted = probabilities.argmax(axis=1)[:, None] == present
        labelled = labels[:, None] == present
        self._hits = (labelled & predicted).astype(np.float64)
        self._labelled = labelled.astype(np.float64)
        self._predicted = (predicted & known[:, None]).astype(np.float64)

    def __call__(self, weights: FloatArray) -> FloatArray:
        if not self._labelled.shape[1]:
            return np.full(len(weights), np.nan)
        labelled = weights @ self._labelled
        scores = _ratio(2 * (weights @ self._hits), labelled + weights @ self._predicted)
        return np.where((labelled > 0).all(axis=1), scores.mean(axis=1), np.nan)


class WeightedMean:
    """Mean of one number per image over the images that have it; NaN where a weighting holds none."""

    def __init__(self, values: FloatArray):
        """Values (N,), NaN where an image has none."""
        self._known = np.isfinite(values).astype(np.float64)
        self._values = np.where(np.isfinite(values), values, 0.0)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return _ratio(weights @ self._values, weights @ self._known)


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


def confusion_matrix(labels: IntArray, probabilities: FloatArray) -> IntArray:
    """Counts (C, C): rows the true class, columns the most probable one; unlabelled images left out."""
    n_classes = probabilities.shape[1]
    known = labels >= 0
    cells = labels[known] * n_classes + probabilities[known].argmax(axis=1)
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    ratio: FloatArray = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio
