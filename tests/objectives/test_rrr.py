"""Right for the right reasons, against finite differences and explicit loops in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.objectives.methods import find_method
from cxr_isnet.objectives.rrr import RightReasons, RightReasonsOptions

STEP = 1e-5


def small_case() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A network and a batch in float64: the second image has no mask, the third an empty one."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(48, 3)
    ).double()
    mask = torch.zeros(4, 1, 6, 6, dtype=torch.float64)
    mask[0, 0, 1:4, 1:3] = mask[3, 0, 2:, 2:] = 1
    return network, {
        "image": torch.rand(4, 1, 6, 6, dtype=torch.float64),
        "mask": mask,
        "has_mask": torch.tensor([True, False, True, True]),
        "label": torch.tensor([0, 2, 1, 1]),
    }


def log_probabilities(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = network(torch.from_numpy(image)).numpy()
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def penalty_by_differences(network: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    """Every pixel is moved by itself; the sum over all images and classes is what moves with it."""
    image, mask = batch["image"].numpy(), batch["mask"].numpy()
    total, usable = 0.0, [i for i in range(len(image)) if batch["has_mask"][i] and mask[i].any()]
    for index in usable:
        for row in range(image.shape[2]):
            for column in range(image.shape[3]):
                moved = [image.copy(), image.copy()]
                moved[0][index, 0, row, column] += STEP
                moved[1][index, 0, row, column] -= STEP
                up, down = (log_probabilities(network, m).sum() for m in moved)
                total += ((1 - mask[index, 0, row, column]) * (up - down) / (2 * STEP)) ** 2
    return total / len(usable)


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_that_of_explicit_loops(training):
    network, batch = small_case()
    network(batch["image"] ** 2)  # running statistics that are not the batch's
    network[1].momentum = 0.0
    objective = RightReasons(network, RightReasonsOptions(weight=0.7)).train(training)

    terms = objective(batch)

    found = log_probabilities(network, batch["image"].numpy())
    classification = -np.mean([found[i, label] for i, label in enumerate(batch["label"])])
    if training:  # the statistics of the batch, held while a pixel moves
        hidden = network[0](batch["image"]).detach()
        network[1].running_mean.copy_(hidden.mean((0, 2, 3)))
        network[1].running_var.copy_(hidden.var((0, 2, 3), correction=0))
    penalty = penalty_by_differences(network.eval(), batch)
    assert float(terms["penalty"].detach()) == pytest.approx(penalty, rel=1e-3)  # float32 within
    assert float(terms["classification"].detach()) == pytest.approx(classification, rel=1e-5)
    assert float(terms["loss"].detach()) == pytest.approx(classification + 0.7 * penalty, rel=1e-3)
    assert float(terms["masked"].detach()) == 2


def test_the_penalty_does_not_depend_on_the_size_of_the_batch():
    network, batch = small_case()
    objective = RightReasons(network, RightReasonsOptions()).eval()

    twice = {key: torch.cat((value, value)) for key, value in batch.items()}

    torch.testing.assert_close(objective(twice)["penalty"], objective(batch)["penalty"])


def test_in_training_the_penalty_is_of_the_network_that_classifies_whatever_the_running_statistics_are():
    """A network whose running statistics lag could otherwise classify by the batch's and be penalised by these."""
    network, batch = small_case()
    objective = RightReasons(network, RightReasonsOptions()).train()
    before = objective(batch)["penalty"]

    network[1].running_mean.fill_(50.0)
    network[1].running_var.fill_(1e6)

    torch.testing.assert_close(objective(batch)["penalty"], before)


def test_batch_statistics_move_once_a_step_and_training_goes_on(make, batch):
    objective, plain = make("rrr"), make("cross_entropy")

    objective(batch)
    plain(batch)

    assert all(module.training for module in objective.modules())
    for (name, found), expected in zip(objective.network.named_buffers(), plain.network.buffers(), strict=True):
        assert torch.equal(found, expected), name


def test_a_network_that_sees_the_lungs_only_pays_nothing(batch):
    lungs = batch["mask"]

    class InsideOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(1024, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last((images * lungs).flatten(1))

    terms = RightReasons(InsideOnly(), RightReasonsOptions())(batch)

    assert float(terms["penalty"].detach()) == 0


def test_the_gradient_of_the_penalty_reaches_the_weights(make, batch):
    objective = make("rrr")

    objective(batch)["penalty"].backward()

    first = next(objective.network.parameters())
    assert (first.grad != 0).any()


def test_a_negative_weight_is_reported():
    with pytest.raises(InputError, match=r"weight is -1.0.*0 or more"):
        find_method("rrr").parse_options({"weight": -1.0})
