"""On a GPU: relevance, losses and gradients as on a CPU."""

from collections.abc import Iterator

import pytest
import torch

from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.relevance import LRP, AlphaBetaRules, EpsilonRules, per_class
from tests.objective_maker import make_objective

pytestmark = pytest.mark.gpu

CLASSES = 3
ISNETS = ("isnet", "isnet_dual", "isnet_selective", "isnet_stochastic")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in float32, not TF32: a comparison with the CPU is meant to show errors, not rounding."""
    torch.manual_seed(0)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def batch(device: str, size: int = 64) -> dict[str, torch.Tensor]:
    """Four images; the lungs are two rectangles, and the last image has no mask."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(4, 1, size, size)
    third = size // 3
    mask[:3, :, third:-third, 4:third] = mask[:3, :, third:-third, -third:-4] = 1
    whole = {
        "image": torch.rand(4, 1, size, size, generator=generator),
        "mask": mask,
        "has_mask": torch.tensor([True, True, True, False]),
        "label": torch.tensor([0, 1, 2, 1]),
    }
    return {key: value.to(device) for key, value in whole.items()}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found.cpu() - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("network", ["densenet121", "resnet18", "densenet_small"])
@pytest.mark.parametrize("rules", [EpsilonRules(), AlphaBetaRules()], ids=["epsilon", "alpha-beta"])
def test_relevance_is_that_of_the_cpu(rules, network):
    model = build_network(NetworkConfig(network), CLASSES).double().eval()
    images = batch("cpu")["image"].double()
    _, expected = LRP(model, rules)(images, per_class)

    _, found = LRP(model.to("cuda"), rules)(images.to("cuda"), per_class)

    assert found.image.device.type == "cuda"
    assert distance(found.image, expected.image) < 1e-8


@pytest.mark.parametrize("method", ["isnet", "isnet_dual", "isnet_selective"])
def test_a_training_step_has_the_losses_and_gradients_of_the_cpu(method):
    terms, gradients = {}, {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        objective = make_objective(method, NetworkConfig("densenet_tiny"), CLASSES, deep_supervision=True)
        objective = objective.double().eval().to(device)  # float64: a gate or a cut near its edge falls alike on both
        images = batch(device)
        images["image"] = images["image"].double()
        objective.measure(images)
        objective.finish_estimation()
        terms[device] = objective.train()(images)
        terms[device]["loss"].backward()
        gradients[device] = torch.cat([p.grad.flatten().cpu() for p in objective.parameters()])

    for name in ("classification", "background", "foreground", "loss"):
        assert float(terms["cuda"][name]) == pytest.approx(float(terms["cpu"][name]), rel=1e-5), name
    assert distance(gradients["cuda"], gradients["cpu"]) < 1e-4  # the losses are float32 by design


@pytest.mark.parametrize("method", ISNETS)
def test_bf16_keeps_the_losses_within_its_rounding(method):
    losses = {}
    for precise in (True, False):
        torch.manual_seed(1)
        objective = make_objective(method, NetworkConfig("densenet_tiny"), CLASSES).to("cuda")
        objective.eval().measure(batch("cuda"))
        objective.finish_estimation()
        torch.manual_seed(2)  # of the drawn class
        with torch.autocast("cuda", torch.bfloat16, enabled=not precise):
            terms = objective.train()(batch("cuda"))
        terms["loss"].backward()
        assert all(torch.isfinite(p.grad).all() for p in objective.parameters())
        losses[precise] = {name: float(terms[name]) for name in ("classification", "heatmap")}

    assert losses[False] == pytest.approx(losses[True], rel=0.1)  # bf16 keeps 8 bits, through some 60 layers
