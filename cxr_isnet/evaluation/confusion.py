"""Rates of a confusion matrix, for many matrices at once: of resamples, or of a posterior."""

from collections.abc import Mapping, Sequence

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


CLASS_RATES = ("sensitivity", "specificity", "ppv", "npv", "f1")
PREVALENCE_RATES = ("ppv_at_prevalence", "npv_at_prevalence")


def rate_of_class(rate: str, name: str) -> str:
    """Key of a rate of one class, as `sensitivity of covid`."""
    return f"{rate} of {name}"


def confusion_matrix(labels: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Counts (C, C): rows the true class, columns the predicted one; unlabelled images (-1) left out."""
    known = labels >= 0
    cells = labels[known] * n_classes + predicted[known]
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


def confusion_rates(
    cells: FloatArray,
    classes: Sequence[str],
    present: Sequence[int],
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, FloatArray]:
    """Rates of many confusion matrices.

    Args:
        cells: (R, C, C) counts or shares, rows the true class, columns the predicted one.
        classes: C names.
        present: the classes that the means of `balanced_accuracy` and `macro_f1` are over.
        prevalence: by class the share for which PPV and NPV are computed anew, from sensitivity and specificity.

    Returns:
        Rate to values (R,): accuracy; balanced accuracy, the mean sensitivity; macro F1; and per class sensitivity,
        specificity, PPV, NPV and F1 = 2 TP / (labelled so + predicted so). NaN where a rate is undefined: no image of
        the class, none predicted so, or a mean in which a class is lacking.
    """
    total = cells.sum(axis=(1, 2))
    hits = np.diagonal(cells, axis1=1, axis2=2)
    labelled, predicted = cells.sum(axis=2), cells.sum(axis=1)
    rest = total[:, None] - labelled
    negatives = rest - (predicted - hits)
    sensitivity, specificity = ratio(hits, labelled), ratio(negatives, rest)
    f1 = np.where(labelled > 0, ratio(2 * hits, labelled + predicted), np.nan)
    by_class = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": ratio(hits, predicted),
        "npv": ratio(negatives, total[:, None] - predicted),
        "f1": f1,
    }
    rates = {
        "accuracy": ratio(hits.sum(axis=1), total),
        "balanced_accuracy": _mean_over(sensitivity, present),
        "macro_f1": _mean_over(f1, present),
    }
    for index, name in enumerate(classes):
        rates |= {rate_of_class(rate, name): values[:, index] for rate, values in by_class.items()}
        share = (prevalence or {}).get(name)
        if share is not None:
            ppv, npv = at_prevalence(sensitivity[:, index], specificity[:, index], share)
            rates[rate_of_class("ppv_at_prevalence", name)] = ppv
            rates[rate_of_class("npv_at_prevalence", name)] = npv
    return rates


def at_prevalence(sensitivity: FloatArray, specificity: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
    """PPV and NPV (R,) where a class has this share of the patients (Bayes' theorem)."""
    found, alarms = sensitivity * share, (1 - specificity) * (1 - share)
    cleared, missed = specificity * (1 - share), (1 - sensitivity) * share
    return ratio(found, found + alarms), ratio(cleared, cleared + missed)


class ConfusionRates:
    """All rates of the confusion matrix, as a family of metrics; see `confusion_rates`."""

    def __init__(
        self,
        labels: IntArray,
        predicted: IntArray,
        classes: Sequence[str],
        prevalence: Mapping[str, float] | None = None,
    ):
        """Find the cell of every image once.

        Args:
            labels: (N,) index of the class; -1 where unknown.
            predicted: (N,) index of the predicted class.
            classes: C names.
            prevalence: as for `confusion_rates`.
        """
        self._classes, self._prevalence = tuple(classes), prevalence
        self._present = [int(index) for index in np.unique(labels) if index >= 0]
        known = np.flatnonzero(labels >= 0)
        self._cells = np.zeros((len(labels), len(classes) ** 2))
        self._cells[known, labels[known] * len(classes) + predicted[known]] = 1
        self.names = tuple(self._rates(np.zeros((1, len(classes) ** 2))))

    def __call__(self, weights: FloatArray) -> FloatArray:
        return np.stack(list(self._rates(weights @ self._cells).values()), axis=1)

    def _rates(self, cells: FloatArray) -> dict[str, FloatArray]:
        n_classes = len(self._classes)
        matrices = cells.reshape(len(cells), n_classes, n_classes)
        return confusion_rates(matrices, self._classes, self._present, self._prevalence)


def _mean_over(values: FloatArray, present: Sequence[int]) -> FloatArray:
    if not len(present):
        return np.full(len(values), np.nan)
    return np.asarray(values[:, list(present)].mean(axis=1), dtype=np.float64)
