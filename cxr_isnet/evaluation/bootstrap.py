"""Intervals from resampled patients.

Images of one patient are no independent samples, so patients are drawn with replacement, each with all their
images (cluster bootstrap; Davison & Hinkley 1997, section 3.8). A resample is a row of weights, how often each image
occurs in it, so many are computed at once. The 95% interval is BCa, bias-corrected and accelerated (Efron 1987), with
the acceleration from leaving out patients, or the plain percentiles.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.metrics import Metric, MetricFamily

CHUNK_CELLS = 250_000
"""Weights in a block: few enough to stay in a processor's cache."""

LEVELS = (0.025, 0.975)

INTERVAL_METHOD = "95% BCa interval of a bootstrap over patients"

JACKKNIFE_GROUPS = 400
"""Patients are left out one by one, or, of more than this, in so many random groups: at that size the acceleration
hardly matters, and the noise that the grouping adds to it is about 0.65 / 400."""


class Interval(Enum):
    """How the ends of an interval are read off the resamples."""

    BCA = "bca"
    PERCENTILE = "percentile"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: the metric of the images as they are; NaN where undefined.
        low: lower end; NaN without an interval.
        high: upper end; NaN without an interval.
        resamples_used: resamples in which the metric was defined; those that lacked a class are left out.
    """

    value: float
    low: float
    high: float
    resamples_used: int


@dataclass(frozen=True)
class Draws:
    """Metrics of the same patients: as they are, of every resample, and with patients left out.

    Attributes:
        names: M names.
        values: (M,) of the images as they are.
        drawn: (R, M) of the resamples; R is 0 where there is but one patient.
        influence: (G, M) how far leaving out a patient, or a group, moves each metric; empty unless `BCA`.
    """

    names: tuple[str, ...]
    values: FloatArray
    drawn: FloatArray
    influence: FloatArray

    def estimates(self) -> dict[str, Estimate]:
        """Every metric with its interval."""
        return {name: self.estimate(name) for name in self.names}

    def estimate(self, name: str) -> Estimate:
        """One metric with its interval."""
        at = self.names.index(name)
        return summarise(self.values[at], self.drawn[:, at], self.influence[:, at])


def paired_difference(first: Draws, second: Draws, name: str) -> Estimate:
    """A metric of one model less that of another, resample by resample.

    Both must have been drawn with the same seed for tables of the same images in the same order, so that every
    resample holds the same patients.
    """
    a, b = first.names.index(name), second.names.index(name)
    return summarise(
        first.values[a] - second.values[b],
        first.drawn[:, a] - second.drawn[:, b],
        first.influence[:, a] - second.influence[:, b],
    )


def drop(internal: Draws, external: Draws, name: str) -> Estimate:
    """A metric inside minus the same outside, of different patients, resampled independently of each other."""
    a, b = internal.names.index(name), external.names.index(name)
    rows = min(len(internal.drawn), len(external.drawn))
    return summarise(
        internal.values[a] - external.values[b],
        internal.drawn[:rows, a] - external.drawn[:rows, b],
        np.concatenate([internal.influence[:, a], -external.influence[:, b]]),
    )


@dataclass(frozen=True)
class PatientBootstrap:
    """Resamples of the patients of one table.

    Attributes:
        patients: (N,) int64, number of the patient of each image, 0 ... P-1.
        resamples: how many resamples.
        seed: the same seed gives the same resamples.
        interval: how the interval is read off them.
    """

    patients: IntArray
    resamples: int = 2000
    seed: int = 0
    interval: Interval = Interval.BCA

    @classmethod
    def of(
        cls, predictions: pd.DataFrame, *, resamples: int = 2000, seed: int = 0, interval: Interval = Interval.BCA
    ) -> "PatientBootstrap":
        """For a checked predictions table; a patient is a site and a patient id together."""
        return cls(patient_numbers(predictions), resamples, seed, interval)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1 if len(self.patients) else 0

    def weights(self) -> Iterator[FloatArray]:
        """Blocks (R, N) of weights; together they hold `resamples` rows."""
        generator = np.random.default_rng(self.seed)
        for rows in self._blocks(self.resamples):
            drawn = generator.integers(self.n_patients, size=(rows, self.n_patients))
            drawn += np.arange(rows)[:, None] * self.n_patients
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n_patients).astype(np.float64)
            yield np.take(counts.reshape(rows, self.n_patients), self.patients, axis=1)

    def left_out(self) -> Iterator[FloatArray]:
        """Blocks (G, N) of weights 1, and 0 for the patients of one group after the other."""
        groups = min(self.n_patients, JACKKNIFE_GROUPS)
        shuffled = np.random.default_rng(self.seed).permutation(self.n_patients)
        group = (shuffled % groups)[self.patients]
        start = 0
        for rows in self._blocks(groups):
            yield (group != np.arange(start, start + rows)[:, None]).astype(np.float64)
            start += rows

    def draw(self, metrics: Mapping[str, Metric], families: Sequence[MetricFamily] = ()) -> Draws:
        """Every metric of the images as they are and of all resamples, the same resamples for all.

        Args:
            metrics: name to metric of the N images of the table.
            families: more metrics of the same images.

        Returns:
            The draws, metrics first, then the families. One patient alone has no resamples.
        """
        names = tuple(metrics) + tuple(name for family in families for name in family.names)

        def values_of(weights: FloatArray) -> FloatArray:
            columns = [metric(weights)[:, None] for metric in metrics.values()]
            return np.concatenate([*columns, *(family(weights) for family in families)], axis=1)

        values = values_of(np.ones((1, len(self.patients))))[0]
        none: FloatArray = np.empty((0, len(names)))
        if self.n_patients < 2:
            return Draws(names, values, none, none)
        drawn = np.concatenate([values_of(weights) for weights in self.weights()])
        if self.interval is not Interval.BCA:
            return Draws(names, values, drawn, none)
        left = np.concatenate([values_of(weights) for weights in self.left_out()])
        return Draws(names, values, drawn, _influence(left))

    def estimate(self, metrics: Mapping[str, Metric]) -> dict[str, Estimate]:
        """Every metric with its interval, all on the same resamples.

        Args:
            metrics: name to metric of the N images of the table.

        Returns:
            The same names. One patient alone, fewer than two resamples in which the metric is defined, or resamples
            that all agree give a NaN interval.
        """
        return self.draw(metrics).estimates()

    def _blocks(self, total: int) -> Iterator[int]:
        block = max(1, CHUNK_CELLS // max(1, len(self.patients)))
        for start in range(0, total, block):
            yield min(block, total - start)


def patient_numbers(predictions: pd.DataFrame) -> IntArray:
    """Number of the patient (N,) of each image, 0 ... P-1; a patient is a site and a patient id together."""
    return np.asarray(predictions.groupby(["site", "patient_id"], sort=False).ngroup(), dtype=np.int64)


def summarise(value: float, drawn: FloatArray, influence: FloatArray) -> Estimate:
    """Value and 95% interval of one metric.

    Args:
        value: of the images as they are.
        drawn: (R,) of the resamples, NaN where undefined.
        influence: (G,) of the patients left out, NaN where undefined; without any the plain percentiles are taken.

    Returns:
        The estimate. Resamples that all agree say nothing of the uncertainty (all of few images right, say), so that
        the interval is NaN; the same where the value is undefined.
    """
    values = drawn[np.isfinite(drawn)]
    if len(values) < 2 or not np.isfinite(value) or np.ptp(values) == 0:
        return Estimate(float(value), np.nan, np.nan, len(values))
    levels = np.array(LEVELS) if not len(influence) else _bca_levels(value, values, influence)
    low, high = np.quantile(values, levels)
    return Estimate(float(value), float(low), float(high), len(values))


def _bca_levels(value: float, values: FloatArray, influence: FloatArray) -> FloatArray:
    """Levels of the resamples at which a BCa interval ends (Efron 1987, section 4)."""
    share = (np.mean(values < value) + np.mean(values <= value)) / 2
    bias = ndtri(np.clip(share, 1 / (2 * len(values)), 1 - 1 / (2 * len(values))))
    moved = influence[np.isfinite(influence)]
    spread = float((moved**2).sum())
    acceleration = float((moved**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + ndtri(np.array(LEVELS))
    return np.asarray(ndtr(bias + shifted / (1 - acceleration * shifted)), dtype=np.float64)


def _influence(left: FloatArray) -> FloatArray:
    """How far each group moves the metrics (G, M), as a share of the sample: (G - 1) / G times mean minus left out."""
    known = np.isfinite(left)
    counts = known.sum(axis=0)
    means = np.divide(np.where(known, left, 0.0).sum(axis=0), counts, out=np.zeros(left.shape[1]), where=counts > 0)
    scale = (len(left) - 1) / len(left)
    return np.asarray(scale * (means - left), dtype=np.float64)
