"""Resampled patients, and intervals from them; of a model that was trained several times, resampled trainings too.

Images of one patient are no independent samples, so patients are resampled with replacement, each with all their
images (cluster bootstrap; Davison & Hinkley 1997, section 3.8), and within their site, so that every resample has as
many patients of each site as the table. A resample is a row of weights, how often each image occurs in it, so many are
computed at once. What is read off them is a standard error (`interval` makes an interval of it), or at once a 95%
interval: BCa, bias-corrected and accelerated (Efron 1987), with the acceleration from leaving out patients, or the
    plain
percentiles.

A training differs from the next by its seed. Resampling patients alone takes the network as given; an interval that is
to hold for the method needs the trainings resampled as well (two-level bootstrap; Davison & Hinkley 1997, section 3.8).
Few trainings understate their own spread: with S of them its variance comes out (S - 1) / S of what it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.interval import LEVELS, Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import Metric, MetricFamily

CHUNK_CELLS = 250_000
"""Weights in a block: few enough to stay in a processor's cache."""

BCA_BOOTSTRAP = "95% BCa interval of a bootstrap over patients"

JACKKNIFE_GROUPS = 400
"""Patients are left out one by one, or, of more than this, in so many random groups: at that size the acceleration
hardly matters, and the noise that the grouping adds to it is about 0.65 / 400."""


@dataclass(frozen=True)
class Replicates:
    """Metrics of the same patients: as they are, of every resample, and with patients left out.

    Attributes:
        names: M names.
        estimates: (M,) of the images as they are.
        replicates: (R, M) of the resamples; R is 0 where there is but one patient.
        influence: (G, M) how far leaving out a patient, or a group, moves each metric; empty unless `method` is BCA.
        method: how an interval is read off them.
    """

    names: tuple[str, ...]
    estimates: FloatArray
    replicates: FloatArray
    influence: FloatArray
    method: IntervalMethod

    def intervals(self) -> dict[str, Interval]:
        """Every metric with its interval."""
        return {name: self.interval(name) for name in self.names}

    def interval(self, name: str) -> Interval:
        """One metric with its interval."""
        at = self.names.index(name)
        return _interval(self.estimates[at], self.replicates[:, at], self.influence[:, at], self.method)

    def estimate(self, name: str) -> float:
        """One metric of the images as they are."""
        return float(self.estimates[self.names.index(name)])

    def column(self, name: str) -> FloatArray:
        """One metric of every resample (R,), NaN where undefined."""
        return np.asarray(self.replicates[:, self.names.index(name)], dtype=np.float64)


def paired_difference(first: Replicates, second: Replicates, name: str) -> Interval:
    """A metric of one model minus that of another, resample by resample.

    Both must have been resampled with the same seed for tables of the same images in the same order
    (`PatientBootstrap.of`), so that every resample holds the same patients.
    """
    a, b = first.names.index(name), second.names.index(name)
    return _interval(
        first.estimates[a] - second.estimates[b],
        first.replicates[:, a] - second.replicates[:, b],
        first.influence[:, a] - second.influence[:, b],
        first.method,
    )


@dataclass(frozen=True)
class PatientBootstrap:
    """Resamples of the patients of one table.

    Attributes:
        patients: (N,) int64, number of the patient of each image, 0 ... P-1.
        resamples: how many resamples.
        seed: the same seed gives the same resamples.
        method: how intervals are read off them, BCA or PERCENTILE.
        sites: (N,) int64, number of the site of each image, within which patients are drawn; None draws among all.
        stream: patients of other names are drawn independently, even with the same seed.
    """

    patients: IntArray
    resamples: int = 2000
    seed: int = 0
    method: IntervalMethod = IntervalMethod.BCA
    sites: IntArray | None = None
    stream: int = 0

    @classmethod
    def of(
        cls,
        predictions: pd.DataFrame,
        *,
        resamples: int = 2000,
        seed: int = 0,
        method: IntervalMethod = IntervalMethod.BCA,
    ) -> PatientBootstrap:
        """For a checked predictions table; a patient is a site and a patient id together.

        Two tables of the same patients in the same order are resampled alike, which pairs two models. Tables of any
        other patients are resampled independently, however alike their sizes are.
        """
        named = predictions[["site", "patient_id"]].drop_duplicates()
        key = "\n".join(named["site"].astype(str) + "\t" + named["patient_id"].astype(str))
        stream = int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big")
        sites = np.asarray(predictions.groupby("site", sort=False).ngroup(), dtype=np.int64)
        return cls(patient_numbers(predictions), resamples, seed, method, sites, stream)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1 if len(self.patients) else 0

    def weights(self) -> Iterator[FloatArray]:
        """Blocks (R, N) of weights; together they hold `resamples` rows."""
        generator = np.random.default_rng([self.seed, self.stream])
        by_site, first, size = self._by_site
        for rows in self._blocks(self.resamples):
            drawn = generator.random((rows, self.n_patients))
            chosen = by_site[first + (drawn * size).astype(np.int64)] + np.arange(rows)[:, None] * self.n_patients
            counts = np.bincount(chosen.ravel(), minlength=rows * self.n_patients).astype(np.float64)
            yield np.take(counts.reshape(rows, self.n_patients), self.patients, axis=1)

    def left_out(self) -> Iterator[FloatArray]:
        """Blocks (G, N) of weights 1, and 0 for the patients of one group after the other."""
        groups = min(self.n_patients, JACKKNIFE_GROUPS)
        shuffled = np.random.default_rng([self.seed, self.stream]).permutation(self.n_patients)
        group = (shuffled % groups)[self.patients]
        start = 0
        for rows in self._blocks(groups):
            yield (group != np.arange(start, start + rows)[:, None]).astype(np.float64)
            start += rows

    def resample(self, metrics: Mapping[str, Metric], families: Sequence[MetricFamily] = ()) -> Replicates:
        """Every metric of the images as they are and of all resamples, the same resamples for all.

        Args:
            metrics: name to metric of the N images of the table.
            families: more metrics of the same images.

        Returns:
            The metrics first, then the families. One patient alone has no resamples.
        """
        names = tuple(metrics) + tuple(name for family in families for name in family.names)

        def values_of(weights: FloatArray) -> FloatArray:
            columns = [metric(weights)[:, None] for metric in metrics.values()]
            return np.concatenate([*columns, *(family(weights) for family in families)], axis=1)

        estimates = values_of(np.ones((1, len(self.patients))))[0]
        none: FloatArray = np.empty((0, len(names)))
        if self.n_patients < 2:
            return Replicates(names, estimates, none, none, self.method)
        replicates = np.concatenate([values_of(weights) for weights in self.weights()])
        if self.method is not IntervalMethod.BCA:
            return Replicates(names, estimates, replicates, none, self.method)
        left = np.concatenate([values_of(weights) for weights in self.left_out()])
        return Replicates(names, estimates, replicates, _influence(left), self.method)

    def intervals(self, metrics: Mapping[str, Metric]) -> dict[str, Interval]:
        """Every metric with its interval, all on the same resamples.

        Args:
            metrics: name to metric of the N images of the table.

        Returns:
            The same names. One patient alone, fewer than two resamples in which the metric is defined, or resamples
            that all agree give a NaN interval.
        """
        return self.resample(metrics).intervals()

    @cached_property
    def _by_site(self) -> tuple[IntArray, IntArray, IntArray]:
        """Patients in the order of their sites (P,); of each, where its site begins there, and how many the site
        has."""
        site = np.zeros(self.n_patients, dtype=np.int64)
        if self.sites is not None:
            site[self.patients] = self.sites
        order = np.argsort(site, kind="stable")
        ordered = site[order]
        first = np.searchsorted(ordered, ordered, side="left")
        return order, first, np.searchsorted(ordered, ordered, side="right") - first

    def _blocks(self, total: int) -> Iterator[int]:
        block = max(1, CHUNK_CELLS // max(1, len(self.patients)))
        for start in range(0, total, block):
            yield min(block, total - start)


def patient_numbers(predictions: pd.DataFrame) -> IntArray:
    """Number of the patient (N,) of each image, 0 ... P-1; a patient is a site and a patient id together."""
    return np.asarray(predictions.groupby(["site", "patient_id"], sort=False).ngroup(), dtype=np.int64)


def _interval(estimate: float, replicates: FloatArray, influence: FloatArray, method: IntervalMethod) -> Interval:
    """Estimate and 95% interval of one metric.

    Args:
        estimate: of the images as they are.
        replicates: (R,) of the resamples, NaN where undefined.
        influence: (G,) of the patients left out, NaN where undefined; looked at only for BCA.
        method: BCA or PERCENTILE.

    Returns:
        Resamples that all agree say nothing of the uncertainty (all of few images right, say), so that the interval is
        NaN; the same where the estimate is undefined.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < 2 or not np.isfinite(estimate) or np.ptp(defined) == 0:
        return Interval(float(estimate), np.nan, np.nan, method, len(defined))
    levels = _bca_levels(estimate, defined, influence) if method is IntervalMethod.BCA else np.array(LEVELS)
    low, high = np.quantile(defined, levels)
    return Interval(float(estimate), float(low), float(high), method, len(defined))


def _bca_levels(estimate: float, replicates: FloatArray, influence: FloatArray) -> FloatArray:
    """Levels of the resamples at which a BCa interval ends (Efron 1987, section 4)."""
    share = (np.mean(replicates < estimate) + np.mean(replicates <= estimate)) / 2
    bias = ndtri(np.clip(share, 1 / (2 * len(replicates)), 1 - 1 / (2 * len(replicates))))
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


@dataclass(frozen=True)
class RepeatedMetric:
    """A metric of every training of one model, on the same images.

    Attributes:
        estimates: (S,) of each training, of the images as they are.
        replicates: (S, R) of each training, of R resamples of the patients, the same for all trainings.
    """

    estimates: FloatArray
    replicates: FloatArray

    @classmethod
    def of(cls, estimates: Sequence[float], replicates: Sequence[FloatArray]) -> RepeatedMetric:
        """From a number and its replicates (R,) for each training."""
        return cls(np.asarray(estimates, dtype=np.float64), np.stack(list(replicates)))

    def __sub__(self, other: RepeatedMetric) -> RepeatedMetric:
        """Difference training by training, of two metrics of the same trainings (two conditions, two hospitals)."""
        rows = min(self.replicates.shape[1], other.replicates.shape[1])
        return RepeatedMetric(self.estimates - other.estimates, self.replicates[:, :rows] - other.replicates[:, :rows])

    @property
    def estimate(self) -> float:
        """Mean over the trainings."""
        return float(self.estimates.mean())

    def drawn(self, stream: Sequence[int]) -> FloatArray:
        """Mean over trainings drawn with replacement, for every resample of the patients: (R,).

        Args:
            stream: seed of the draws; another for every model, so that two models' trainings are drawn independently.
        """
        trainings, resamples = self.replicates.shape
        chosen = np.random.default_rng(list(stream)).integers(trainings, size=(trainings, resamples))
        return np.asarray(np.take_along_axis(self.replicates, chosen, axis=0).mean(axis=0), dtype=np.float64)

    def interval(self, stream: Sequence[int] = (0,)) -> Interval:
        """The mean with its 95% interval; NaN where fewer than two resamples define it, or all agree."""
        return _two_level(self.estimate, self.drawn(stream))


@dataclass(frozen=True)
class RepeatedDifference:
    """One model minus another, on the same patients.

    Attributes:
        interval: Mean difference with its 95% interval.
        p: Two-sided; the share of resamples beyond 0, doubled, never below 2 / (R + 1); NaN where undefined.
    """

    interval: Interval
    p: float


def difference(
    first: RepeatedMetric, second: RepeatedMetric, streams: tuple[Sequence[int], Sequence[int]]
) -> RepeatedDifference:
    """Compares two models whose trainings are independent of each other.

    Args:
        first: A metric of one model.
        second: The same metric of the other, of the same images and resamples of patients.
        streams: Seeds of the draws of either model's trainings; they must differ.
    """
    drawn = first.drawn(streams[0]) - second.drawn(streams[1])
    found = _two_level(first.estimate - second.estimate, drawn)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 2 or not np.isfinite(found.estimate):
        return RepeatedDifference(found, float("nan"))
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return RepeatedDifference(found, min(1.0, 2 * (beyond + 1) / (len(defined) + 1)))


def _two_level(estimate: float, drawn: FloatArray) -> Interval:
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 2 or not np.isfinite(estimate) or np.ptp(defined) == 0:
        return Interval(estimate, np.nan, np.nan, IntervalMethod.TWO_LEVEL, len(defined))
    low, high = np.quantile(defined, LEVELS)
    return Interval(estimate, float(low), float(high), IntervalMethod.TWO_LEVEL, len(defined))
