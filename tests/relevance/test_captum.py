"""Values against captum, an independent library of LRP rules (optional; its maps cannot be differentiated)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import EPSILON_TABLE, LRP, AlphaBetaRule, EpsilonRule, EpsilonRules, GammaRule

from .networks import without_biases

pytestmark = pytest.mark.oracle


@pytest.fixture
def captum() -> Any:
    """captum's attributions."""
    return pytest.importorskip("captum.attr")


def cnn() -> nn.Sequential:
    """Strided, grouped and dilated convolutions, both pools; each layer is a module used once, as captum needs it."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1, padding=1),
        nn.Conv2d(6, 4, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(24, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).eval()


def explain(captum: Any, network: nn.Module, images: Tensor, rule: Any, head: Any) -> Tensor:
    """(B, classes, C, H, W), by captum's rules `rule` in convolutions and `head` in linear layers; captum stabilises
    pools too, here with nothing."""
    from captum.attr._utils.lrp_rules import EpsilonRule as Theirs

    maps = []
    for k in range(3):
        for module in network:  # captum takes them away when it is done
            if isinstance(module, nn.Conv2d):
                module.rule = rule
            elif isinstance(module, nn.Linear):
                module.rule = head
            elif not isinstance(module, nn.ReLU):
                module.rule = Theirs(1e-30)
        maps.append(captum.LRP(network).attribute(images.clone(), target=k).detach())
    return torch.stack(maps, 1)


def ours(network: nn.Module, images: Tensor, rule: Any, head: Any) -> Tensor:
    """The same, by ours."""
    rules = EpsilonRules(0.0, table={**EPSILON_TABLE, "conv2d": rule, "linear": head})
    return LRP(network, rules, image_range=None)(images)[1].image.detach()


@pytest.mark.parametrize("epsilon", [1e-9, 0.05])
def test_epsilon(captum: Any, images: Tensor, epsilon: float) -> None:
    from captum.attr._utils.lrp_rules import EpsilonRule as Theirs

    network, rule = cnn(), EpsilonRule(epsilon)
    found = ours(network, images, rule, rule)
    assert_close(found, explain(captum, network, images, Theirs(epsilon), Theirs(epsilon)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["gamma", "z+"])
def test_rules_of_positive_inputs(captum: Any, images: Tensor, name: str) -> None:
    """In convolutions, whose inputs and outputs are positive here; without biases, which captum leaves as they are."""
    from captum.attr._utils import lrp_rules

    rule, theirs = {
        "gamma": (GammaRule(1e-9, 0.4), lrp_rules.GammaRule(0.4)),
        "z+": (AlphaBetaRule(1e-9), lrp_rules.Alpha1_Beta0_Rule()),
    }[name]
    network = without_biases(cnn())
    found = ours(network, images, rule, EpsilonRule(1e-9))
    expected = explain(captum, network, images, theirs, lrp_rules.EpsilonRule(1e-9))
    assert_close(found, expected, rtol=1e-6, atol=1e-10)
