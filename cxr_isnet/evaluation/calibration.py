"""Whether probabilities mean what they say: reliability, scores, slope, temperature, net benefit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp

from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray

BINS = 10
"""Bins of equal width over [0, 1], of the reliability curve, ECE and the decomposition of the Brier score."""

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""

MOST_TEMPERATURE = 100.0
_AT_BOUND = 1e-3


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose probability falls into one bin.

    Attributes:
        low: lower end of the bin.
        high: upper end; belongs to the bin above, but for 1.
        n: images.
        predicted: mean probability; NaN in an empty bin.
        observed: share of them of the class; NaN in an empty bin.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Calibration of the probability of one class against the rest.

    Attributes:
        bins: the reliability curve.
        ece: expected calibration error, the mean over images of |observed - predicted| of their bin.
        brier: mean squared error of the probability.
        reliability: Murphy's term of miscalibration, of the bins: lower is better.
        resolution: Murphy's term of separation, of the bins: higher is better.
        uncertainty: Murphy's term of the prevalence.
        within_bins: what remains of the Brier score, brier = reliability - resolution + uncertainty + within_bins,
            because a bin's probabilities are not all alike.
        slope: of the logistic regression of the label on the logit of the probability; 1 is right, below 1 says too
            extreme. NaN where it does not exist: one class only, all probabilities alike, or classes wholly apart.
        intercept: calibration in the large: of that regression with its slope held at 1; 0 is right.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float
    slope: float
    intercept: float


def calibration(y_true: BoolArray, y_prob: FloatArray) -> Calibration:
    """Calibration of labelled images.

    Args:
        y_true: (N,) whether an image is of the class.
        y_prob: (N,) of the class, in [0, 1].
    """
    n_images = len(y_true)
    if not n_images:
        return Calibration(_bins(y_true, y_prob), *([np.nan] * 8))
    bins = _bins(y_true, y_prob)
    used = [found for found in bins if found.n]
    prevalence = float(y_true.mean())
    share = np.array([found.n for found in used]) / n_images
    predicted = np.array([found.predicted for found in used])
    observed = np.array([found.observed for found in used])
    brier = float(np.mean((y_prob - y_true) ** 2))
    reliability = float(share @ (predicted - observed) ** 2)
    resolution = float(share @ (observed - prevalence) ** 2)
    uncertainty = prevalence * (1 - prevalence)
    slope, intercept = _slope_and_intercept(y_true, y_prob)
    return Calibration(
        bins=bins,
        ece=float(share @ np.abs(predicted - observed)),
        brier=brier,
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within_bins=brier - (reliability - resolution + uncertainty),
        slope=slope,
        intercept=intercept,
    )


def _bins(y_true: BoolArray, y_prob: FloatArray) -> tuple[ReliabilityBin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip((y_prob * BINS).astype(np.int64), 0, BINS - 1)
    bins = []
    for index in range(BINS):
        here = place == index
        n = int(here.sum())
        means = (float(y_prob[here].mean()), float(y_true[here].mean())) if n else (np.nan, np.nan)
        bins.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), n, *means))
    return tuple(bins)


def _slope_and_intercept(y_true: BoolArray, y_prob: FloatArray) -> tuple[float, float]:
    if y_true.all() or not y_true.any():
        return np.nan, np.nan
    x = logit(np.clip(y_prob, SMALLEST, 1 - SMALLEST))
    intercept = float(minimize_scalar(lambda a: _log_loss(y_true, a + x), bounds=(-30, 30), method="bounded").x)
    apart = x[y_true].min() >= x[~y_true].max() or x[y_true].max() <= x[~y_true].min()
    if apart:
        return np.nan, intercept
    fitted = minimize(
        lambda at: _log_loss(y_true, at[0] + at[1] * x),
        x0=np.array([0.0, 1.0]),
        jac=lambda at: _gradient(y_true, x, at),
        method="BFGS",
    )
    return float(fitted.x[1]), intercept


def _log_loss(y_true: BoolArray, logits: FloatArray) -> float:
    return float(np.mean(np.logaddexp(0, logits) - y_true * logits))


def _gradient(y_true: BoolArray, x: FloatArray, at: FloatArray) -> FloatArray:
    error = expit(at[0] + at[1] * x) - y_true
    return np.array([error.mean(), (error * x).mean()])


def fit_temperature(y_true: IntArray, y_prob: FloatArray) -> float:
    """The temperature of least log loss on labelled images (Guo et al. 2017).

    Args:
        y_true: (N,) index of the class; -1 where unknown.
        y_prob: (N, C).

    Returns:
        Above 1: the probabilities are too extreme. NaN without labels, and where the label is the most probable class
        of every image: any lower temperature then has a lower loss, and none is the least. Infinite where equal
        probabilities of all classes have a lower loss than those of any temperature: the model tells nothing here.
    """
    known = y_true >= 0
    logs = np.log(np.clip(y_prob[known], SMALLEST, None))
    chosen = (np.arange(len(logs)), y_true[known])
    if not known.any() or (logs[chosen] == logs.max(axis=1)).all():
        return np.nan

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[chosen]))

    reach = np.log(MOST_TEMPERATURE)
    best = minimize_scalar(loss, bounds=(-reach, reach), method="bounded")
    if abs(best.x) > reach - _AT_BOUND:
        return np.inf if best.x > 0 else np.nan
    return float(np.exp(best.x))


def with_temperature(probabilities: FloatArray, temperature: float | FloatArray) -> FloatArray:
    """Probabilities (N, C) after dividing the logits by the temperature, one for all or (N,) each its own.

    An infinite one gives all classes the same probability.
    """
    scaled = np.log(np.clip(probabilities, SMALLEST, None)) / np.reshape(temperature, (-1, 1))
    return np.asarray(np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True)), dtype=np.float64)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of acting on a probability (Vickers & Elkin 2006).

    Attributes:
        thresholds: (T,) probabilities from which one acts.
        model: (T,) net benefit of the model: true positives less false positives, the latter weighed by the odds of
            the threshold, per image.
        act_on_all: (T,) net benefit of acting on everyone; acting on no one has 0.
    """

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    act_on_all: tuple[float, ...]


THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))


def decision_curve(y_true: BoolArray, y_prob: FloatArray, thresholds: Sequence[float] = THRESHOLDS) -> DecisionCurve:
    """Net benefit over thresholds in (0, 1); NaN without images. Arguments as of `calibration`."""
    n_images = len(y_true)
    if not n_images:
        unknown = tuple(np.nan for _ in thresholds)
        return DecisionCurve(tuple(thresholds), unknown, unknown)
    at = np.asarray(thresholds, dtype=np.float64)
    odds = at / (1 - at)
    acted = [np.sort(y_prob[rows]) for rows in (y_true, ~y_true)]
    hits, alarms = (len(scores) - np.searchsorted(scores, at, side="left") for scores in acted)
    prevalence = float(y_true.mean())
    model = hits / n_images - alarms / n_images * odds
    everyone = prevalence - (1 - prevalence) * odds
    return DecisionCurve(tuple(thresholds), tuple(map(float, model)), tuple(map(float, everyone)))
