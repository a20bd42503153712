"""Intervals from resampled patients.

Images of one patient are no independent samples, so patients are drawn with replacement, each with all their
images (cluster bootstrap; Davison & Hinkley 1997, section 3.8), and the 2.5th and 97.5th percentiles of the
metric are the 95% interval. A resample is a row of weights, how often each image occurs in it, so thousands
are computed at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_isnet.evaluation.metrics import FloatArray, IntArray, Metric, plain

CHUNK_CELLS = 2_000_000
PERCENTILES = (2.5, 97.5)


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
class PatientBootstrap:
    """Resamples of the patients of one table.

    Attributes:
        patients: (N,) int64, number of the patient of each image, 0 ... P-1.
        resamples: how many resamples.
        seed: the same seed gives the same resamples.
    """

    patients: IntArray
    resamples: int = 2000
    seed: int = 0

    @classmethod
    def of(cls, predictions: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> "PatientBootstrap":
        """For a checked predictions table; a patient is a site and a patient id together."""
        numbers = predictions.groupby(["site", "patient_id"], sort=False).ngroup()
        return cls(np.asarray(numbers, dtype=np.int64), resamples, seed)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1 if len(self.patients) else 0

    def weights(self) -> Iterator[FloatArray]:
        """Blocks (R, N) of weights; together they hold `resamples` rows."""
        generator = np.random.default_rng(self.seed)
        block = max(1, CHUNK_CELLS // max(1, len(self.patients)))
        for start in range(0, self.resamples, block):
            rows = min(block, self.resamples - start)
            drawn = generator.integers(self.n_patients, size=(rows, self.n_patients))
            drawn += np.arange(rows)[:, None] * self.n_patients
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n_patients)
            yield counts.reshape(rows, self.n_patients)[:, self.patients].astype(np.float64)

    def estimate(self, metrics: Mapping[str, Metric]) -> dict[str, Estimate]:
        """Every metric with its interval, all on the same resamples.

        Args:
            metrics: name to metric of the N images of the table.

        Returns:
            The same names. One patient alone, or fewer than two resamples in which the metric is defined,
            give a NaN interval.
        """
        n_images = len(self.patients)
        drawn: dict[str, list[FloatArray]] = {name: [] for name in metrics}
        if self.n_patients > 1:
            for weights in self.weights():
                for name, metric in metrics.items():
                    drawn[name].append(metric(weights))
        return {name: _summary(plain(metric, n_images), drawn[name]) for name, metric in metrics.items()}


def _summary(value: float, drawn: list[FloatArray]) -> Estimate:
    values = np.concatenate([np.empty(0), *drawn])
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Estimate(value, np.nan, np.nan, len(values))
    low, high = np.percentile(values, PERCENTILES)
    return Estimate(value, float(low), float(high), len(values))
