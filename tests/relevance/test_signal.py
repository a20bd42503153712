"""The signal with its maps folded into the batch."""

import torch
from torch.testing import assert_close

from cxr_isnet.relevance.signal import per_channel, stabilised, times


def test_times_broadcasts_a_factor_over_the_maps_with_maps_outermost() -> None:
    signal, factor = torch.randn(6, 2), torch.randn(3, 2)
    assert_close(times(signal, factor), signal * factor.repeat(2, 1))


def test_per_channel_fits_vectors_and_maps() -> None:
    factor = torch.tensor([1.0, 2.0])
    assert per_channel(factor, torch.ones(3, 2)).shape == (1, 2)
    assert per_channel(factor, torch.ones(3, 2, 4, 4)).shape == (1, 2, 1, 1)


def test_zero_counts_as_positive() -> None:
    assert_close(stabilised(torch.tensor([-1.0, 0.0, 1.0]), 0.5), torch.tensor([-1.5, 0.5, 1.5]))
