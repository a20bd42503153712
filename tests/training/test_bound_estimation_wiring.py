"""What the estimation of bounds trains, measures and puts back, on one weight and images in memory."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr_isnet.data import make_loader
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, TrainerSettings
from cxr_isnet.objectives.objective import Batch, Objective
from cxr_isnet.training.bound_estimation import estimate_bounds
from tests.pictures import Pictures

SETTINGS = TrainerSettings(OptimizerConfig(Algorithm.SGD, learning_rate=0.1, warmup=0.0), epochs=7, seed=0)


class Measuring(Objective):
    """Three epochs of plain training, then every measurement is noted."""

    bound_estimation_epochs = 3

    def __init__(self) -> None:
        network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
        super().__init__(network)
        self.trained: list[list[float]] = []
        self.measured: list[dict[str, Any]] = []
        network.register_forward_pre_hook(self._note)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("only the plain classifier is trained before the bounds are there")

    def measure(self, batch: Batch) -> None:
        self.measured.append(
            {
                "images": batch["image"][:, 0, 0, 0].tolist(),
                "training": self.network.training,
                "gradients": torch.is_grad_enabled(),
                "weight": self.network[2].weight.clone(),
                "mean": self.network[1].running_mean.clone(),
            }
        )

    def finish_estimation(self) -> dict[str, float]:
        return {"measurements": float(len(self.measured))}

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            self.trained.append(inputs[0][:, 0, 0, 0].tolist())


@dataclass(frozen=True)
class Listening(DistributedContext):
    """Notes how many measurements there were when the buffers of a module were synchronised."""

    synchronised: list[tuple[nn.Module, int]] = field(default_factory=list)

    def synchronise_buffers(self, module: nn.Module) -> None:
        self.synchronised.append((module, len(module.measured) if isinstance(module, Measuring) else -1))


@pytest.fixture
def estimated() -> tuple[Measuring, dict[str, Tensor], dict[str, float], Listening]:
    """An objective whose bounds were estimated, its weights before, the bounds, and the context."""
    torch.manual_seed(0)
    objective, context = Measuring(), Listening(0, 1, torch.device("cpu"))
    first = {key: value.clone() for key, value in objective.network.state_dict().items()}
    training = make_loader(Pictures(), batch_size=2, shuffle=True, seed=0)
    every_image = make_loader(Pictures(), batch_size=4, shuffle=False, seed=0)
    bounds = estimate_bounds(objective, training, every_image, every_image, SETTINGS, context)
    return objective, first, bounds, context


def test_the_plain_training_takes_its_own_number_of_epochs_over_the_training_images(estimated):
    objective, _, _, _ = estimated

    epochs = [objective.trained[start : start + 3] for start in range(0, len(objective.trained), 3)]

    assert len(epochs) == 3 + 1  # the last takes the statistics of the batch norms
    assert all(sorted(grey for batch in epoch for grey in batch) == [0, 1, 2, 3, 4, 5] for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_every_image_is_measured_once_in_order_by_the_trained_network_as_it_is_in_use(estimated):
    objective, first, bounds, _ = estimated

    assert [measurement["images"] for measurement in objective.measured] == [[0, 1, 2, 3], [4, 5]]
    assert not any(measurement["training"] or measurement["gradients"] for measurement in objective.measured)
    assert all(torch.equal(m["weight"], objective.measured[0]["weight"]) for m in objective.measured)
    assert not torch.equal(objective.measured[0]["weight"], first["2.weight"])
    assert bounds == {"measurements": 2.0}


def test_it_is_measured_with_the_batch_statistics_of_the_whole_training_set(estimated):
    objective, _, _, _ = estimated

    for measurement in objective.measured:  # each picture is of one grey, 0 to 5
        torch.testing.assert_close(measurement["mean"], torch.full((4,), 2.5))


def test_weights_and_batch_statistics_are_put_back(estimated):
    objective, first, _, _ = estimated

    assert all(torch.equal(first[key], value) for key, value in objective.network.state_dict().items())


def test_all_processes_measure_with_the_same_batch_statistics(estimated):
    objective, _, _, context = estimated

    assert context.synchronised[-1] == (objective, 0)
