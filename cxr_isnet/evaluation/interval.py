"""A number with its 95% interval, whatever method found it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class IntervalMethod(StrEnum):
    """How an interval is found.

    Attributes:
        BCA: bootstrap over patients, bias-corrected and accelerated (`bootstrap`).
        PERCENTILE: bootstrap over patients, plain percentiles (`bootstrap`).
        DELONG: estimate -+ 1.96 standard errors of an AUC over patients (`delong`).
        TWO_LEVEL: bootstrap over patients and over trainings of one model (`repeated_training`).
        POSTERIOR: highest density of a posterior (`posterior`).
    """

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
        standard_error: of DeLong's method; NaN where undefined. None of any other method.
    """

    estimate: float
    low: float
    high: float
    method: IntervalMethod
    resamples_used: int | None = None
    standard_error: float | None = None

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
        return plain


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
