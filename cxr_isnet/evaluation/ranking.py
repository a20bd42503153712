"""Metrics of the order of scores: AUC of a class against the rest, Hand and Till's over classes, average precision.

Each is made once from labels and scores, which sorts them, and then called with weights (R, N), as `metrics` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray, classes_present, metric_of_class, ratio
from cxr_isnet.evaluation.interval import FEW_PATIENTS, score_interval, standard_error

if TYPE_CHECKING:
    from cxr_isnet.evaluation.bootstrap import PatientBootstrap


class OneVsRest:
    """Two metrics of one class: `auc`, the area under the ROC curve, and `average_precision`.

    The AUC is the share of (positive, negative) pairs in the right order, ties half. The average precision is the area
    under the precision-recall curve as a sum of steps: over thresholds, precision times the gain in recall
    (scikit-learn's `average_precision_score`). Both are NaN without images of the class or without any other.
    """

    def __init__(
        self,
        positive: BoolArray,
        negative: BoolArray,
        y_score: FloatArray,
    ):
        """Sort once.

        Args:
            positive: (N,) images of the positive class.
            negative: (N,) images of the negative class; images in neither do not count.
            y_score: (N,) higher means more positive.
        """
        self._positives, ones = _by_score(positive, y_score)
        self._negatives, others = _by_score(negative, y_score)
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
        average = np.where(negatives > 0, ratio(average, positives), np.nan)
        return np.stack([ratio(pairs, positives * negatives), average], axis=1)

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


HIGH_SPECIFICITY = 0.9
"""Of the registered metrics at a fixed specificity, and from which on the partial AUC is."""


class AtSpecificity:
    """Sensitivities of one class at fixed specificities, and the mean sensitivity over a range of high ones.

    The threshold of a specificity is the lowest score at which at least that share of the negatives lies below it, as a
    step of the ROC curve; it is found anew for every weighting.
    """

    def __init__(self, positive: BoolArray, negative: BoolArray, y_score: FloatArray, specificities: Sequence[float]):
        """Sort once; arguments as of `OneVsRest`, and S specificities in [0, 1]."""
        self._positives, ones = _by_score(positive, y_score)
        self._negatives, others = _by_score(negative, y_score)
        self._not_above = np.searchsorted(ones, others, side="right")
        self._specificities = tuple(specificities)

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Sensitivities (R, S), and the partial AUC (R,) last: (R, S + 1); NaN without images of both kinds."""
        if not len(self._positives) or not len(self._negatives):
            return np.full((len(weights), len(self._specificities) + 1), np.nan)
        missed = np.take(_cumulative(np.take(weights, self._positives, axis=1)), self._not_above, axis=1)
        below = _cumulative(np.take(weights, self._negatives, axis=1))
        positives, negatives = np.take(weights, self._positives, axis=1).sum(axis=1), below[:, -1]
        reached = 1 - ratio(missed, np.broadcast_to(positives[:, None], missed.shape))
        found = []
        for specificity in self._specificities:
            enough = below[:, 1:] >= specificity * negatives[:, None] - 1e-9
            last = enough.argmax(axis=1)[:, None]
            found.append(np.take_along_axis(reached, last, axis=1)[:, 0])
        width = 1 - HIGH_SPECIFICITY
        high, low = (
            np.minimum(1 - ratio(b, np.broadcast_to(negatives[:, None], b.shape)), width)
            for b in (below[:, :-1], below[:, 1:])
        )
        partial = ((high - low) * reached).sum(axis=1) / width
        return np.stack([*found, np.where(negatives > 0, partial, np.nan)], axis=1)


class RankAUC:
    """Area under the ROC curve of one class: the `auc` of `OneVsRest`."""

    def __init__(self, positive: BoolArray, negative: BoolArray, y_score: FloatArray):
        """Sort once; arguments as of `OneVsRest`."""
        self._class = OneVsRest(positive, negative, y_score)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._class.auc(weights)


def _by_score(rows: BoolArray, y_score: FloatArray) -> tuple[IntArray, FloatArray]:
    """Numbers of the rows and their scores, ascending."""
    numbers = np.flatnonzero(rows)
    ordered = numbers[np.argsort(y_score[numbers], kind="stable")]
    return ordered.astype(np.int64), y_score[ordered]


def _cumulative(weights: FloatArray) -> FloatArray:
    """Sums of the weights (R, N) before every place, and of all: (R, N + 1)."""
    sums = np.empty((len(weights), weights.shape[1] + 1))
    sums[:, 0] = 0
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


@dataclass(frozen=True)
class RocBand:
    """The ROC curve of one class at given specificities, each with its own 95% interval.

    Attributes:
        specificity: (S,).
        sensitivity: (S,) at each.
        low: (S,) lower ends; NaN without an interval.
        high: (S,) upper ends.
        approximate: It rests on too few patients of a kind to be known to cover 95%.
    """

    specificity: tuple[float, ...]
    sensitivity: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    approximate: bool = False


ROC_SPECIFICITIES = tuple(round(0.05 * step, 2) for step in range(21))


def roc_band(positive: BoolArray, negative: BoolArray, y_score: FloatArray, bootstrap: PatientBootstrap) -> RocBand:
    """Sensitivity over specificity with a pointwise band; arguments as of `OneVsRest`, resampled as the bootstrap
    says."""
    curve = AtSpecificity(positive, negative, y_score, ROC_SPECIFICITIES)
    estimates = curve(np.ones((1, len(y_score))))[0, :-1]
    if np.isnan(estimates).all():
        unknown = (math.nan,) * len(ROC_SPECIFICITIES)
        return RocBand(ROC_SPECIFICITIES, unknown, unknown, unknown)
    drawn = np.concatenate([curve(weights) for weights in bootstrap.weights()])
    patients = min(len(np.unique(bootstrap.patients[rows])) for rows in (positive, negative))
    found = [
        score_interval(float(estimate), standard_error(drawn[:, at], patients), patients)
        for at, estimate in enumerate(estimates)
    ]
    lows = [one.low for one in found]
    for at in reversed(range(len(lows) - 1)):  # all found: no less than at the next higher specificity
        if found[at].estimate == 1 and lows[at + 1] > lows[at]:
            lows[at] = lows[at + 1]
    highs = tuple(one.high for one in found)
    return RocBand(
        ROC_SPECIFICITIES, tuple(map(float, estimates)), tuple(lows), highs, approximate=patients < FEW_PATIENTS
    )


class HandTillAUC:
    """AUC of Hand & Till (2001): for every pair of classes the mean of both one-against-one AUCs, averaged
    over pairs.

    For two columns of probabilities it is the plain AUC with class 1 as the positive one. Classes that no
    label names take no part: with fewer than two classes present it is NaN, and the classes present belong
    beside the number. The same as scikit-learn's `roc_auc_score(multi_class="ovo", average="macro")` when all
    classes are present.
    """

    def __init__(self, y_true: IntArray, y_score: FloatArray):
        """Sort once per pair of classes.

        Args:
            y_true: (N,) index of the class; -1 where unknown.
            y_score: (N, C) probabilities.
        """
        present = classes_present(y_true)
        self._pairs: list[RankAUC] = []
        for first, second in combinations(present, 2):
            directed = [(second, first)] if y_score.shape[1] == 2 else [(first, second), (second, first)]
            self._pairs += [
                RankAUC(y_true == positive, y_true == negative, y_score[:, positive]) for positive, negative in directed
            ]

    def __call__(self, weights: FloatArray) -> FloatArray:
        if not self._pairs:
            return np.full(len(weights), np.nan)
        return np.asarray(np.mean([pair(weights) for pair in self._pairs], axis=0), dtype=np.float64)


class WithinSiteAUC:
    """Mean over hospitals of their AUC (Hand & Till), every hospital counting alike: no pair spans two hospitals.

    It is of the hospitals that have images of all classes that there are, or, if none has, of those that have two;
    `across_sites` says why every hospital counts alike.
    """

    def __init__(self, labels: IntArray, probabilities: FloatArray, sites: IntArray) -> None:
        """Labels (N,), probabilities (N, C), sites (N,)."""
        there = {site: len(classes_present(labels[sites == site])) for site in np.unique(sites)}
        most = max(there.values(), default=0)
        wanted = most if most == len(classes_present(labels)) else 2
        self._parts = [
            HandTillAUC(np.where(sites == site, labels, -1), probabilities)
            for site, classes in there.items()
            if classes >= max(wanted, 2)
        ]

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Value (R,) for every row of weights (R, N)."""
        if not self._parts:
            return np.full(len(weights), np.nan)
        return np.asarray(np.mean([auc(weights) for auc in self._parts], axis=0), dtype=np.float64)


class RankingMetrics:
    """The family of `auc`, and by class `auc`, `average_precision` and what `AtSpecificity` finds, against the rest.

    `auc` is that of Hand & Till; of two classes it is the AUC of the second, which is computed once.
    """

    def __init__(self, y_true: IntArray, y_score: FloatArray, classes: Sequence[str]):
        """Sort once per class, and per pair of more than two classes.

        Args:
            y_true: (N,) index of the class; -1 where unknown.
            y_score: (N, C) probabilities.
            classes: C names.
        """
        self._by_class = [
            OneVsRest(y_true == index, (y_true >= 0) & (y_true != index), y_score[:, index])
            for index in range(len(classes))
        ]
        self._over_classes = HandTillAUC(y_true, y_score) if len(classes) > 2 else None
        self._at_specificity = [
            AtSpecificity(y_true == index, (y_true >= 0) & (y_true != index), y_score[:, index], [HIGH_SPECIFICITY])
            for index in range(len(classes))
        ]
        of_class = ("auc", "average_precision", "sensitivity_at_specificity", "partial_auc")
        by_class = [metric_of_class(metric, name) for name in classes for metric in of_class]
        self.names: tuple[str, ...] = ("auc", *by_class)

    def __call__(self, weights: FloatArray) -> FloatArray:
        by_class = [
            part
            for both in zip(self._by_class, self._at_specificity, strict=True)
            for part in (one(weights) for one in both)
        ]
        auc = by_class[2][:, 0] if self._over_classes is None else self._over_classes(weights)
        return np.concatenate([auc[:, None], *by_class], axis=1)


def hand_till_auc(y_true: Sequence[int] | IntArray, y_score: FloatArray) -> float:
    """`HandTillAUC` of labels (N,) and probabilities (N, C), each image counted once.

    Example:
        >>> hand_till_auc([0, 0, 1, 1], np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]))
        0.75
    """
    metric = HandTillAUC(np.asarray(y_true, dtype=np.int64), y_score)
    return float(metric(np.ones((1, len(y_score))))[0])
