"""Values against zennit, an independent library of LRP rules (optional; its gradients by the weights are no oracle)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import cxr_isnet.relevance
from cxr_isnet.relevance import LRP, AlphaBetaRules, AlphaBetaStart, EpsilonRules

from .networks import ConvNet, randomise

pytestmark = pytest.mark.oracle

TINY = 1e-30  # for the logits and pools, where our rules have no stabiliser


@pytest.fixture
def zennit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """zennit; it imports torchvision for the names of two classes only, which stand-ins serve: a torchvision that does
    not fit the torch here cannot be imported."""
    resnet = ModuleType("torchvision.models.resnet")
    resnet.Bottleneck, resnet.BasicBlock = type("Bottleneck", (), {}), type("BasicBlock", (), {})
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, resnet.__name__, resnet)
    return pytest.importorskip("zennit")


@pytest.fixture
def network() -> ConvNet:
    """Without a shift behind the first convolution, because zennit's z^B leaves biases out, and with a batch norm that
    becomes an exact identity when zennit merges it into the convolution, because eps is 0."""
    network = randomise(ConvNet())
    network[1].eps = 0.0
    nn.init.zeros_(network[1].bias)
    nn.init.zeros_(network[1].running_mean)
    return network


def explain(
    zennit: Any, network: nn.Module, images: Tensor, at_logits: Tensor, first: Any, inner: Any, last: Any
) -> Tensor:
    """(B, classes, C, H, W), from relevance `at_logits` (B, classes), one class at a time."""
    names = [(["0"], first), (["4"], inner), (["6"], zennit.rules.Norm(stabilizer=TINY)), (["8"], last)]
    canonizers = [zennit.canonizers.SequentialMergeBatchNorm()]
    composite = zennit.composites.NameMapComposite(name_map=names, canonizers=canonizers)
    maps = []
    with zennit.attribution.Gradient(network, composite) as attributor:
        for k in range(at_logits.shape[1]):
            seed = torch.zeros_like(at_logits)
            seed[:, k] = at_logits[:, k]
            maps.append(attributor(images.clone(), seed)[1])
    return torch.stack(maps, 1)


@pytest.mark.parametrize("z_b", [False, True])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-2, 0.3])
def test_epsilon_and_z_b(zennit: Any, network: ConvNet, images: Tensor, epsilon: float, z_b: bool) -> None:
    rules = zennit.rules
    first = rules.ZBox(0.0, 1.0, stabilizer=0.02) if z_b else rules.Epsilon(epsilon)
    expected = explain(
        zennit, network, images, network(images).detach(), first, rules.Epsilon(epsilon), rules.Epsilon(TINY)
    )
    lrp = LRP(network, EpsilonRules(epsilon), image_range=(0.0, 1.0) if z_b else None, first_epsilon=0.02)
    assert_close(lrp(images)[1].image.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("z_b", [False, True])
@pytest.mark.parametrize("shares", [(1.0, 0.0), (2.0, -1.0)])
def test_alpha_beta(zennit: Any, network: ConvNet, images: Tensor, shares: tuple[float, float], z_b: bool) -> None:
    """From the logits, whose relevance zennit, too, shares out by their positive and negative contributions."""
    (alpha, beta), epsilon = shares, 0.05

    def rule(stabilizer: float) -> Any:
        return zennit.rules.AlphaBeta(alpha, -beta, stabilizer)

    first = zennit.rules.ZBox(0.0, 1.0, stabilizer=0.02) if z_b else rule(epsilon)
    expected = explain(zennit, network, images, network(images).detach(), first, rule(epsilon), rule(TINY))
    lrp = LRP(
        network, AlphaBetaRules(alpha, beta, epsilon), image_range=(0.0, 1.0) if z_b else None, first_epsilon=0.02
    )
    assert_close(lrp(images)[1].image.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("z_b", [False, True])
def test_z_plus_of_all_contributions(zennit: Any, network: ConvNet, images: Tensor, z_b: bool) -> None:
    rules, epsilon = zennit.rules, 0.05
    first = rules.ZBox(0.0, 1.0, stabilizer=0.02) if z_b else rules.ZPlus(epsilon)
    head, features = network[8], nn.Sequential(*list(network)[:8])(images)
    positive = features @ head.weight.clamp(min=0).t() + head.bias.clamp(min=0)
    expected = explain(zennit, network, images, positive.detach(), first, rules.ZPlus(epsilon), rules.ZPlus(TINY))
    z_plus = AlphaBetaRules(epsilon=epsilon, start=AlphaBetaStart.CONTRIBUTIONS)
    lrp = LRP(network, z_plus, image_range=(0.0, 1.0) if z_b else None, first_epsilon=0.02)
    assert_close(lrp(images)[1].image.detach(), expected, rtol=1e-9, atol=1e-12)


# ---- presets


class Branches(nn.Module):
    """Sums with a projection and with the identity, two hidden layers, as modules that zennit knows."""

    def __init__(self, zennit: Any) -> None:
        super().__init__()
        self.stem, self.norm0, self.act0 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.down, self.norm_down = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.add, self.again, self.act2 = zennit.layer.Sum(), zennit.layer.Sum(), nn.ReLU()
        self.pool, self.hidden, self.act3 = nn.AvgPool2d(2), nn.Linear(64, 6), nn.ReLU()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act0(self.norm0(self.stem(x)))
        branch = self.norm1(self.conv1(x))
        x = self.act1(self.add(torch.stack([branch, self.norm_down(self.down(x))], -1)))
        x = self.act2(self.again(torch.stack([x, x], -1)))
        return self.head(self.act3(self.hidden(self.pool(x).flatten(1))))


def sequential_with(activation: type[nn.Module]) -> nn.Sequential:
    """Inputs of both signs for every layer but the first; a strided, a grouped and a dilated convolution."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        activation(),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        activation(),
        nn.Conv2d(4, 3, 3, padding=2, dilation=2),
        activation(),
        nn.Flatten(),
        nn.Linear(3 * 16, 5),
        activation(),
        nn.Linear(5, 3),
    )


PRESETS = ["EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonAlpha2Beta1Flat", "EpsilonGammaBox"]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", ["cnn", "tanh", "gelu", "branches"])
def test_presets(zennit: Any, kind: str, name: str) -> None:
    """With batch norms, biases and inputs of both signs; zennit's sums and average pools without a stabiliser."""
    makers = {
        "cnn": ConvNet,
        "tanh": lambda: sequential_with(nn.Tanh),
        "gelu": lambda: sequential_with(nn.GELU),
        "branches": lambda: Branches(zennit),
    }
    network, images = randomise(makers[kind]()), torch.rand(3, 2, 8, 8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # zennit sets it to 0 when it merges
    bounds = {"low": torch.zeros(1, 2, 8, 8), "high": torch.ones(1, 2, 8, 8)} if name == "EpsilonGammaBox" else {}
    exact, types = zennit.rules.Norm(stabilizer=TINY), zennit.types
    layer_map = [(types.AvgPool, exact), (zennit.layer.Sum, exact), (nn.GELU, zennit.rules.Pass())]
    merge = zennit.canonizers.SequentialMergeBatchNorm
    composite = getattr(zennit.composites, name)(
        epsilon=0.02, stabilizer=0.01, layer_map=layer_map, canonizers=[merge()], **bounds
    )
    relevance = LRP(network, getattr(cxr_isnet.relevance, name)(epsilon=0.02, stabilizer=0.01))(images)[1].image
    logits = network(images).detach()
    maps = []
    for k in range(3):
        seed = torch.zeros_like(logits)
        seed[:, k] = logits[:, k]
        with zennit.attribution.Gradient(network, composite) as attributor:
            maps.append(attributor(images.clone(), seed)[1])
    assert_close(relevance.detach(), torch.stack(maps, 1), rtol=1e-8, atol=1e-11)
