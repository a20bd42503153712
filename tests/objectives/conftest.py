"""A batch and objectives that are ready to train, on a network small enough to take a step in milliseconds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.objective import Objective
from tests.objective_maker import make_objective

CLASSES = 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four images (4, 1, 32, 32); the lungs are two rectangles, and the last image has no mask."""
    mask = torch.zeros(4, 1, 32, 32)
    mask[:, :, 6:26, 4:13] = mask[:, :, 6:26, 19:28] = 1
    has_mask = torch.tensor([True, True, True, False])
    mask[~has_mask] = 0
    return {"image": torch.rand(4, 1, 32, 32), "mask": mask, "has_mask": has_mask, "label": torch.tensor([0, 1, 2, 1])}


@pytest.fixture
def make(batch: dict[str, torch.Tensor]) -> Callable[..., Objective]:
    """A maker of objectives with the same first weights each, their bounds measured on the batch; ISNets show the
    images as they are unless told otherwise."""

    def objective(method: str, **options: Any) -> Objective:
        torch.manual_seed(1)
        if method.startswith("isnet"):
            options = {"background_swap": 0.0, **options}
        built = make_objective(method, NetworkConfig("densenet_tiny"), CLASSES, **options)
        if built.bound_estimation_epochs:
            built.eval().measure(batch)
            built.finish_estimation()
        return built.train()

    return objective
