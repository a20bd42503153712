"""Values against zennit, an independent library of LRP rules (optional; its gradients by the weights are no oracle)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

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
