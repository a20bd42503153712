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
def images() -> torch.Tensor:
    """(3, 2, 9, 8) in [0, 1]."""
    return torch.rand(3, 2, 9, 8)
