"""The bounds of the foreground loss, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.losses import BoundEstimator


def tuned(totals: np.ndarray) -> BoundEstimator:
    """An estimator that has seen maps of these totals, in batches of two, each spread over two maps and many pixels."""
    estimator = BoundEstimator()
    for start in range(0, len(totals), 2):
        batch = torch.tensor(totals[start : start + 2])
        shares = torch.randn(len(batch), 2, 3, 4, 4)
        estimator.update(shares / shares.abs().sum((2, 3, 4), keepdim=True) * batch[:, None, None, None, None])
    return estimator


@pytest.mark.parametrize("spread", [0.01, 0.2, 1.0])
def test_equals_numpy(spread: float) -> None:
    totals = np.exp(np.random.default_rng(0).normal(2, spread, 37))
    estimator = tuned(totals)
    mean, deviation = totals.mean(), totals.std(ddof=1)
    assert estimator.count == 37
    assert estimator.mean == pytest.approx(mean)
    assert estimator.deviation == pytest.approx(deviation)
    low = max(mean / 5, mean - 3 * deviation)
    assert estimator.bounds().low == pytest.approx(low)
    assert estimator.bounds().high == pytest.approx(min(25 * low, mean + 3 * deviation))


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_cuts_enclose_what_they_should(totals: list[float]) -> None:
    estimator = tuned(np.array(totals))
    bounds = estimator.bounds()
    assert 0 < bounds.low <= estimator.mean * (1 + 1e-9)
    assert bounds.high <= max(25 * bounds.low, bounds.low * (1 + 1e-5))
    if estimator.deviation >= 4 / 15 * estimator.mean * (1 + 1e-9):
        assert bounds.low == pytest.approx(estimator.mean / 5)


def test_an_image_counts_with_the_mean_over_its_maps() -> None:
    estimator = BoundEstimator()
    estimator.update(torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), -2.0)])[None])
    assert (estimator.count, estimator.mean) == (1, 6.0)


def test_large_totals_with_a_small_spread_keep_their_precision() -> None:
    totals = 1e9 + np.array([1.0, 2.0, 3.0, 4.0])
    assert tuned(totals).deviation == pytest.approx(totals.std(ddof=1), rel=1e-4)


def test_maps_all_alike_still_leave_a_range() -> None:
    bounds = tuned(np.full(4, 7.0)).bounds()
    assert bounds.low == pytest.approx(7.0)
    assert bounds.low < bounds.high


def test_keeps_no_graph() -> None:
    estimator = BoundEstimator()
    estimator.update(torch.ones(1, 1, 1, 2, 2, requires_grad=True))
    assert isinstance(estimator.mean, float)


@pytest.mark.parametrize("maps", [[], [torch.zeros(2, 1, 1, 2, 2)]])
def test_no_maps_or_maps_of_zeros_give_no_cuts(maps: list[torch.Tensor]) -> None:
    estimator = BoundEstimator()
    for relevance in maps:
        estimator.update(relevance)
    with pytest.raises(ValueError, match=f"no bounds from {2 * len(maps)} maps"):
        estimator.bounds()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_relevance_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="diverged"):
        BoundEstimator().update(torch.full((1, 1, 1, 1, 1), bad))
