"""Statistics of an audit: each with its interval and, where a verdict rests on it, its threshold and p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from cxr_isnet.evaluation import FloatArray, IntArray, Metric, PatientBootstrap, Replicates

MARGIN = 0.05
"""Change of a probability, or of a share, that is too small to be called a shortcut."""

LEVEL = 0.05
"""Family-wise error rate: probability of any false alarm of a whole audit."""

ROUNDING = 1e-12
"""Standard error below which resamples differ by rounding only."""


@dataclass(frozen=True)
class Statistic:
    """One number of a probe.

    Attributes:
        name: in words.
        value: of the images as they are; NaN where undefined.
        low: lower end of the 95% interval; NaN without one.
        high: upper end.
        n_images: number of images that it is computed from.
        threshold: that the value is tested against; None for a descriptive statistic.
        p_value: one-sided, of a value above the threshold; None for a descriptive statistic.
        key: name on a tracking server, where models are compared by it; "" for one made of `name`.
    """

    name: str
    value: float
    low: float
    high: float
    n_images: int
    threshold: float | None = None
    p_value: float | None = None
    key: str = ""


@dataclass(frozen=True)
class Panel:
    """Images side by side that show what a probe did; a figure of the report.

    Attributes:
        caption: of the figure.
        tiles: headings and images (H, W) in [0, 1]; no name and no identity.
    """

    caption: str
    tiles: tuple[tuple[str, npt.NDArray[np.float32]], ...]


@dataclass(frozen=True)
class ProbeResult:
    """Result of a probe.

    Attributes:
        statistics: in the order of the report.
        p_value: of a shortcut; None where no verdict can be given.
        reason: why no verdict can be given, or what the statistics leave open; "" for nothing.
        panels: examples of what was done to the images.
        telling: what the p-value rests on, where it is not the statistic with the smallest one.
        undecided: the p-value shows no shortcut, but something was found that may be one: `reason` says what.
    """

    statistics: tuple[Statistic, ...] = ()
    p_value: float | None = None
    reason: str = ""
    panels: tuple[Panel, ...] = ()
    telling: str = ""
    undecided: bool = False


def describe(name: str, metric: Metric, bootstrap: PatientBootstrap, n_images: int) -> Statistic:
    """Descriptive statistic with its patient-level bootstrap interval.

    Args:
        name: in words.
        metric: of the images of the bootstrap's table.
        bootstrap: over their patients.
        n_images: number of images that it is computed from.
    """
    return _with_interval(bootstrap.resample({name: metric}), name, n_images)


def one_sided_test(
    name: str,
    metric: Metric,
    bootstrap: PatientBootstrap,
    n_images: int,
    *,
    threshold: float,
    min_error: float = 0.0,
    key: str = "",
) -> Statistic:
    """Statistic with the one-sided p-value that it lies above a threshold.

    The standard error is the standard deviation of the replicates; the p-value is Student's with one degree of freedom
    less than there are patients.

    Args:
        name: in words.
        metric: of the images of the bootstrap's table.
        bootstrap: over their patients.
        n_images: number of images that it is computed from.
        threshold: that has to be exceeded.
        min_error: lower limit of the standard error, for metrics whose replicates do not vary at their ends, as an AUC
            of 1 in few images.
        key: as of `Statistic`.
    """
    replicates = bootstrap.resample({name: metric})
    statistic = _with_interval(replicates, name, n_images)
    defined = replicates.replicates[np.isfinite(replicates.replicates)]
    error = max(float(defined.std()), min_error) if len(defined) > 1 else math.nan
    return Statistic(
        name,
        statistic.value,
        statistic.low,
        statistic.high,
        n_images,
        threshold,
        _p_value(statistic.value - threshold, error, bootstrap.n_patients),
        key,
    )


def bonferroni(statistics: Sequence[Statistic]) -> float | None:
    """Smallest p-value of the statistics times their number (Bonferroni), at most 1; None where none has one."""
    found = [s.p_value for s in statistics if s.p_value is not None]
    return min(1.0, len(found) * min(found)) if found else None


def _with_interval(replicates: Replicates, name: str, n_images: int) -> Statistic:
    found = replicates.interval(name)
    return Statistic(name, found.estimate, found.low, found.high, n_images)


def _p_value(excess: float, error: float, patients: int) -> float | None:
    if not math.isfinite(excess) or not math.isfinite(error):
        return None
    if error < ROUNDING:
        return 0.0 if excess > ROUNDING else 1.0
    return float(stats.t.sf(excess / error, patients - 1))


class MacroMean:
    """Macro-averaged mean: mean over groups of the groups' means of one number per image.

    NaN where a weighting empties a group. A `Metric` of `cxr_isnet.evaluation`.
    """

    def __init__(self, values: FloatArray, groups: IntArray) -> None:
        """Values (N,) without NaN; groups (N,), any numbers."""
        members = groups[:, None] == np.unique(groups)
        self._counts = members.astype(np.float64)
        self._values = self._counts * values[:, None]

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Value (R,) for every row of weights (R, N)."""
        counts = weights @ self._counts
        means = (weights @ self._values) / np.where(counts > 0, counts, np.nan)
        return np.asarray(means.mean(axis=1), dtype=np.float64)
