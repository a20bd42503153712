"""Whether probabilities mean what they say: reliability, scores, slope, temperature, net benefit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.sparse import csr_array
from scipy.special import expit, logit, logsumexp

from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray, metric_of_class, ratio
from cxr_isnet.evaluation.interval import student_quantile

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
    (_, slope), intercept = _logistic_fits(y_true, y_prob)
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


def bin_of(y_prob: FloatArray) -> IntArray:
    """The bin (N,) that each probability falls into."""
    return np.clip((y_prob * BINS).astype(np.int64), 0, BINS - 1)


def recalibrated(y_true: BoolArray, y_prob: FloatArray) -> FloatArray:
    """The probabilities (N,) after logistic recalibration on the same images, of the intercept alone where there is no
    slope; NaN where a class is lacking."""
    (start, slope), intercept = _logistic_fits(y_true, y_prob)
    at, factor = (start, slope) if np.isfinite(slope) else (intercept, 1.0)
    return np.asarray(expit(at + factor * _logits(y_prob)), dtype=np.float64)


def _bins(y_true: BoolArray, y_prob: FloatArray) -> tuple[ReliabilityBin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    place = bin_of(y_prob)
    bins = []
    for index in range(BINS):
        here = place == index
        n = int(here.sum())
        means = (float(y_prob[here].mean()), float(y_true[here].mean())) if n else (np.nan, np.nan)
        bins.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), n, *means))
    return tuple(bins)


def _logistic_fits(y_true: BoolArray, y_prob: FloatArray) -> tuple[tuple[float, float], float]:
    """Intercept and slope of the label on the logit of the probability, and the intercept with the slope held at 1."""
    if y_true.all() or not y_true.any():
        return (np.nan, np.nan), np.nan
    x = _logits(y_prob)
    intercept = float(minimize_scalar(lambda a: _log_loss(y_true, a + x), bounds=(-30, 30), method="bounded").x)
    apart = x[y_true].min() >= x[~y_true].max() or x[y_true].max() <= x[~y_true].min()
    if apart:
        return (np.nan, np.nan), intercept
    fitted = minimize(
        lambda at: _log_loss(y_true, at[0] + at[1] * x),
        x0=np.array([0.0, 1.0]),
        jac=lambda at: _gradient(y_true, x, at),
        method="BFGS",
    )
    return (float(fitted.x[0]), float(fitted.x[1])), intercept


def _logits(y_prob: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(y_prob, SMALLEST, 1 - SMALLEST)), dtype=np.float64)


class CalibrationMetrics:
    """The family of `brier`, and by class `brier`, `ece`, `calibration_slope`, `calibration_intercept` and
    `expected_observed`, the sum of the probabilities over the images of the class.

    `brier` of all classes is half the mean squared distance of the probabilities from the label; of two classes, that
    of either. Slope and intercept of a weighting are one step of Newton's method away from those of the images as they
    are: all that a weighting needs is then a product of matrices, and the error is of the order of the step's square.
    """

    def __init__(self, y_true: IntArray, y_score: FloatArray, classes: Sequence[str]):
        """Fit once per class.

        Args:
            y_true: (N,) index of the class; -1 where unknown.
            y_score: (N, C) probabilities.
            classes: C names.
        """
        of_class = ("brier", "ece", "calibration_slope", "calibration_intercept", "expected_observed")
        self.names: tuple[str, ...] = ("brier", *(metric_of_class(m, name) for name in classes for m in of_class))
        known = np.flatnonzero(y_true >= 0)
        self._fits: list[tuple[float, float]] = []
        self._sums = np.zeros((1 + len(classes) * _SUMS, len(y_true)))
        self._sums[0, known] = 1
        places: list[IntArray] = []
        for index in range(len(classes)):
            of_class, of_score = y_true[known] == index, y_score[known, index]
            slope_and_intercept, sums = _sums_of_class(of_class, of_score)
            self._fits.append(slope_and_intercept)
            for row, values in enumerate(sums, start=1 + index * _SUMS):
                self._sums[row, known] = values
            places.append(index * BINS + bin_of(of_score))
        errors = (y_score[known] - (y_true[known, None] == np.arange(len(classes)))).T.ravel()
        cells = (np.tile(known, len(classes)), np.concatenate(places))
        self._bins = csr_array((errors, cells), shape=(len(y_true), len(classes) * BINS))

    def __call__(self, weights: FloatArray) -> FloatArray:
        sums = weights @ self._sums.T
        gaps = np.abs(weights @ self._bins).reshape(len(weights), len(self._fits), BINS).sum(axis=2)
        images = sums[:, 0]
        columns: list[FloatArray] = []
        squares = np.zeros(len(weights))
        for index, (slope, intercept) in enumerate(self._fits):
            start = 1 + index * _SUMS
            square, expected, observed, g0, g1, h0, h1, h2, ga, ha = sums[:, start : start + _SUMS].T
            squares += square
            step = ratio(h0 * g1 - h1 * g0, h0 * h2 - h1**2)
            told_apart = (observed > 0) & (observed < images)
            found = (
                ratio(square, images),
                ratio(gaps[:, index], images),
                np.where(told_apart, slope + step, np.nan),
                np.where(told_apart, intercept + ratio(ga, ha), np.nan),
                ratio(expected, observed),
            )
            columns += list(found)
        return np.stack([ratio(squares / 2, images), *columns], axis=1)


_SUMS = 10


def _sums_of_class(y_true: BoolArray, y_prob: FloatArray) -> tuple[tuple[float, float], list[FloatArray]]:
    """Slope and intercept of a class, and `_SUMS` arrays (N,) whose weighted sums give every metric of it but ECE."""
    (start, slope), intercept = _logistic_fits(y_true, y_prob)
    x, label = _logits(y_prob), y_true.astype(np.float64)
    fitted = expit(np.nan_to_num(start) + (slope if np.isfinite(slope) else 1.0) * x)
    shifted = expit(np.nan_to_num(intercept) + x)
    spread = fitted * (1 - fitted)
    error = label - fitted
    columns = [(y_prob - label) ** 2, y_prob, label, error, error * x, spread, spread * x, spread * x**2]
    columns += [label - shifted, shifted * (1 - shifted)]
    return (slope, intercept), columns


@dataclass(frozen=True)
class CalibrationCurve:
    """A smooth calibration curve with its 95% band.

    Attributes:
        predicted: (P,) probabilities.
        observed: (P,) share of the images of such a probability that are of the class.
        low: (P,) lower end of the band at each point.
        high: (P,) upper end.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


CURVE_POINTS = 41


def calibration_curve(y_true: BoolArray, y_prob: FloatArray, patients: IntArray) -> CalibrationCurve | None:
    """Logistic regression of the label on a restricted cubic spline, of three knots, of the logit of the probability.

    Args:
        y_true: (N,) whether an image is of the class.
        y_prob: (N,) of the class.
        patients: (N,) number of the patient; the band's variance is over patients.

    Returns:
        None where it does not exist: fewer than three patients of a kind, probabilities that hardly vary, or classes
        that are wholly apart.

    Source:
        Harrell, Regression Modeling Strategies (2015), section 2.4.5. Van Calster et al., Journal of Clinical
        Epidemiology 74:167 (2016) on flexible calibration curves.
    """
    kinds = [len(np.unique(patients[rows])) for rows in (y_true, ~y_true)]
    x = _logits(y_prob)
    knots = np.quantile(x, [0.1, 0.5, 0.9]) if len(x) else np.zeros(3)
    if min(kinds) < 3 or min(np.diff(knots)) < 1e-3:
        return None
    design, label = _spline(x, knots), y_true.astype(np.float64)
    at, slack = np.zeros(3), 1e-6 * np.eye(3)
    for _ in range(50):
        fitted = expit(design @ at)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design + slack
        step = np.linalg.solve(information, design.T @ (label - fitted))
        at += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-8:
            break
    else:
        return None
    scores = design * (label - expit(design @ at))[:, None]
    by_patient = np.stack([np.bincount(patients, weights=column) for column in scores.T], axis=1)
    count = len(np.unique(patients))
    inverse = np.linalg.inv(information)
    covariance = inverse @ (by_patient.T @ by_patient) @ inverse * count / (count - 1)
    points = np.linspace(max(y_prob.min(), SMALLEST), min(y_prob.max(), 1 - SMALLEST), CURVE_POINTS)
    basis = _spline(_logits(points), knots)
    centre = basis @ at
    reach = student_quantile(min(kinds)) * np.sqrt(np.einsum("pi,ij,pj->p", basis, covariance, basis))
    ends = (expit(centre), expit(centre - reach), expit(centre + reach))
    return CalibrationCurve(*(tuple(map(float, values)) for values in (points, *ends)))


def _spline(x: FloatArray, knots: FloatArray) -> FloatArray:
    """Constant, linear and the one restricted cubic term of three knots: (N, 3)."""
    cubes = [np.clip(x - knot, 0, None) ** 3 for knot in knots]
    first, middle, last = knots
    term = cubes[0] - cubes[1] * (last - first) / (last - middle) + cubes[2] * (middle - first) / (last - middle)
    return np.stack([np.ones_like(x), x, term / (last - first) ** 2], axis=1)


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
        low: (T,) lower end of the 95% interval of the model's, over patients; NaN without patients.
        high: (T,) upper end.
    """

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    act_on_all: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))


def decision_curve(
    y_true: BoolArray,
    y_prob: FloatArray,
    patients: IntArray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> DecisionCurve:
    """Net benefit over thresholds in (0, 1), pointwise interval over patients (N,); NaN without images.

    Other arguments as of `calibration`.
    """
    at, unknown = tuple(thresholds), (np.nan,) * len(thresholds)
    if not len(y_true):
        return DecisionCurve(at, unknown, unknown, unknown, unknown)
    odds = np.asarray(at) / (1 - np.asarray(at))
    prevalence = float(y_true.mean())
    everyone = prevalence - (1 - prevalence) * odds
    model, errors = [], []
    count = 0 if patients is None else len(np.unique(patients))
    for threshold, weight in zip(at, odds, strict=True):
        gains = np.where(y_prob >= threshold, np.where(y_true, 1.0, -weight), 0.0)
        model.append(float(gains.mean()))
        errors.append(np.nan if patients is None else _error_over_patients(gains, patients, count))
    kinds = () if patients is None else [len(np.unique(patients[rows])) for rows in (y_true, ~y_true)]
    spread = np.where(np.array(errors) > 0, errors, np.nan)
    reach = student_quantile(min(kinds, default=0)) * spread
    reach = np.where(np.isfinite(reach), reach, np.nan)
    ends = (np.array(model) - reach, np.array(model) + reach)
    return DecisionCurve(at, tuple(model), tuple(map(float, everyone)), *(tuple(map(float, end)) for end in ends))


def _error_over_patients(values: FloatArray, patients: IntArray, count: int) -> float:
    """Standard error of the mean of images, of which so many patients have several."""
    sums = np.bincount(patients, weights=values - values.mean())
    return float(np.sqrt((sums**2).sum() * count / (count - 1))) / len(values) if count > 1 else float("nan")
