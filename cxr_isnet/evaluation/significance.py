"""Tests of two models on the same patients, and the correction for making many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, chi2

from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class McNemar:
    """Whether one model is right more often than another.

    Attributes:
        only_first: images that only the first has right.
        only_second: images that only the second has right.
        p: two-sided; NaN with a single patient.
        method: how it was found, in words.
    """

    only_first: int
    only_second: int
    p: float
    method: str


def mcnemar(first_right: BoolArray, second_right: BoolArray, patients: IntArray) -> McNemar:
    """McNemar's test on images, which may share patients.

    Args:
        first_right: (N,) whether the first model is right.
        second_right: (N,) whether the second is.
        patients: (N,) number of the patient.

    Returns:
        One image per patient: the exact binomial test of the discordant images. Several: chi-square of the patients'
        sums D of discordances, (sum D)^2 / sum D^2, which is McNemar's statistic when each has one image (Durkalski
        et al., Statistics in Medicine 22:2417, 2003).
    """
    gap = first_right.astype(np.int64) - second_right.astype(np.int64)
    only_first, only_second = int((gap > 0).sum()), int((gap < 0).sum())
    if len(np.unique(patients)) < 2:
        return McNemar(only_first, only_second, np.nan, "undefined: a single patient")
    if len(np.unique(patients)) == len(patients):
        discordant = only_first + only_second
        p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
        return McNemar(only_first, only_second, p, "exact McNemar test")
    sums = np.bincount(patients, weights=gap)
    spread = float((sums**2).sum())
    p = float(chi2.sf(sums.sum() ** 2 / spread, 1)) if spread else 1.0
    return McNemar(only_first, only_second, p, "McNemar test for clustered pairs (Durkalski)")


def holm(p_values: Sequence[float]) -> FloatArray:
    """Holm's step-down correction: p-values that hold together at the level at which each is read.

    Args:
        p_values: of the tests; NaN is no test and stays NaN.
    """
    given: FloatArray = np.asarray(p_values, dtype=np.float64)
    corrected: FloatArray = np.full(len(given), np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return corrected
