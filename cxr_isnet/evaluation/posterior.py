"""Bayesian posterior of the rates of a confusion matrix.

Zhang, Wang, Zhao, Estimating the uncertainty of average F1 scores, ICTIR 2015: the true classes are multinomial, and so
are the predictions given each true class; both with uniform Dirichlet priors. The posterior is Dirichlet too, so that
it can be sampled exactly, without Markov chains. It takes images as independent of each other.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import Scale, class_metrics, confusion_rates

DRAWS = 20_000
MASS = 0.95


def posterior_draws(
    confusion: IntArray, classes: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, FloatArray]:
    """Replicates of every rate.

    Args:
        confusion: (C, C) counts, rows the true class, columns the predicted one.
        classes: C names.
        draws: how many.
        seed: of the draws.

    Returns:
        Rate to draws, as `confusion_rates`; all NaN for what speaks of a class that no image has: the prior alone
        would answer there.
    """
    generator = np.random.default_rng(seed)
    present = [index for index in range(len(classes)) if confusion[index].sum() > 0]
    cells = np.zeros((draws, *confusion.shape))
    if present:
        shares = generator.dirichlet(confusion.sum(axis=1)[present] + 1.0, draws)
        for position, index in enumerate(present):
            cells[:, index] = generator.dirichlet(confusion[index] + 1.0, draws) * shares[:, [position]]
    return confusion_rates(cells, classes, present)


def posterior_intervals(draws: Mapping[str, FloatArray], *, independent: bool) -> dict[str, Interval]:
    """Centre and 95% highest-density interval of every rate; approximate where patients have several images.

    The centre is the mean, of a likelihood ratio the median: where the confusion matrix has an empty cell the mean of a
    ratio is that of a few draws near a division by 0, or infinite.
    """
    ratios = {metric.name for metric in class_metrics() if metric.scale is Scale.RATIO}
    return {
        name: Interval(
            float(np.median(values) if name.partition(" of ")[0] in ratios else np.mean(values)),
            *highest_density(values),
            IntervalMethod.POSTERIOR,
            approximate=not independent,
        )
        for name, values in draws.items()
    }


def highest_density(values: FloatArray, mass: float = MASS) -> tuple[float, float]:
    """The shortest interval that holds this share of the draws; NaN where one is not a number."""
    if not np.isfinite(values).all():
        return np.nan, np.nan
    ordered = np.sort(values)
    inside = int(np.floor(mass * len(ordered)))
    widths = ordered[inside:] - ordered[: len(ordered) - inside]
    start = int(np.argmin(widths))
    return float(ordered[start]), float(ordered[start + inside])


def superiority(first: FloatArray, second: FloatArray, *, greater_is_better: bool = True) -> float:
    """Probability that the first rate is better than the second, of draws that are independent of each other; NaN where
    undefined."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    above = float(np.mean(first > second) + np.mean(first == second) / 2)
    return above if greater_is_better else 1 - above
