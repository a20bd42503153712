"""Every test here runs in float64, from a fixed seed."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def relevance() -> torch.Tensor:
    """(3, 2, 2, 6, 5), of both signs."""
    return torch.randn(3, 2, 2, 6, 5)


@pytest.fixture
def mask() -> torch.Tensor:
    """(3, 1, 6, 5), a different one for each image, none of them empty or full."""
    mask = (torch.rand(3, 1, 6, 5) < 0.5).double()
    mask[..., 0, 0], mask[..., 0, 1] = 1, 0
    return mask
