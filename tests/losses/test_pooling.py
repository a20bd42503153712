"""Global weighted rank pooling against a full sort; masks at the size of a map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from cxr_isnet.losses import fit_mask, gwrp

DECAYS = [0.0, 1e-9, 0.3, 0.9, 0.996, 0.99999, 1.0]


def full_sort(values: np.ndarray, decay: float) -> float:
    total = weights = 0.0
    for i, value in enumerate(sorted(values.tolist(), reverse=True)):
        total += decay**i * value
        weights += decay**i
    return total / weights


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("count", [1, 7, 3000])
def test_equals_a_full_sort(decay: float, count: int) -> None:
    values = torch.rand(2, 3, count)
    expected = [[full_sort(v, decay) for v in row.numpy()] for row in values]
    assert_close(gwrp(values, decay), torch.tensor(expected), rtol=1e-6, atol=0)


def test_at_zero_it_is_the_maximum_and_at_one_the_mean() -> None:
    values = torch.rand(4, 50)
    assert torch.equal(gwrp(values, 0.0), values.amax(1))
    assert torch.equal(gwrp(values, 1.0), values.mean(1))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.996])
def test_leaving_out_negligible_ranks_costs_less_than_float32_resolution(decay: float) -> None:
    flat = torch.ones(1, 224 * 224)  # the worst case: what is left out is as large as what is kept
    assert abs(float(gwrp(flat, decay)) - 1) < 1e-7


def test_of_equal_values_it_is_that_value_in_float32() -> None:
    for decay in DECAYS:
        assert_close(gwrp(torch.full((1, 10_000), 0.7, dtype=torch.float32), decay).item(), 0.7, rtol=1e-5, atol=0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_lies_between_mean_and_maximum_and_falls_with_decay(values: list[float], one: float, other: float) -> None:
    x, (low, high) = torch.tensor(values, dtype=torch.float64), sorted((one, other))
    slack = 1e-6 * max(values) + 1e-12
    assert gwrp(x, 0.0) + slack >= gwrp(x, low) >= gwrp(x, high) - slack
    assert gwrp(x, high) >= gwrp(x, 1.0) - slack


@pytest.mark.parametrize("decay", DECAYS)
def test_does_not_depend_on_the_order(decay: float) -> None:
    values = torch.rand(200)
    assert_close(gwrp(values[torch.randperm(200)], decay), gwrp(values, decay))


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_gradient_of_rank_pooling(decay: float) -> None:
    assert torch.autograd.gradcheck(lambda x: gwrp(x, decay), torch.rand(2, 12, requires_grad=True))


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="GWRP decay is"):
        gwrp(torch.rand(3), decay)


# ---- masks


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (3, 4), (1, 1), (7, 5)])
def test_a_cell_of_a_fitted_mask_is_background_only_if_all_the_pixels_it_covers_are(size: tuple[int, int]) -> None:
    mask = (torch.rand(2, 1, 8, 6) < 0.15).double()
    fitted = fit_mask(mask, size)
    for b in range(2):
        for i in range(size[0]):
            for j in range(size[1]):
                rows = slice(i * 8 // size[0], -(-(i + 1) * 8 // size[0]))
                columns = slice(j * 6 // size[1], -(-(j + 1) * 6 // size[1]))
                assert fitted[b, 0, i, j] == float(mask[b, 0, rows, columns].any())


def test_a_fitted_mask_is_the_average_pooled_mask_set_to_one_wherever_it_is_not_zero() -> None:
    mask = (torch.rand(2, 1, 9, 7) < 0.1).double()
    expected = (torch.nn.functional.adaptive_avg_pool2d(mask, (4, 3)) > 0).double()
    assert torch.equal(fit_mask(mask, (4, 3)), expected)


def test_a_mask_that_fits_is_left_alone(mask: Tensor) -> None:
    assert torch.equal(fit_mask(mask, (6, 5)), mask)


def test_fitting_a_mask_twice_is_fitting_it_once(mask: Tensor) -> None:
    once = fit_mask(mask, (3, 2))
    assert torch.equal(fit_mask(once, (3, 2)), once)
