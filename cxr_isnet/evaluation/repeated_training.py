"""One model trained several times: means over the trainings, with intervals over patients and trainings together.

A training differs from the next by its seed. Resampling patients alone takes the network as given; an interval that is
to hold for the method needs the trainings resampled as well (two-level bootstrap; Davison & Hinkley 1997, section 3.8).
Few trainings understate their own spread: with S of them its variance comes out (S - 1) / S of what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxr_isnet.evaluation.bootstrap import LEVELS
from cxr_isnet.evaluation.confusion import FloatArray
from cxr_isnet.evaluation.interval import Interval, IntervalMethod


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
        return _interval(self.estimate, self.drawn(stream))


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
    found = _interval(first.estimate - second.estimate, drawn)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 2 or not np.isfinite(found.estimate):
        return RepeatedDifference(found, float("nan"))
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return RepeatedDifference(found, min(1.0, 2 * (beyond + 1) / (len(defined) + 1)))


def _interval(estimate: float, drawn: FloatArray) -> Interval:
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 2 or not np.isfinite(estimate) or np.ptp(defined) == 0:
        return Interval(estimate, np.nan, np.nan, IntervalMethod.TWO_LEVEL, len(defined))
    low, high = np.quantile(defined, LEVELS)
    return Interval(estimate, float(low), float(high), IntervalMethod.TWO_LEVEL, len(defined))
