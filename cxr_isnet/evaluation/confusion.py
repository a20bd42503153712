"""Formulas of the confusion matrix, for many matrices at once: of resamples, or of a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Numerator over denominator; NaN where the denominator is not above zero."""
    answer: FloatArray = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=answer, where=denominator > 0)
    return answer


def metric_of_class(metric: str, class_name: str) -> str:
    """Key of a metric of one class, as `sensitivity of covid`."""
    return f"{metric} of {class_name}"


def classes_present(y_true: IntArray) -> list[int]:
    """Indices of the classes that occur in `y_true` (N,), ascending; -1, an unknown label, is no class."""
    return [int(index) for index in np.unique(y_true) if index >= 0]


def confusion_matrix(y_true: IntArray, y_pred: IntArray, n_classes: int) -> IntArray:
    """Counts (C, C): rows the true class, columns the predicted one; unlabelled images (-1) left out."""
    known = y_true >= 0
    cells = y_true[known] * n_classes + y_pred[known]
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


@dataclass(frozen=True)
class ConfusionMatrices:
    """R confusion matrices of the same C classes. The counts below are of each class against the rest, (R, C).

    Attributes:
        cells: (R, C, C) counts or shares, rows the true class, columns the predicted one.
        present: indices of the classes that means over classes are of.
        prevalence: (C,) stated share of the patients; NaN where none is stated.
    """

    cells: FloatArray
    present: Sequence[int]
    prevalence: FloatArray

    @cached_property
    def total(self) -> FloatArray:
        """All images (R,)."""
        return np.asarray(self.cells.sum(axis=(1, 2)), dtype=np.float64)

    @cached_property
    def true_positives(self) -> FloatArray:
        """Images of the class, predicted so."""
        return np.diagonal(self.cells, axis1=1, axis2=2)

    @cached_property
    def positives(self) -> FloatArray:
        """Images of the class."""
        return np.asarray(self.cells.sum(axis=2), dtype=np.float64)

    @cached_property
    def predicted_positives(self) -> FloatArray:
        """Images predicted as the class."""
        return np.asarray(self.cells.sum(axis=1), dtype=np.float64)

    @cached_property
    def negatives(self) -> FloatArray:
        """Images of any other class."""
        return self.total[:, None] - self.positives

    @cached_property
    def true_negatives(self) -> FloatArray:
        """Images of any other class, predicted as any other class."""
        return self.negatives - (self.predicted_positives - self.true_positives)

    def if_told_apart(self, by_class: FloatArray) -> FloatArray:
        """Values by class (R, C); NaN of the images of a single class, where nothing is told apart."""
        return by_class if len(self.present) > 1 else np.full(by_class.shape, np.nan)

    def mean_over_present(self, by_class: FloatArray) -> FloatArray:
        """Mean (R,) of values by class over the classes present; NaN where one of them is, and of fewer than two."""
        if len(self.present) < 2:
            return np.full(len(by_class), np.nan)
        return np.asarray(by_class[:, list(self.present)].mean(axis=1), dtype=np.float64)


def accuracy(of: ConfusionMatrices) -> FloatArray:
    """Share of the labelled images that are predicted right (R,)."""
    return ratio(of.true_positives.sum(axis=1), of.total)


def balanced_accuracy(of: ConfusionMatrices) -> FloatArray:
    """Mean sensitivity over the classes present (R,)."""
    return of.mean_over_present(sensitivity(of))


def macro_f1(of: ConfusionMatrices) -> FloatArray:
    """Mean F1 over the classes present (R,)."""
    return of.mean_over_present(f1(of))


def sensitivity(of: ConfusionMatrices) -> FloatArray:
    """Share of the images of a class that are predicted so (R, C)."""
    return ratio(of.true_positives, of.positives)


def specificity(of: ConfusionMatrices) -> FloatArray:
    """Share of the images of any other class that are not predicted as the class (R, C)."""
    return ratio(of.true_negatives, of.negatives)


def ppv(of: ConfusionMatrices) -> FloatArray:
    """Positive predictive value, or precision, of each class (R, C); NaN of the images of a single class."""
    return of.if_told_apart(ratio(of.true_positives, of.predicted_positives))


def npv(of: ConfusionMatrices) -> FloatArray:
    """Negative predictive value of each class (R, C); NaN of the images of a single class."""
    return of.if_told_apart(ratio(of.true_negatives, of.total[:, None] - of.predicted_positives))


def f1(of: ConfusionMatrices) -> FloatArray:
    """F1 = 2 TP / (positives + predicted positives) of each class (R, C); NaN without an image of the class, and of the
    images of a single class."""
    found = np.where(of.positives > 0, ratio(2 * of.true_positives, of.positives + of.predicted_positives), np.nan)
    return of.if_told_apart(found)


def positive_likelihood_ratio(of: ConfusionMatrices) -> FloatArray:
    """Sensitivity / (1 - specificity) of each class (R, C): by how much a positive answer multiplies the odds."""
    return ratio(sensitivity(of), 1 - specificity(of))


def negative_likelihood_ratio(of: ConfusionMatrices) -> FloatArray:
    """(1 - sensitivity) / specificity of each class (R, C): by how much a negative answer multiplies the odds."""
    return ratio(1 - sensitivity(of), specificity(of))


def ppv_at_prevalence(of: ConfusionMatrices) -> FloatArray:
    """PPV (R, C) where a class has its stated share of the patients (Bayes' theorem)."""
    found, alarms = sensitivity(of) * of.prevalence, (1 - specificity(of)) * (1 - of.prevalence)
    return ratio(found, found + alarms)


def npv_at_prevalence(of: ConfusionMatrices) -> FloatArray:
    """NPV (R, C) where a class has its stated share of the patients (Bayes' theorem)."""
    cleared, missed = specificity(of) * (1 - of.prevalence), (1 - sensitivity(of)) * of.prevalence
    return ratio(cleared, cleared + missed)
