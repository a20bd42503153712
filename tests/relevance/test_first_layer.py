"""The z^B rule of the first layer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import LRP, EpsilonPoints, EpsilonRules, RelevanceError, sum_of_logits

from .networks import ConvNet, randomise
from .oracle import Oracle


def first_layer_only(*, bias: bool, norm: bool, relu: bool = True, groups: int = 1, **settings: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 3, bias=bias, groups=groups, **settings)]
    layers += [nn.BatchNorm2d(4)] if norm else []
    layers += [nn.ReLU()] if relu else []
    return randomise(nn.Sequential(*layers, nn.Flatten()))


def expected_map(network: nn.Sequential, image: Tensor, low: float, high: float, epsilon: float) -> Tensor:
    """Sum of all outputs, explained."""
    oracle = Oracle(image.numpy())
    norm = network[1] if isinstance(network[1], nn.BatchNorm2d) else None
    y = oracle.relu(oracle.weighted(oracle.image, network[0], norm))
    found = oracle.epsilon(y, np.ones(y.bias_plus.size), 0.0, (low, high, epsilon))[0]
    return torch.tensor(found.reshape(image.shape))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.1, 2.6)])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("settings", [{}, {"padding": 1, "stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_equals_the_rule_written_as_matrices(
    settings: dict[str, int], bias: bool, norm: bool, bounds: tuple[float, float], images: Tensor
) -> None:
    network = first_layer_only(bias=bias, norm=norm, **settings)
    low, high = bounds
    x = low + (high - low) * images
    _, relevance = LRP(network, image_range=bounds, first_epsilon=0.03)(x, sum_of_logits)
    for found, image in zip(relevance.image.detach(), x, strict=True):
        assert_close(found[0], expected_map(network, image, low, high, 0.03), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.1, 2.6), ((-1.0, 0.0), (1.0, 2.0))])
def test_a_padding_of_its_own_is_the_convolutions(bounds: Any, images: Tensor) -> None:
    whole = first_layer_only(bias=True, norm=True, padding=1)
    padded = nn.Sequential(nn.ZeroPad2d(1), copy.deepcopy(whole))
    padded[1][0].padding = (0, 0)
    maps = [LRP(network, image_range=bounds)(images, sum_of_logits)[1].image for network in (whole, padded)]
    assert_close(maps[0], maps[1])


def test_bounds_of_each_channel_are_those_of_a_convolution_for_each(images: Tensor) -> None:
    """The map of grouped channels with their own bounds is that of each channel by itself."""
    network = first_layer_only(bias=False, norm=False, groups=2)
    x = torch.stack([images[:, 0], 3 * images[:, 1] - 1], 1)
    found = LRP(network, image_range=((0.0, -1.0), (1.0, 2.0)))(x, sum_of_logits)[1].image
    for channel, bounds in enumerate([(0.0, 1.0), (-1.0, 2.0)]):
        alone = nn.Conv2d(1, 2, 3, bias=False)
        alone.weight.data = network[0].weight.data[2 * channel : 2 * channel + 2]
        one = nn.Sequential(alone, nn.ReLU(), nn.Flatten())
        expected = LRP(one, image_range=bounds)(x[:, channel : channel + 1], sum_of_logits)[1].image
        assert_close(found[:, :, channel : channel + 1], expected)


def test_keeps_the_sign_and_loses_only_to_positive_biases(images: Tensor) -> None:
    """For x in [0, 1]: R_j >= 0 and sum_j R_j = sum_k R_k (1 - b+_k / z_k)."""
    network = first_layer_only(bias=True, norm=False, padding=1)
    _, relevance = LRP(network, first_epsilon=1e-13)(images, sum_of_logits)
    conv = network[0]
    y = network[1](conv(images))
    down, up = conv.bias.clamp(max=0), conv.bias.clamp(min=0)
    z = conv(images) - nn.functional.conv2d(torch.ones_like(images), conv.weight.clamp(max=0), down, padding=1)
    assert (relevance.image >= 0).all()
    assert_close(relevance.image.sum((1, 2, 3, 4)), (y * (1 - up[:, None, None] / z)).sum((1, 2, 3)), rtol=1e-8, atol=0)


def test_without_a_relu_behind_it_takes_the_relevance_of_the_batch_norm(images: Tensor) -> None:
    network = first_layer_only(bias=False, norm=True, relu=False)
    _, relevance = LRP(network)(images, sum_of_logits)
    assert relevance.image.shape == (3, 1, 2, 9, 8)
    assert relevance.image.isfinite().all()


@pytest.mark.parametrize("bias", [False, True])
def test_gradient_by_the_weights(bias: bool) -> None:
    network, image = first_layer_only(bias=bias, norm=True), torch.rand(1, 2, 4, 4)
    lrp = LRP(network)
    names = [name for name, _ in lrp.named_parameters()]

    def explain(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(lrp, parameters, (image, sum_of_logits))[1].image

    assert torch.autograd.gradcheck(explain, tuple(lrp.parameters()))


def test_a_network_that_does_not_start_with_a_convolution_is_refused_with_the_remedy() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 2, 3), nn.Flatten())
    with pytest.raises(RelevanceError, match=r"read by \['0'\].*image_range=None"):
        LRP(network)
    LRP(network, image_range=None)


def test_an_image_read_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.left(x) + self.right(x)).flatten(1)

    with pytest.raises(RelevanceError, match=r"\['left', 'right'\]"):
        LRP(Twice())


@pytest.mark.parametrize("points", list(EpsilonPoints))
def test_a_black_patch_at_epsilon_zero_gives_no_nan(points: EpsilonPoints, images: Tensor) -> None:
    network = first_layer_only(bias=False, norm=False, padding=1)
    images[:, :, :6] = 0.0
    lrp = LRP(network, EpsilonRules(0.0, points), first_epsilon=0.0)
    _, relevance = lrp(images, sum_of_logits)
    assert relevance.image.isfinite().all()
    assert relevance.image.any()
    relevance.image.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_an_empty_image_range_is_refused() -> None:
    with pytest.raises(RelevanceError, match=r"image_range is \(1\.0, 0\.0\)"):
        LRP(first_layer_only(bias=True, norm=True), EpsilonRules(), image_range=(1.0, 0.0))


def test_bounds_of_another_number_of_channels_are_refused(images: Tensor) -> None:
    with pytest.raises(RelevanceError, match="image_range has 3 values for images of 2 channels"):
        LRP(randomise(ConvNet()), image_range=([0.0, 0.0, 0.0], 1.0))
