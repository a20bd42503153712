"""Masks at the size of a map."""

import pytest
import torch
from torch import Tensor

from cxr_isnet.losses import fit_mask


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (3, 4), (1, 1), (7, 5)])
def test_a_cell_is_background_only_if_all_the_pixels_it_covers_are(size: tuple[int, int]) -> None:
    mask = (torch.rand(2, 1, 8, 6) < 0.15).double()
    fitted = fit_mask(mask, size)
    for b in range(2):
        for i in range(size[0]):
            for j in range(size[1]):
                rows = slice(i * 8 // size[0], -(-(i + 1) * 8 // size[0]))
                columns = slice(j * 6 // size[1], -(-(j + 1) * 6 // size[1]))
                assert fitted[b, 0, i, j] == float(mask[b, 0, rows, columns].any())


def test_is_the_average_pooled_mask_set_to_one_wherever_it_is_not_zero() -> None:
    mask = (torch.rand(2, 1, 9, 7) < 0.1).double()
    expected = (torch.nn.functional.adaptive_avg_pool2d(mask, (4, 3)) > 0).double()
    assert torch.equal(fit_mask(mask, (4, 3)), expected)


def test_a_mask_that_fits_is_left_alone(mask: Tensor) -> None:
    assert torch.equal(fit_mask(mask, (6, 5)), mask)


def test_fitting_twice_is_fitting_once(mask: Tensor) -> None:
    once = fit_mask(mask, (3, 2))
    assert torch.equal(fit_mask(once, (3, 2)), once)
