"""Numbers of an audit: each with its interval and, where a verdict hangs on it, its threshold and p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats

from cxr_isnet.evaluation import FloatArray, IntArray, Metric, PatientBootstrap, Replicates

MARGIN = 0.05
"""Movement of a probability, or of a share, that is too small to be called a shortcut."""

SPREADLESS = 1e-12
"""Resamples that differ by rounding only do not differ."""


class Verdict(StrEnum):
    """What an probe, or the whole audit, comes to."""

    NO_SIGN = "no sign of a shortcut"
    SIGN = "sign of a shortcut"
    UNSOUND = "heatmaps not to be trusted"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Statistic:
    """A number of an probe.

    Attributes:
        name: what was measured, in words.
        value: of the images as they are; NaN where undefined.
        low: lower end of the 95% interval; NaN without one.
        high: upper end.
        n_images: images that it is of.
        threshold: what the value is held against; None for a number that only describes.
        p_value: one-sided, that a value beyond the threshold comes by chance; None for a number that only describes.
    """

    name: str
    value: float
    low: float
    high: float
    n_images: int
    threshold: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Picture:
    """Images side by side that show what an probe did.

    Attributes:
        caption: what they show.
        tiles: headings and images (H, W) in [0, 1]; no name and no identity.
    """

    caption: str
    tiles: tuple[tuple[str, npt.NDArray[np.float32]], ...]


@dataclass(frozen=True)
class ProbeResult:
    """What an probe found.

    Attributes:
        statistics: its numbers.
        p_value: that the sign of a shortcut comes by chance; None where no verdict can be given.
        reason: why no verdict can be given, or what the numbers leave open; "" for nothing.
        pictures: examples of what was done to the images.
    """

    statistics: tuple[Statistic, ...] = ()
    p_value: float | None = None
    reason: str = ""
    pictures: tuple[Picture, ...] = ()


def described(name: str, metric: Metric, bootstrap: PatientBootstrap, n_images: int) -> Statistic:
    """A number with its patient-level bootstrap interval, for information."""
    return _with_interval(bootstrap.resample({name: metric}), name, n_images)


def held_above(
    name: str,
    metric: Metric,
    bootstrap: PatientBootstrap,
    n_images: int,
    *,
    threshold: float,
    least_error: float = 0.0,
) -> Statistic:
    """A number with the one-sided p-value of its lying above a threshold.

    The standard error is the spread of the resamples; the p-value is Student's with one degree of freedom less than
    there are patients.

    Args:
        name: what was measured.
        metric: of the images of the bootstrap's table.
        bootstrap: resamples of their patients.
        n_images: images that have the number.
        threshold: that has to be exceeded.
        least_error: the standard error is taken to be at least this, for metrics whose resamples do not vary at
            their ends, as an AUC of 1 in few images.
    """
    replicates = bootstrap.resample({name: metric})
    statistic = _with_interval(replicates, name, n_images)
    defined = replicates.replicates[np.isfinite(replicates.replicates)]
    error = max(float(defined.std()), least_error) if len(defined) > 1 else math.nan
    return Statistic(
        name,
        statistic.value,
        statistic.low,
        statistic.high,
        n_images,
        threshold,
        _p_value(statistic.value - threshold, error, bootstrap.n_patients),
    )


def chance(statistics: Sequence[Statistic]) -> float | None:
    """The smallest p-value times their number (Bonferroni), at most 1; None where none has one."""
    found = [m.p_value for m in statistics if m.p_value is not None]
    return min(1.0, len(found) * min(found)) if found else None


def _with_interval(replicates: Replicates, name: str, n_images: int) -> Statistic:
    found = replicates.interval(name)
    return Statistic(name, found.estimate, found.low, found.high, n_images)


def _p_value(excess: float, error: float, patients: int) -> float | None:
    if not math.isfinite(excess) or not math.isfinite(error):
        return None
    if error < SPREADLESS:
        return 0.0 if excess > SPREADLESS else 1.0
    return float(stats.t.sf(excess / error, patients - 1))


class MeanOfGroups:
    """Mean over groups of the groups' means of one number per image; NaN where a weighting empties a group."""

    def __init__(self, values: FloatArray, groups: IntArray) -> None:
        """Values (N,) without NaN; groups (N,), any numbers."""
        members = groups[:, None] == np.unique(groups)
        self._counts = members.astype(np.float64)
        self._values = self._counts * values[:, None]

    def __call__(self, weights: FloatArray) -> FloatArray:
        counts = weights @ self._counts
        means = (weights @ self._values) / np.where(counts > 0, counts, np.nan)
        return np.asarray(means.mean(axis=1), dtype=np.float64)
