"""Association of two categorical properties: Cramér's V, permutation test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Counts = NDArray[np.integer[Any]]

RESAMPLES = 999

ENOUGH = 20
"""Random tables as extreme as the one at hand after which its p-value is known well enough: to a fifth of it."""

_SEED = 0


def cramers_v(counts: Counts) -> float:
    """Cramér's V with Bergsma's correction: 0 on average when there is no association, whatever the table's size.

    Args:
        counts: (rows, columns), no row and no column empty.

    Returns:
        0 to 1; NaN when there is one row or one column only.

    Source: W. Bergsma, A bias-correction for Cramér's V and Tschuprow's T, Journal of the Korean Statistical Society
        42(3), 2013.
    """
    rows, columns = counts.shape
    total = int(counts.sum())
    if min(rows, columns) < 2 or total < 2:
        return float("nan")
    phi = chi_square(counts) / total - (rows - 1) * (columns - 1) / (total - 1)
    narrow = min(side - (side - 1) ** 2 / (total - 1) for side in (rows, columns)) - 1
    return float(np.sqrt(np.clip(phi / narrow, 0.0, 1.0))) if narrow > 0 else 0.0


def permutation_p(counts: Counts, *, resamples: int = RESAMPLES, enough: int = ENOUGH, seed: int = _SEED) -> float:
    """p-value of the permutation test: share of tables with the same margins whose chi-square is as large.

    The table itself counts among them. Tables are drawn until enough of them are as large: where nothing goes together
    a few dozen say so. The p-value then is the share of those drawn, and as valid.

    Args:
        counts: (rows, columns), no row and no column empty.
        resamples: most random tables.
        enough: tables with as large a chi-square, after which no more are drawn.
        seed: of the tables.

    Returns:
        1 / (1 + resamples) to 1.

    Source: J. Besag and P. Clifford, Sequential Monte Carlo p-values, Biometrika 78(2), 1991.
    """
    observed = chi_square(counts)
    margins = stats.random_table(counts.sum(axis=1), counts.sum(axis=0), seed=np.random.default_rng(seed))
    found, drawn = 0, 0
    while drawn < resamples:
        size = min(3 * enough, resamples - drawn)
        permuted = np.asarray(margins.rvs(size=size)).reshape(size, *counts.shape)
        as_large = np.flatnonzero(chi_square(permuted) >= observed * (1 - 1e-12))
        if found + len(as_large) >= enough:
            return float(enough / (drawn + 1 + as_large[enough - found - 1]))
        found, drawn = found + len(as_large), drawn + size
    return float((1 + found) / (1 + resamples))


def chi_square(counts: Counts | NDArray[np.floating[Any]]) -> Any:
    """Pearson's chi-square (...) of contingency tables (..., rows, columns)."""
    down, across = counts.sum(axis=-1, keepdims=True), counts.sum(axis=-2, keepdims=True)
    expected = down * across / counts.sum(axis=(-2, -1), keepdims=True)
    return ((counts - expected) ** 2 / expected).sum(axis=(-2, -1))
