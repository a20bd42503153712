"""A number with its 95% interval, whatever method found it, and the intervals that need no more than a standard error.

Few patients need three things that estimate -+ 1.96 standard errors lacks: Student's quantile, since the error is
itself estimated from those patients; a scale on which the error is about normal; and an answer at 0% and 100%, where
the error is 0. A share gets Wilson's score interval (Wilson, JASA 22:209, 1927) with the sample size that would have
had this error, which is the number of images divided by the design effect of several images per patient; at 0% and
100%, that is the number of patients (Korn & Graubard, Survey Methodology 24:193, 1998, do so with the interval of
Clopper and Pearson). How often each covers is measured: `docs/results.md`, `benchmarks/interval_coverage.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import t as student

LEVELS = (0.025, 0.975)

FEW_PATIENTS = 20
"""Intervals that rest on fewer patients are marked as approximate."""

_NO_ERROR = 1e-9


class IntervalMethod(StrEnum):
    """How an interval is found.

    Attributes:
        SCORE: Wilson's score interval of a share, with the effective sample size of a bootstrap over patients.
        LOG: estimate times or over exp(t standard errors of its logarithm), of a bootstrap over patients.
        STUDENT: estimate -+ t standard errors of a bootstrap over patients.
        MOVER: of a difference, recovered from the intervals of its two parts.
        TEST_INVERSION: every value that a test on the observed one does not reject (`calibration_error`).
        SIMULTANEOUS: of a number that was chosen among several; covers at least 95%.
        META: over sites taken as a sample of hospitals (`across_sites`).
        BCA: bootstrap over patients, bias-corrected and accelerated (`bootstrap`).
        PERCENTILE: bootstrap over patients, plain percentiles (`bootstrap`).
        DELONG: of an AUC over patients, with the logit transform; of a difference, without (`delong`).
        TWO_LEVEL: bootstrap over patients and over trainings of one model (`bootstrap`).
        POSTERIOR: highest density of a posterior (`posterior`).
    """

    SCORE = "score"
    LOG = "log"
    STUDENT = "student"
    MOVER = "mover"
    TEST_INVERSION = "test_inversion"
    SIMULTANEOUS = "simultaneous"
    META = "meta"
    BCA = "bca"
    PERCENTILE = "percentile"
    DELONG = "delong"
    TWO_LEVEL = "two_level"
    POSTERIOR = "posterior"


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval.

    Attributes:
        estimate: of the images as they are; the mean of a posterior; NaN where undefined.
        low: lower end; NaN without an interval.
        high: upper end; NaN without an interval.
        method: how the interval was found.
        resamples_used: of a bootstrap, the resamples in which the metric was defined; those that lacked a class are
            left out. None of any other method.
        standard_error: that the interval was made of; NaN where undefined. None where it was not made of one.
        approximate: the interval is known not to cover 95%, or rests on too few patients to say.
        patients: that the interval rests on, of the smallest kind that it needs; None where that is not counted.
    """

    estimate: float
    low: float
    high: float
    method: IntervalMethod
    resamples_used: int | None = None
    standard_error: float | None = None
    approximate: bool = False
    patients: int | None = None

    def to_dict(self) -> dict[str, float | int | str | None]:
        """As JSON can hold it: NaN becomes None, and a field that the method does not have is left out."""
        plain: dict[str, float | int | str | None] = {
            "estimate": _finite(self.estimate),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "method": self.method.value,
        }
        if self.resamples_used is not None:
            plain["resamples_used"] = self.resamples_used
        if self.standard_error is not None:
            plain["standard_error"] = _finite(self.standard_error)
        if self.patients is not None:
            plain["patients"] = self.patients
        return plain | ({"approximate": True} if self.approximate else {})


def no_interval(estimate: float, method: IntervalMethod, standard_error: float | None = None) -> Interval:
    """A number without an interval."""
    return Interval(float(estimate), math.nan, math.nan, method, standard_error=standard_error)


@cache
def student_quantile(patients: int, level: float = 0.95) -> float:
    """Standard errors to either side of an estimate of so many patients; infinite of fewer than two."""
    return float(student.ppf((1 + level) / 2, patients - 1)) if patients > 1 else math.inf


def standard_error(replicates: npt.NDArray[np.float64], patients: int) -> float:
    """Of a metric, from its resamples (R,); NaN where fewer than two define it, or fewer than two patients do.

    A resample of m patients varies by (m - 1) / m of the variance that it estimates, which is made up for.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < 2 or patients < 2:
        return math.nan
    return float(np.std(defined) * np.sqrt(patients / (patients - 1)))


def score_interval(estimate: float, standard_error: float, patients: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share.

    Args:
        estimate: in [0, 1].
        standard_error: of it, over patients.
        patients: that the estimate rests on.
        level: of confidence.

    Returns:
        NaN with fewer than two patients, and where a share other than 0 and 1 has no error: nothing varies then.

    Example:
        >>> found = score_interval(1.0, 0.0, 9)
        >>> f"{found.low:.2f} to {found.high:.2f}"
        '0.63 to 1.00'
    """
    inside = 0 < estimate < 1
    if patients < 2 or not math.isfinite(estimate + standard_error) or (inside and standard_error <= _NO_ERROR):
        return no_interval(estimate, IntervalMethod.SCORE, standard_error)
    size = estimate * (1 - estimate) / standard_error**2 if inside else patients
    quantile = student_quantile(patients, level)
    share = quantile**2 / (size + quantile**2)
    centre = estimate * (1 - share) + share / 2
    reach = math.sqrt((1 - share) * share * estimate * (1 - estimate) + share**2 / 4)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return Interval(float(estimate), low, high, IntervalMethod.SCORE, standard_error=standard_error, patients=patients)


def student_interval(estimate: float, standard_error: float, patients: int, level: float = 0.95) -> Interval:
    """Estimate -+ t standard errors, of any real number; arguments and NaN as of `score_interval`."""
    if patients < 2 or not math.isfinite(estimate + standard_error) or standard_error <= _NO_ERROR:
        return no_interval(estimate, IntervalMethod.STUDENT, standard_error)
    reach = student_quantile(patients, level) * standard_error
    low, high = estimate - reach, estimate + reach
    return Interval(
        float(estimate), low, high, IntervalMethod.STUDENT, standard_error=standard_error, patients=patients
    )


def paired_interval(estimate: float, drawn: npt.NDArray[np.float64], patients: int, approximate: bool) -> Interval:
    """Of the difference of two models on the same patients.

    Args:
        estimate: the difference.
        drawn: (R,) of the same resamples of patients for both; NaN where one is undefined.
        patients: that it rests on, of the smallest kind.
        approximate: too few of them to say that the interval covers.
    """
    found = student_interval(estimate, standard_error(drawn, patients), patients)
    used = int(np.isfinite(drawn).sum())
    return replace(found, resamples_used=used, patients=patients, approximate=approximate)


def log_interval(estimate: float, log_error: float, patients: int) -> Interval:
    """Of a positive number, from the standard error of its logarithm; otherwise as `student_interval`."""
    if not estimate > 0:
        return no_interval(estimate, IntervalMethod.LOG, log_error)
    found = student_interval(math.log(estimate), log_error, patients)
    return replace(
        found,
        estimate=float(estimate),
        low=float(np.exp(found.low)),
        high=float(np.exp(found.high)),
        method=IntervalMethod.LOG,
    )


def logit_interval(estimate: float, standard_error: float, patients: int) -> Interval:
    """Of a share, symmetric in its logit; at 0 and 1, where the logit has no error, Wilson's; otherwise as that."""
    scored = score_interval(estimate, standard_error, patients)
    if math.isnan(scored.low) or not 0 < estimate < 1:
        return scored
    reach = student_quantile(patients) * standard_error / (estimate * (1 - estimate))
    low, high = expit(logit(estimate) - reach), expit(logit(estimate) + reach)
    return replace(scored, low=float(low), high=float(high))


def difference_of_intervals(first: Interval, second: Interval) -> Interval:
    """First minus second of two independent samples: the ends recovered from those of the parts.

    Source:
        Newcombe, Statistics in Medicine 17:873 (1998), method 10; for any parameter Zou & Donner, Statistics in
        Medicine 27:1693 (2008), "MOVER".
    """
    estimate = first.estimate - second.estimate
    low = estimate - math.hypot(first.estimate - first.low, second.high - second.estimate)
    high = estimate + math.hypot(first.high - first.estimate, second.estimate - second.low)
    approximate = first.approximate or second.approximate
    return Interval(estimate, low, high, IntervalMethod.MOVER, approximate=approximate)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
