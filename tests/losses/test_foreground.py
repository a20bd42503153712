"""Foreground loss: its two forms and where it is zero; the estimation of its bounds, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from cxr_isnet.losses import BoundEstimator, ForegroundForm, RelevanceBounds, foreground_loss

BOUNDS = RelevanceBounds(3.0, 10.0)


def of_total(total: float, form: ForegroundForm = ForegroundForm.L2, bounds: RelevanceBounds = BOUNDS) -> float:
    """Loss of one map whose |R| inside the mask sums to `total`."""
    relevance = torch.tensor([-0.25, 0.75, 5.0, 5.0]).view(1, 1, 1, 2, 2) * total
    relevance[..., 1, :] = 123.0  # outside
    return float(foreground_loss(relevance, torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]), bounds, form))


def formula(total: float, form: ForegroundForm, low: float, high: float) -> float:
    below = (1 - min(total / low, 1)) ** 2
    if total <= high:
        return below
    if form is ForegroundForm.HYBRID and total > low + high:
        return below + 1 + (total - low - high)
    return below + ((total - high) / low) ** 2


@pytest.mark.parametrize("form", ForegroundForm)
@pytest.mark.parametrize("total", [0.0, 1.0, 2.999, 3.0, 7.0, 10.0, 11.5, 12.999, 13.0, 13.5, 400.0])
def test_equals_the_formula(total: float, form: ForegroundForm) -> None:
    assert of_total(total, form) == pytest.approx(formula(total, form, 3.0, 10.0), rel=1e-12)


def test_equals_the_formula_written_as_the_reference_does() -> None:
    """(min(g / C1, 1) - 1)^2 + (max(g / C1, C2 / C1) - C2 / C1)^2."""
    for g in np.linspace(0, 40, 21):
        expected = (min(g / 3, 1) - 1) ** 2 + (max(g / 3, 10 / 3) - 10 / 3) ** 2
        assert of_total(float(g)) == pytest.approx(expected, abs=1e-12)


def test_is_one_for_a_map_that_has_vanished() -> None:
    assert of_total(0.0) == 1.0


@pytest.mark.parametrize("form", ForegroundForm)
@pytest.mark.parametrize("total", [3.0, 5.0, 10.0])
def test_is_zero_between_the_bounds(total: float, form: ForegroundForm) -> None:
    relevance = torch.full((1, 1, 1, 2, 2), total / 4, requires_grad=True)
    loss = foreground_loss(relevance, torch.ones(1, 1, 2, 2), BOUNDS, form)
    (grad,) = torch.autograd.grad(loss.sum(), relevance)
    assert not loss.any()
    if 3 < total < 10:
        assert not grad.any()


def test_the_forms_agree_up_to_where_the_line_begins() -> None:
    for total in np.linspace(0, 13, 27):
        assert of_total(float(total), ForegroundForm.HYBRID) == pytest.approx(of_total(float(total)), abs=1e-12)
    assert of_total(13.0, ForegroundForm.HYBRID) == pytest.approx(1.0)
    assert of_total(100.0, ForegroundForm.HYBRID) < of_total(100.0)


def test_does_not_depend_on_the_background(relevance: Tensor, mask: Tensor) -> None:
    relevance.requires_grad_()
    loss = foreground_loss(relevance, mask, RelevanceBounds(100.0, 200.0))
    (grad,) = torch.autograd.grad(loss.sum(), relevance)
    inside = mask[:, None].expand_as(grad) == 1
    assert not grad[~inside].any()
    assert grad[inside].all()


def test_is_the_mean_over_the_maps_of_each_image(relevance: Tensor, mask: Tensor) -> None:
    bounds = RelevanceBounds(5.0, 6.0)
    single = torch.stack([foreground_loss(relevance[:, k : k + 1], mask, bounds) for k in range(2)])
    assert_close(foreground_loss(relevance, mask, bounds), single.mean(0))


@pytest.mark.parametrize("form", ForegroundForm)
@pytest.mark.parametrize(
    "bounds", [RelevanceBounds(100.0, 200.0), RelevanceBounds(1.0, 2.0), RelevanceBounds(20.0, 21.0)]
)
def test_gradient(form: ForegroundForm, bounds: RelevanceBounds, relevance: Tensor, mask: Tensor) -> None:
    assert torch.autograd.gradcheck(lambda r: foreground_loss(r, mask, bounds, form), relevance.requires_grad_())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 2.0), (3.0, 1.0), (float("nan"), 1.0)])
def test_bounds_that_leave_no_range_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="0 < low < high"):
        RelevanceBounds(low, high)


# ---- estimation of the bounds


def estimator_of(totals: np.ndarray) -> BoundEstimator:
    """An estimator that has seen maps of these totals, in batches of two, each spread over two maps and many pixels."""
    estimator = BoundEstimator()
    for start in range(0, len(totals), 2):
        batch = torch.tensor(totals[start : start + 2])
        shares = torch.randn(len(batch), 2, 3, 4, 4)
        estimator.update(shares / shares.abs().sum((2, 3, 4), keepdim=True) * batch[:, None, None, None, None])
    return estimator


@pytest.mark.parametrize("spread", [0.01, 0.2, 1.0])
def test_estimated_bounds_equal_numpy(spread: float) -> None:
    totals = np.exp(np.random.default_rng(0).normal(2, spread, 37))
    estimator = estimator_of(totals)
    mean, deviation = totals.mean(), totals.std(ddof=1)
    assert estimator.count == 37
    assert estimator.mean == pytest.approx(mean)
    assert estimator.deviation == pytest.approx(deviation)
    low = max(mean / 5, mean - 3 * deviation)
    assert estimator.bounds().low == pytest.approx(low)
    assert estimator.bounds().high == pytest.approx(min(25 * low, mean + 3 * deviation))


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_bounds_enclose_what_they_should(totals: list[float]) -> None:
    estimator = estimator_of(np.array(totals))
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
    assert estimator_of(totals).deviation == pytest.approx(totals.std(ddof=1), rel=1e-4)


def test_maps_all_alike_still_leave_a_range() -> None:
    bounds = estimator_of(np.full(4, 7.0)).bounds()
    assert bounds.low == pytest.approx(7.0)
    assert bounds.low < bounds.high


def test_the_estimator_keeps_no_graph() -> None:
    estimator = BoundEstimator()
    estimator.update(torch.ones(1, 1, 1, 2, 2, requires_grad=True))
    assert isinstance(estimator.mean, float)


@pytest.mark.parametrize("maps", [[], [torch.zeros(2, 1, 1, 2, 2)]])
def test_no_maps_or_maps_of_zeros_give_no_bounds(maps: list[torch.Tensor]) -> None:
    estimator = BoundEstimator()
    for relevance in maps:
        estimator.update(relevance)
    with pytest.raises(ValueError, match=f"no bounds from {2 * len(maps)} maps"):
        estimator.bounds()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_relevance_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="diverged"):
        BoundEstimator().update(torch.full((1, 1, 1, 1, 1), bad))
