"""The cuts of the foreground loss, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_isnet.losses import CutTuner


def tuned(totals: np.ndarray) -> CutTuner:
    """A tuner that has seen maps of these totals, in batches of two, each shared out over two maps and many pixels."""
    tuner = CutTuner()
    for start in range(0, len(totals), 2):
        batch = torch.tensor(totals[start : start + 2])
        shares = torch.randn(len(batch), 2, 3, 4, 4)
        tuner.update(shares / shares.abs().sum((2, 3, 4), keepdim=True) * batch[:, None, None, None, None])
    return tuner


@pytest.mark.parametrize("spread", [0.01, 0.2, 1.0])
def test_equals_numpy(spread: float) -> None:
    totals = np.exp(np.random.default_rng(0).normal(2, spread, 37))
    tuner = tuned(totals)
    mean, deviation = totals.mean(), totals.std(ddof=1)
    assert tuner.count == 37
    assert tuner.mean == pytest.approx(mean)
    assert tuner.deviation == pytest.approx(deviation)
    low = max(mean / 5, mean - 3 * deviation)
    assert tuner.cuts().low == pytest.approx(low)
    assert tuner.cuts().high == pytest.approx(min(25 * low, mean + 3 * deviation))


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_cuts_enclose_what_they_should(totals: list[float]) -> None:
    tuner = tuned(np.array(totals))
    cuts = tuner.cuts()
    assert 0 < cuts.low <= tuner.mean * (1 + 1e-9)
    assert cuts.high <= max(25 * cuts.low, cuts.low * (1 + 1e-5))
    if tuner.deviation >= 4 / 15 * tuner.mean * (1 + 1e-9):
        assert cuts.low == pytest.approx(tuner.mean / 5)


def test_an_image_counts_with_the_mean_over_its_maps() -> None:
    tuner = CutTuner()
    tuner.update(torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), -2.0)])[None])
    assert (tuner.count, tuner.mean) == (1, 6.0)


def test_large_totals_with_a_small_spread_keep_their_precision() -> None:
    totals = 1e9 + np.array([1.0, 2.0, 3.0, 4.0])
    assert tuned(totals).deviation == pytest.approx(totals.std(ddof=1), rel=1e-4)


def test_maps_all_alike_still_leave_a_range() -> None:
    cuts = tuned(np.full(4, 7.0)).cuts()
    assert cuts.low == pytest.approx(7.0)
    assert cuts.low < cuts.high


def test_keeps_no_graph() -> None:
    tuner = CutTuner()
    tuner.update(torch.ones(1, 1, 1, 2, 2, requires_grad=True))
    assert isinstance(tuner.mean, float)


@pytest.mark.parametrize("maps", [[], [torch.zeros(2, 1, 1, 2, 2)]])
def test_no_maps_or_maps_of_zeros_give_no_cuts(maps: list[torch.Tensor]) -> None:
    tuner = CutTuner()
    for relevance in maps:
        tuner.update(relevance)
    with pytest.raises(ValueError, match=f"no cuts from {2 * len(maps)} maps"):
        tuner.cuts()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_relevance_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="diverged"):
        CutTuner().update(torch.full((1, 1, 1, 1, 1), bad))
