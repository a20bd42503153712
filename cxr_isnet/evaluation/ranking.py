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


class ScoreOrder:
    """The images of two kinds in the order of their scores, as all metrics of the order need them.

    Attributes:
        positive_scores: (P,) ascending.
        negative_scores: (Q,) ascending.
    """

    def __init__(self, positive: BoolArray, negative: BoolArray, y_score: FloatArray):
        """Sort once.

        Args:
            positive: (N,) images of the positive class.
            negative: (N,) images of the negative class; images in neither do not count.
            y_score: (N,) higher means more positive.
        """
        self._positives, self.positive_scores = _by_score(positive, y_score)
        self._negatives, self.negative_scores = _by_score(negative, y_score)

    def __call__(self, weights: FloatArray) -> OrderedWeights:
        """Weights (R, N) in that order."""
        positive = np.take(weights, self._positives, axis=1)
        return OrderedWeights(positive, _cumulative(positive), _cumulative(np.take(weights, self._negatives, axis=1)))


@dataclass(frozen=True)
class OrderedWeights:
    """Weights by score, ascending.

    Attributes:
        positive: (R, P) of the positive images.
        positives_below: (R, P + 1) sums of them before every place, and of all.
        negatives_below: (R, Q + 1) the same of the negative images.
    """

    positive: FloatArray
    positives_below: FloatArray
    negatives_below: FloatArray


class OneVsRest:
    """Two metrics of one class: `auc`, the area under the ROC curve, and `average_precision`.

    The AUC is the share of (positive, negative) pairs in the right order, ties half. The average precision is the area
    under the precision-recall curve as a sum of steps: over thresholds, precision times the gain in recall
    (scikit-learn's `average_precision_score`). Both are NaN without images of the class or without any other.
    """

    def __init__(self, order: ScoreOrder):
        """Find every positive's place among the negatives once."""
        ones, others = order.positive_scores, order.negative_scores
        self._below = np.searchsorted(others, ones, side="left")
        self._not_above = np.searchsorted(others, ones, side="right")
        self._tied = bool((self._below != self._not_above).any())
        self._first_alike = np.searchsorted(ones, ones, side="left")

    def __call__(self, weights: OrderedWeights) -> FloatArray:
        positives, negatives = weights.positives_below[:, -1], weights.negatives_below[:, -1]
        negatives_below = np.take(weights.negatives_below, self._below, axis=1)
        pairs = self._ordered_pairs(weights, negatives_below)
        true_positives = positives[:, None] - np.take(weights.positives_below, self._first_alike, axis=1)
        predicted = true_positives + (negatives[:, None] - negatives_below)
        precision = true_positives / np.maximum(predicted, np.finfo(np.float64).tiny)  # of no image: 0
        average = np.einsum("rn,rn->r", weights.positive, precision)
        average = np.where(negatives > 0, ratio(average, positives), np.nan)
        return np.stack([ratio(pairs, positives * negatives), average], axis=1)

    def auc(self, weights: OrderedWeights) -> FloatArray:
        """The AUC alone (R,)."""
        pairs = self._ordered_pairs(weights, np.take(weights.negatives_below, self._below, axis=1))
        return ratio(pairs, weights.positives_below[:, -1] * weights.negatives_below[:, -1])

    def _ordered_pairs(self, weights: OrderedWeights, negatives_below: FloatArray) -> FloatArray:
        """Weight of the (positive, negative) pairs in the right order, ties half."""
        if self._tied:
            negatives_below = (negatives_below + np.take(weights.negatives_below, self._not_above, axis=1)) / 2
        return np.asarray(np.einsum("rn,rn->r", weights.positive, negatives_below), dtype=np.float64)


HIGH_SPECIFICITY = 0.9
"""Of the registered metrics at a fixed specificity, and from which on the partial AUC is."""


class AtSpecificity:
    """Sensitivities of one class at fixed specificities, and the mean sensitivity over a range of high ones.

    The threshold of a specificity is the lowest score at which at least that share of the negatives lies below it, as a
    step of the ROC curve; it is found anew for every weighting.
    """

    def __init__(self, order: ScoreOrder, specificities: Sequence[float]):
        """Find every negative's place among the positives once; S specificities in [0, 1]."""
        self._not_above = np.searchsorted(order.positive_scores, order.negative_scores, side="right")
        self._without = not len(order.positive_scores) or not len(order.negative_scores)
        self._specificities = np.asarray([*specificities, HIGH_SPECIFICITY], dtype=np.float64)

    def __call__(self, weights: OrderedWeights) -> FloatArray:
        """Sensitivities (R, S), and the partial AUC (R,) last: (R, S + 1); NaN without images of both kinds."""
        if self._without:
            return np.full((len(weights.positive), len(self._specificities)), np.nan)
        positives, below = weights.positives_below[:, -1:], weights.negatives_below
        negatives = below[:, -1:]
        enough = self._specificities * negatives - 1e-9
        last = np.stack([np.searchsorted(row[1:], wanted) for row, wanted in zip(below, enough, strict=True)])

        missed = np.take_along_axis(weights.positives_below, self._not_above[last[:, :-1]], axis=1)
        found = 1 - ratio(missed, np.broadcast_to(positives, missed.shape))
        width, first = 1 - HIGH_SPECIFICITY, int(last[:, -1].min())  # below it no specificity is high
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = 1 - np.take(weights.positives_below, self._not_above[first:], axis=1) / positives
            alarms = np.minimum(1 - below[:, first:] / negatives, width)
        partial = ((alarms[:, :-1] - alarms[:, 1:]) * reached).sum(axis=1) / width
        defined = (positives > 0) & (negatives > 0)
        return np.concatenate([found, np.where(defined, partial[:, None], np.nan)], axis=1)


class RankAUC:
    """Area under the ROC curve of one class: the `auc` of `OneVsRest`."""

    def __init__(self, positive: BoolArray, negative: BoolArray, y_score: FloatArray):
        """Sort once; arguments as of `ScoreOrder`."""
        self._order = ScoreOrder(positive, negative, y_score)
        self._class = OneVsRest(self._order)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._class.auc(self._order(weights))


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
    """Sensitivity over specificity with a pointwise band; arguments as of `ScoreOrder`, resampled as the bootstrap
    says."""
    order = ScoreOrder(positive, negative, y_score)
    curve = AtSpecificity(order, ROC_SPECIFICITIES)
    estimates = curve(order(np.ones((1, len(y_score)))))[0, :-1]
    if np.isnan(estimates).all():
        unknown = (math.nan,) * len(ROC_SPECIFICITIES)
        return RocBand(ROC_SPECIFICITIES, unknown, unknown, unknown)
    drawn = np.concatenate([curve(order(weights)) for weights in bootstrap.weights()])
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
        orders = [
            ScoreOrder(y_true == index, (y_true >= 0) & (y_true != index), y_score[:, index])
            for index in range(len(classes))
        ]
        self._by_class = [(order, OneVsRest(order), AtSpecificity(order, [HIGH_SPECIFICITY])) for order in orders]
        self._over_classes = HandTillAUC(y_true, y_score) if len(classes) > 2 else None
        of_class = ("auc", "average_precision", "sensitivity_at_specificity", "partial_auc")
        by_class = [metric_of_class(metric, name) for name in classes for metric in of_class]
        self.names: tuple[str, ...] = ("auc", *by_class)

    def __call__(self, weights: FloatArray) -> FloatArray:
        by_class: list[FloatArray] = []
        for order, one_vs_rest, at_specificity in self._by_class:
            ordered = order(weights)
            by_class += [one_vs_rest(ordered), at_specificity(ordered)]
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
