"""Common networks of three libraries: logits bit for bit their own, in both modes, or a refusal in words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import LRP, EpsilonRules, RelevanceError
from tests import third_party

from .common_networks import CHANNELS, CLASSES, NAMES, build

REFUSED_IN_TRAINING = {"torchvision:googlenet": "auxiliary", "torchvision:inception_v3": "auxiliary"}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "explained-networks.md"


def in_use(network: nn.Module, size: int) -> None:
    """Batch norms with statistics, a last layer that is not zero, as after a training."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, CHANNELS, size, size))
    for weight in [p for p in network.parameters() if p.dim() > 1][-1:]:
        if not weight.any():
            nn.init.normal_(weight)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_networks_own_and_maps_are_finite(name: str, training: bool) -> None:
    torch.set_default_dtype(torch.float32)
    network, size = build(name)
    in_use(network, size)
    network.train(training)
    plain, images = copy.deepcopy(network), torch.rand(2, CHANNELS, size, size)
    if training and name in REFUSED_IN_TRAINING:
        with pytest.raises(RelevanceError, match=REFUSED_IN_TRAINING[name]):
            LRP(network, image_range=None)(images)
        return
    torch.manual_seed(1)
    expected = plain(images)
    torch.manual_seed(2)
    lrp = LRP(network, image_range=None)
    torch.manual_seed(1)
    logits, relevance = lrp(images)

    assert torch.equal(logits, expected if torch.is_tensor(expected) else expected[0])
    assert relevance.image.isfinite().all()
    assert relevance.image.any()


def test_the_page_names_them_all() -> None:
    named = re.findall(r"`((?:torchvision|timm|monai):\w+)`", PAGE.read_text())
    assert sorted(named) == sorted(NAMES)
    assert len(NAMES) == 68


FAMILIES: dict[str, dict[str, float]] = {
    "convnext_tiny": {},
    "densenet121": {},
    "efficientnet_b0": {"drop_path_rate": 0.2},
    "resnet50": {},
    "swin_tiny_patch4_window7_224": {"img_size": 64},
    "vgg16": {},
    "vit_base_patch16_224": {"img_size": 64},
}


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_derivative_of_the_maps_along_a_direction_of_all_weights(
    name: str, training: bool, constant_statistics: Callable[[], None]
) -> None:
    """Central differences in float64 of a random sum of the maps, statistics of batch norms constant in the relevance
    pass, dropped paths the same."""
    network = third_party.timm().create_model(name, num_classes=CLASSES, in_chans=CHANNELS, **FAMILIES[name])
    images = torch.rand(2, CHANNELS, 64, 64)
    network.train(training)
    lrp = LRP(network, EpsilonRules(0.05))
    weights = dict(lrp.named_parameters())
    direction = {name: torch.randn_like(w) * w.detach().std().nan_to_num() for name, w in weights.items()}
    at = torch.randn(2, CLASSES, CHANNELS, 64, 64)

    def explained(step: float) -> Tensor:
        torch.manual_seed(0)
        constant_statistics()
        state = {name: w + step * direction[name] for name, w in weights.items()}
        state |= {name: buffer.clone() for name, buffer in lrp.named_buffers()}
        return (torch.func.functional_call(lrp, state, (images,))[1].image * at).sum()

    torch.autograd.backward(explained(0.0))
    analytic = sum((w.grad * direction[name]).sum() for name, w in weights.items() if w.grad is not None)
    with torch.no_grad():
        numeric = [(explained(step) - explained(-step)) / (2 * step) for step in (1e-8, 1e-9)]
    nearest = min(numeric, key=lambda found: float((found - analytic).abs()))  # a step may change a max pool's winner
    assert_close(analytic, nearest, rtol=1e-4, atol=0.0)
