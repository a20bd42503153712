"""The 95% interval of the expected calibration error (ECE), which no standard error gives.

The ECE is a sum of absolute values. Where a bin is right, noise of either sign adds to it, so that the ECE of few
images lies above that of many, and a bootstrap takes it further up. Its interval is found by inverting a test instead:
it holds every ECE of which the observed one would be neither among the 1.5% lowest nor among the 3.5% highest. What
would be observed of an ECE also depends on which bins it comes from: that is taken from the logistic recalibration of
these probabilities, which has two numbers only and so hardly any noise, scaled up and down to the ECE in question.
An ECE that is lower than chance gives to probabilities that are right would leave nothing: the upper end is at least
that of the lowest 5% of what chance gives to them. So the ECE of a model that is nearly right is hardly ever above its
interval, for which its lower end has the larger share of the 5%.

How often it covers is measured: `docs/results.md`, `benchmarks/interval_coverage.py`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_matrix

from cxr_isnet.evaluation.calibration import BINS, bin_of, recalibrated
from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray
from cxr_isnet.evaluation.interval import Interval, IntervalMethod, no_interval, student_quantile

DRAWS = 1000
"""Draws of the noise, with either sign; the same in every call, so that the same images have the same interval."""

LOWER, UPPER = 0.035, 0.015
"""Share of the data sets whose interval is to lie above, and below, the true ECE."""

LOWEST = 0.05
"""Share of what is seen of an ECE of 0 below which no more is made of a lower one."""

_NORMAL = 1.959964
_PRECISION = 1e-5


def ece_interval(y_true: BoolArray, y_prob: FloatArray, patients: IntArray, smallest: int) -> Interval:
    """ECE of a class against the rest with its interval.

    Args:
        y_true: (N,) whether an image is of the class.
        y_prob: (N,) of the class, in [0, 1].
        patients: (N,) number of the patient; the noise is that of resampled patients.
        smallest: patients of the class or of the rest, whichever are fewer.

    Returns:
        The estimate may lie above the interval: that of few images is too high. Its standard error is that of the
        observed ECE if the true one were the middle of the interval. No interval where a class is lacking, and where
        every probability is the label, so that nothing varies.

    Source:
        Chuang & Lai, Statistica Sinica 10:1 (2000): tests inverted along a curve through the parameters (hybrid
        resampling).
    """
    place, error = bin_of(y_prob), y_prob - y_true
    bins = _summed(place, error) / max(len(error), 1)
    observed = float(np.abs(bins).sum())
    direction = _summed(place, y_prob - recalibrated(y_true, y_prob))
    if smallest < 2 or not np.isfinite(direction).all() or not error.any():
        return no_interval(observed if len(error) else np.nan, IntervalMethod.TEST_INVERSION)
    length = float(np.abs(direction).sum())
    shape = direction / length if length > 0 else np.full(BINS, 1 / BINS)
    noise = _noise(_covariance(place, error, patients, bins)) * (student_quantile(smallest) / _NORMAL)

    def seen(ece: float) -> FloatArray:
        return np.asarray(np.abs(ece * shape + noise).sum(axis=1), dtype=np.float64)

    def end(level: float, of: float) -> float:
        """The ECE of which so much would be seen at this level from below; 0 where even of none more would be."""
        if np.quantile(seen(0.0), level) >= of:
            return 0.0
        top = of + float(np.abs(noise).sum(axis=1).max())
        return float(brentq(lambda ece: np.quantile(seen(ece), level) - of, 0.0, top, xtol=_PRECISION))

    low, high = end(1 - LOWER, observed), end(UPPER, max(observed, float(np.quantile(seen(0.0), LOWEST))))
    spread = float(np.std(seen((low + high) / 2)))
    return Interval(observed, low, high, IntervalMethod.TEST_INVERSION, standard_error=spread)


def _summed(place: IntArray, values: FloatArray) -> FloatArray:
    """Sum of the values (N,) by bin (B,)."""
    return np.asarray(np.bincount(place, weights=values, minlength=BINS), dtype=np.float64)


def _covariance(place: IntArray, error: FloatArray, patients: IntArray, bins: FloatArray) -> FloatArray:
    """Of the bins' means (B, B) over patients, who have more or fewer images."""
    sums = csr_matrix((error, (patients, place)), shape=(int(patients.max()) + 1, BINS))
    images = np.bincount(patients).astype(np.float64)
    count = np.count_nonzero(images)
    crossed = np.outer(bins, sums.T @ images)
    total = (sums.T @ sums).toarray() - crossed - crossed.T + np.outer(bins, bins) * (images @ images)
    return np.asarray(total * count / (count - 1) / len(error) ** 2, dtype=np.float64)


def _noise(covariance: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    drawn = np.random.default_rng(0).normal(size=(DRAWS, BINS)) * np.sqrt(np.clip(values, 0, None))
    return np.asarray(np.concatenate([drawn, -drawn]) @ vectors.T, dtype=np.float64)
