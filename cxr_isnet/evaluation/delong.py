"""DeLong's variance of the AUC, without resampling, also when patients have several images.

DeLong, DeLong, Clarke-Pearson, Biometrics 44:837 (1988); with clusters Obuchowski, Biometrics 53:567 (1997). With one
image per patient the second is the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray
from cxr_isnet.evaluation.interval import FEW_PATIENTS, Interval, IntervalMethod, logit_interval, student_interval

_NO_VARIANCE = 1e-18


@dataclass(frozen=True)
class DeLongTest:
    """Whether two AUCs of the same images differ.

    Attributes:
        difference: first minus second AUC.
        p: two-sided p-value of there being no difference; NaN where undefined.
    """

    difference: Interval
    p: float


@dataclass(frozen=True)
class CorrelatedAUCs:
    """AUCs of several scores of the same images.

    Attributes:
        areas: (K,) areas under the ROC curves; NaN where one of both classes is lacking.
        covariance: (K, K); NaN with fewer than two patients of a class.
        patients: of the class that has fewer.
    """

    areas: FloatArray
    covariance: FloatArray
    patients: int

    def area(self, index: int) -> Interval:
        """One AUC with its interval, symmetric in the logit; of scores wholly apart, as `score_interval` of a share."""
        error = float(np.sqrt(self.covariance[index, index]))
        return self._delong(logit_interval(float(self.areas[index]), error, self.patients))

    def difference(self, first: int, second: int) -> DeLongTest:
        """First minus second AUC, with the p-value of there being no difference."""
        weights = np.zeros(len(self.areas))
        weights[first] += 1
        weights[second] -= 1
        return delong_test(float(weights @ self.areas), float(weights @ self.covariance @ weights), self.patients)

    def _delong(self, found: Interval) -> Interval:
        return replace(found, method=IntervalMethod.DELONG, approximate=self.patients < FEW_PATIENTS)


def delong_test(difference: float, variance: float, patients: int) -> DeLongTest:
    """A difference of AUCs with its interval and p-value, by Student's distribution; NaN where it has no variance.

    Args:
        difference: of the AUCs.
        variance: of the difference.
        patients: that it rests on, of the class that has fewer.
    """
    error = float(np.sqrt(variance)) if variance > _NO_VARIANCE else float("nan")
    found = student_interval(difference, error, patients)
    found = replace(found, low=max(-1.0, found.low), high=min(1.0, found.high))
    p = 2 * student.sf(abs(difference) / error, max(patients - 1, 1))
    return DeLongTest(replace(found, method=IntervalMethod.DELONG, approximate=patients < FEW_PATIENTS), float(p))


def correlated_aucs(
    positive: BoolArray, negative: BoolArray, scores: Sequence[FloatArray], patients: IntArray
) -> CorrelatedAUCs:
    """AUCs and their covariance.

    Args:
        positive: (N,) images of the positive class.
        negative: (N,) images of the negative class; images in neither do not count.
        scores: K arrays (N,), higher means more positive.
        patients: (N,) number of the patient of each image.

    Returns:
        Ties count half. The covariance is over patients, whose images may be of both classes.
    """
    n_scores, n_positive, n_negative = len(scores), int(positive.sum()), int(negative.sum())
    unknown = np.full((n_scores, n_scores), np.nan)
    if not n_positive or not n_negative:
        return CorrelatedAUCs(np.full(n_scores, np.nan), unknown, 0)
    of_positive = np.stack([_placements(score[positive], score[negative]) for score in scores], axis=1)
    of_negative = np.stack([1 - _placements(score[negative], score[positive]) for score in scores], axis=1)
    areas = of_positive.mean(axis=0)
    n_patients = int(patients.max()) + 1
    above = _sums(of_positive - areas, patients[positive], n_patients)
    below = _sums(of_negative - areas, patients[negative], n_patients)
    with_positive, with_negative = (len(np.unique(patients[rows])) for rows in (positive, negative))
    if with_positive < 2 or with_negative < 2:
        return CorrelatedAUCs(areas, unknown, min(with_positive, with_negative))
    with_any = len(np.unique(patients[positive | negative]))
    s10 = above.T @ above * with_positive / ((with_positive - 1) * n_positive)
    s01 = below.T @ below * with_negative / ((with_negative - 1) * n_negative)
    s11 = above.T @ below * with_any / (with_any - 1)
    covariance = s10 / n_positive + s01 / n_negative + (s11 + s11.T) / (n_positive * n_negative)
    return CorrelatedAUCs(areas, covariance, min(with_positive, with_negative))


def _placements(ones: FloatArray, others: FloatArray) -> FloatArray:
    """Of every one, the share of the others below it, ties half."""
    together = rankdata(np.concatenate([ones, others]))[: len(ones)]
    return np.asarray((together - rankdata(ones)) / len(others), dtype=np.float64)


def _sums(values: FloatArray, patients: IntArray, n_patients: int) -> FloatArray:
    """Sum of the rows of each patient (P, K)."""
    columns = [np.bincount(patients, weights=values[:, k], minlength=n_patients) for k in range(values.shape[1])]
    return np.stack(columns, axis=1)
