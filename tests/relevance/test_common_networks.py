"""Common networks of three libraries: logits bit for bit their own, in both modes, or a refusal in words."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from cxr_isnet.relevance import LRP, RelevanceError

from .common_networks import CHANNELS, NAMES, build

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
